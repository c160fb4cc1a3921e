//! Finds the line of a settings file to which an error belongs.
//!
//! Knows the spans that the TOML parser gives. Does not know what a key means. A line that may hold a
//! secret is never repeated beyond its `=`.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Where each key of a file stands. A path is spelled `service.0.down_after`.
pub(super) struct Places {
    text: String,
    keys: Vec<Place>,
}

/// The text may hold a password.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

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
    ///
    /// What may stand once or in an array is asked for as `agent.0.unit`, and found as `agent.unit` too.
    pub(super) fn line_of(&self, path: &str) -> Option<Line> {
        let mut path = path;
        loop {
            let once = path.replacen(".0.", ".", 1);
            let found = |wanted: &str| self.keys.iter().find(|place| place.path == wanted);
            if let Some(place) = found(path).or_else(|| found(&once)) {
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
        let line = self.text.lines().nth(index).unwrap_or_default().trim();
        let text = if self.is_empty() && !is_statement(line) {
            HIDDEN.to_owned()
        } else {
            without_secret(line)
        };
        Line {
            number: index + 1,
            text,
        }
    }
}

/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// Whether a line of a text that is no TOML is a table's header or `key = value`. Any other line may be inside a
/// string of several lines, and that string a password.
fn is_statement(line: &str) -> bool {
    let is_key = |key: &str| {
        let bare = |c: char| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c);
        !key.trim().is_empty() && key.chars().all(bare)
    };
    line.starts_with('[')
        || line
            .split_once('=')
            .is_some_and(|(key, value)| is_key(key) && !value.trim_matches('=').is_empty())
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
        let speaks_of_it = ["pass", "pw", "secret", "auth", "key", "token"]
            .iter()
            .any(|word| key.to_ascii_lowercase().contains(word));
        if speaks_of_it && !key.ends_with("_file") && !key.ends_with("_env") {
            return format!("{} {HIDDEN}", &line[..=equals]);
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
            ("node.0.name", 2),
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
            ("cluster_key = \"hunter2\"", "cluster_key = …"),
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

    #[test]
    fn a_line_inside_a_string_is_not_shown_when_the_text_is_no_toml() {
        let file = "password = \"\"\"\nhunter2\naGVsbG8=\nname = \"a\"\n[node]";
        let places = Places::new(file);
        let shown = |part: &str| places.line_at(file.find(part).unwrap()).text;
        assert_eq!(shown("hunter2"), "…");
        assert_eq!(shown("aGVsbG8"), "…");
        assert_eq!(shown("name"), "name = \"a\"");
        assert_eq!(shown("[node]"), "[node]");
        assert!(!format!("{places:?}").contains("hunter2"));
    }
}
