//! Finds the line of a settings file to which an error belongs.
//!
//! Knows the spans that the TOML parser gives. Does not know what a key means. A line that may hold a
//! secret is never repeated beyond its `=`.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Where each key of a file stands. A path is spelled `service.0.down_after`.
#[derive(Debug)]
pub(super) struct Places {
    text: String,
    keys: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    path: String,
    key: Range<usize>,
    value: Range<usize>,
}

/// A line of the file, as an error shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: usize,
    /// Its text, without what could be a secret.
    pub text: String,
}

impl Places {
    /// The places of a file. One that is no TOML has lines, and no keys.
    pub(super) fn new(text: &str) -> Self {
        let mut keys = Vec::new();
        if let Ok(table) = DeTable::parse(text) {
            collect("", table.get_ref(), &mut keys);
        }
        Self {
            text: text.to_owned(),
            keys,
        }
    }

    /// Whether nothing was found, as in a text that is no TOML.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The line in which a key stands; when it is absent, that of the innermost table that is there.
    pub(super) fn line_of(&self, path: &str) -> Option<Line> {
        let mut path = path;
        loop {
            if let Some(place) = self.keys.iter().find(|place| place.path == path) {
                return Some(self.line_at(place.key.start));
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// The innermost key whose name or value covers a span.
    pub(super) fn path_at(&self, span: &Range<usize>) -> Option<&str> {
        let covers = |range: &Range<usize>| range.start <= span.start && span.end <= range.end;
        self.keys
            .iter()
            .filter(|place| covers(&place.key) || covers(&place.value))
            .min_by_key(|place| place.value.len())
            .map(|place| place.path.as_str())
    }

    /// The line at an offset in bytes.
    pub(super) fn line_at(&self, offset: usize) -> Line {
        let offset = offset.min(self.text.len());
        let before = &self.text.as_bytes()[..offset];
        let index = before.iter().filter(|byte| **byte == b'\n').count();
        Line {
            number: index + 1,
            text: without_secret(self.text.lines().nth(index).unwrap_or_default().trim()),
        }
    }
}

fn collect(prefix: &str, table: &DeTable<'_>, keys: &mut Vec<Place>) {
    for (key, value) in table {
        let path = match prefix {
            "" => key.get_ref().to_string(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        keys.push(Place {
            path: path.clone(),
            key: key.span(),
            value: value.span(),
        });
        collect_value(&path, value.get_ref(), keys);
    }
}

fn collect_value(path: &str, value: &DeValue<'_>, keys: &mut Vec<Place>) {
    if let Some(table) = value.as_table() {
        collect(path, table, keys);
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        let path = format!("{path}.{index}");
        keys.push(Place {
            path: path.clone(),
            key: element.span(),
            value: element.span(),
        });
        collect_value(&path, element.get_ref(), keys);
    }
}

/// Cuts a line off behind the first `=` whose key speaks of a secret. Also a mistyped key may hold one.
fn without_secret(line: &str) -> String {
    let mut from = 0;
    while let Some(at) = line[from..].find('=') {
        let equals = from + at;
        let key = line[from..equals].trim().trim_matches(['"', '\'']);
        let key = key.rsplit([',', '{', ' ']).next().unwrap_or_default();
        let speaks_of_it = ["pass", "pw", "secret", "auth"]
            .iter()
            .any(|word| key.to_ascii_lowercase().contains(word));
        if speaks_of_it && !key.ends_with("_file") && !key.ends_with("_env") {
            return format!("{} …", &line[..=equals]);
        }
        from = equals + 1;
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const FILE: &str = "[node]\nname = \"s1\"\n\n[[service]]\nname = \"a\"\n[[service]]\nname = \"b\"\npriorities = { \"h:1\" = 2 }\n";

    #[test]
    fn keys_are_found_by_path() {
        let places = Places::new(FILE);
        for (path, number) in [
            ("node", 1),
            ("node.name", 2),
            ("node.absent", 1),
            ("service.0.name", 5),
            ("service.1.name", 7),
            ("service.1.absent", 6),
            ("service.1.priorities.h:1", 8),
        ] {
            assert_eq!(places.line_of(path).unwrap().number, number, "{path}");
        }
        assert_eq!(places.line_of("absent"), None);
    }

    #[test]
    fn paths_are_found_by_span() {
        let places = Places::new(FILE);
        let at = FILE.find("\"b\"").unwrap();
        assert_eq!(places.path_at(&(at..at + 3)), Some("service.1.name"));
    }

    #[test]
    fn secrets_are_cut_off() {
        for (line, shown) in [
            ("password = \"hunter2\"", "password = …"),
            ("passwrd=\"hunter2\"", "passwrd= …"),
            ("\"password\" = \"hunter2\"", "\"password\" = …"),
            (
                "service = [{ name = \"a\", password = \"hunter2\" }]",
                "service = [{ name = \"a\", password = …",
            ),
            ("password_file = \"/run/pw\"", "password_file = \"/run/pw\""),
            ("down_after = \"2s\"", "down_after = \"2s\""),
        ] {
            assert_eq!(without_secret(line), shown);
        }
    }
}
