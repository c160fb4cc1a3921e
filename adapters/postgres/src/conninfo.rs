//! Connection strings as libpq reads them, and texts as SQL reads them: written with every character
//! quoted that means something there, and read far enough to know whom a standby follows.
//!
//! A string made here may hold a password, so it has no `Display`, and its `Debug` hides it.

use std::collections::BTreeMap;
use std::fmt;

use postgres_protocol::escape::escape_literal;
use sentinel_core::id::InstanceId;
use sentinel_core::runtime::Secret;

use crate::service::PostgresService;
use crate::sync_names::{Unwritable, standby_name};

/// What a standby's connection to its primary must not wait for: a host that is gone without a word
/// is given up after these times, in seconds and (the last) milliseconds.
const PATIENCE: [(&str, &str); 6] = [
    ("connect_timeout", "2"),
    ("keepalives", "1"),
    ("keepalives_idle", "2"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "5000"),
];

/// The words of a connection string that the adapter sets itself.
const OWN: [&str; 6] = ["host", "hostaddr", "port", "user", "password", "passfile"];

/// A connection string by which a standby reaches its primary.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Conninfo(Secret);

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conninfo(hidden)")
    }
}

impl Conninfo {
    /// The string by which this standby follows this primary.
    pub(crate) fn follow(
        standby: &InstanceId,
        primary: &InstanceId,
        service: &PostgresService,
    ) -> Result<Self, Unwritable> {
        let role = service.replication();
        let mut words: BTreeMap<&str, String> = BTreeMap::new();
        for (key, value) in &service.replication_options {
            words.insert(key, value.clone());
        }
        for key in OWN {
            words.remove(key);
        }
        for (key, value) in PATIENCE {
            words.entry(key).or_insert_with(|| value.to_owned());
        }
        words.insert("host", primary.host().to_owned());
        words.insert("port", primary.port().to_string());
        words.insert("user", role.username.clone());
        words.insert("application_name", standby_name(standby)?);
        match (&service.passfile, &role.password) {
            (Some(file), _) => drop(words.insert("passfile", file.clone())),
            (None, Some(password)) => drop(words.insert("password", password.reveal().to_owned())),
            (None, None) => {}
        }
        let words: Vec<String> = words
            .iter()
            .map(|(key, value)| format!("{key}={}", quoted(value)))
            .collect();
        Ok(Self(Secret::new(words.join(" "))))
    }

    /// The string itself.
    pub(crate) fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// A value in single quotes, as libpq reads it.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for letter in value.chars() {
        if letter == '\'' || letter == '\\' {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('\'');
    text
}

/// A text as an SQL literal, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    escape_literal(text)
}

/// Whom a connection string leads to, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The first host and its port.
    pub(crate) instance: Option<InstanceId>,
    /// The name under which the standby appears there.
    pub(crate) application_name: Option<String>,
}

/// The port when a string names none.
const PORT: u16 = 5432;

/// Reads a connection string that somebody may have written by hand.
pub(crate) fn read(conninfo: &str) -> Target {
    let uri = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| conninfo.strip_prefix(scheme));
    match uri {
        Some(rest) => read_uri(rest),
        None => read_words(conninfo),
    }
}

fn read_words(conninfo: &str) -> Target {
    let words = words(conninfo);
    let host = words.get("host").or_else(|| words.get("hostaddr"));
    let port = words
        .get("port")
        .and_then(|ports| first(ports).parse().ok());
    Target {
        instance: host
            .map(|hosts| first(hosts))
            .filter(|host| !host.is_empty() && !host.starts_with('/'))
            .map(|host| InstanceId::new(host, port.unwrap_or(PORT))),
        application_name: words.get("application_name").cloned(),
    }
}

/// The first of several hosts or ports.
fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or(list)
}

/// The words of `key = value` pairs, values plain or in single quotes, with backslashes.
fn words(conninfo: &str) -> BTreeMap<String, String> {
    let mut words = BTreeMap::new();
    let mut letters = conninfo.chars().peekable();
    loop {
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(letter) = letters.next_if(|letter| *letter != '=') {
            key.push(letter);
        }
        if letters.next().is_none() {
            return words;
        }
        while letters.next_if(|letter| letter.is_whitespace()).is_some() {}
        let in_quotes = letters.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\\' => value.extend(letters.next()),
                '\'' if in_quotes => break,
                letter if letter.is_whitespace() && !in_quotes => break,
                letter => value.push(letter),
            }
        }
        words.insert(key.trim_end().to_owned(), value);
    }
}

/// `user@host:port/dbname?key=value`, without percent-decoding: a host needs none.
fn read_uri(rest: &str) -> Target {
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let hosts = authority.rsplit('@').next().unwrap_or(authority);
    let host = first(hosts);
    let instance = host.parse().ok().or_else(|| {
        let bare = format!("{host}:{PORT}");
        bare.parse().ok()
    });
    let query = tail.split_once('?').map_or("", |(_, query)| query);
    let name = query
        .split('&')
        .find_map(|word| word.strip_prefix("application_name="));
    Target {
        instance,
        application_name: name.map(|name| name.replace("%3A", ":").replace("%3a", ":")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::credentials::Credentials;

    fn service(password: &str) -> PostgresService {
        PostgresService {
            replication: Some(Credentials {
                username: "replicator".into(),
                password: Some(Secret::new(password)),
            }),
            ..PostgresService::default()
        }
    }

    fn at(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    #[test]
    fn a_string_is_read_back_as_it_was_written() {
        let odd = r"it's \ 'odd' = x";
        let (standby, primary) = (at("10.0.0.2:5433"), at("[2001:db8::1]:5432"));
        let conninfo = Conninfo::follow(&standby, &primary, &service(odd)).unwrap();
        let words = words(conninfo.reveal());
        assert_eq!(words["password"], odd);
        assert_eq!(words["user"], "replicator");
        assert_eq!(
            read(conninfo.reveal()),
            Target {
                instance: Some(primary),
                application_name: Some("10.0.0.2:5433".into()),
            }
        );
    }

    #[test]
    fn a_password_file_takes_the_place_of_the_password() {
        let service = PostgresService {
            passfile: Some("/var/lib/postgresql/.pgpass".into()),
            replication_options: [
                ("sslmode".into(), "verify-full".into()),
                ("host".into(), "elsewhere".into()),
                ("connect_timeout".into(), "9".into()),
            ]
            .into(),
            ..service("hunter2")
        };
        let conninfo = Conninfo::follow(&at("a:1"), &at("b:2"), &service).unwrap();
        let words = words(conninfo.reveal());
        assert!(!words.contains_key("password"));
        assert_eq!(words["passfile"], "/var/lib/postgresql/.pgpass");
        assert_eq!(words["sslmode"], "verify-full");
        assert_eq!(words["host"], "b");
        assert_eq!(words["connect_timeout"], "9");
    }

    #[test]
    fn debug_hides_it() {
        let conninfo = Conninfo::follow(&at("a:1"), &at("b:2"), &service("hunter2")).unwrap();
        assert_eq!(format!("{conninfo:?}"), "Conninfo(hidden)");
    }

    #[test]
    fn strings_written_by_hand() {
        for (text, instance, name) in [
            ("host=db-1 port=5433", Some("db-1:5433"), None),
            (
                "  host = 'db-1'  application_name = x ",
                Some("db-1:5432"),
                Some("x"),
            ),
            ("hostaddr=10.0.0.1", Some("10.0.0.1:5432"), None),
            ("host=a,b port=1,2", Some("a:1"), None),
            ("host=/var/run/postgresql", None, None),
            ("dbname=x", None, None),
            ("garbage", None, None),
            ("", None, None),
            (
                "postgresql://u:p@db-1:5433/x?application_name=a%3A1",
                Some("db-1:5433"),
                Some("a:1"),
            ),
            ("postgres://db-1", Some("db-1:5432"), None),
        ] {
            let wanted = Target {
                instance: instance.map(at),
                application_name: name.map(str::to_owned),
            };
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn literals_survive_backslashes_and_quotes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\b").trim_start(), r"E'a\\b'");
    }
}
