//! Typed values of the settings file: names, durations and addresses, each with an error that says what to write.
//!
//! Judges one value at a time, from its text alone. How values relate is `relations.rs`'s business.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_core::runtime::Secret;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

/// Longest name of a cluster, node or service, in characters.
pub(super) const NAME_LENGTH_MAX: usize = 64;

/// A duration with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DurationText(pub(super) Duration);

/// An address to bind: an IP address of this machine and a port, 0 for any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenText(pub(super) SocketAddr);

/// An address to reach: a host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InstanceText(pub(super) InstanceId);

/// A name that is safe in commands, file names and protocols.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameText(pub(super) String);

/// A table that may stand once, or as an array of tables.
#[derive(Debug)]
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

/// Who starts and stops a server on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RunBy {
    /// The agent itself.
    Command,
    /// The engine's own control program.
    #[serde(rename = "pg_ctl")]
    PgCtl,
    /// Debian's control program for several servers on one host.
    #[serde(rename = "pg_ctlcluster")]
    PgCtlCluster,
    /// A unit of systemd.
    Systemd,
}

/// What to say of a value, and how to read it.
struct Reader<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

macro_rules! read_from_text {
    ($type:ident, $expected:literal, $read:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Reader {
                    expected: $expected,
                    read: |text| $read(text).map($type),
                })
            }
        }
    };
}

read_from_text!(
    DurationText,
    "a duration in quotes with its unit, such as \"2s\" or \"100ms\"",
    read_duration
);
read_from_text!(
    ListenText,
    "an address in quotes, such as \"127.0.0.1:26379\"",
    read_listen
);
read_from_text!(
    InstanceText,
    "an address in quotes, such as \"10.0.0.21:6379\"",
    read_instance
);
read_from_text!(NameText, "a name in quotes", read_name);

fn read_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!(
            "`{text}` is no duration; write a number with its unit, for example 2s, 100ms or 1m30s"
        )
    })
}

fn read_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is no address to listen on; write an IP address of this machine and a port, for example 127.0.0.1:26379")
    })
}

fn read_instance(text: &str) -> Result<InstanceId, String> {
    text.parse()
        .map_err(|error: sentinel_core::id::AddressError| error.to_string())
}

/// Says why a text is no name of a cluster, node or service.
pub fn check_name(text: &str) -> Result<(), String> {
    read_name(text).map(drop)
}

fn read_name(text: &str) -> Result<String, String> {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_LENGTH_MAX || !text.chars().all(allowed) {
        return Err(format!(
            "`{text}` is no name; use 1 to {NAME_LENGTH_MAX} of the characters a-z 0-9 - _ ."
        ));
    }
    Ok(text.to_owned())
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// The parser's own accesses are passed on, so that an error inside keeps its line.
struct OneOrManyReader<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyReader<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, or an array of tables")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let one = T::deserialize(MapAccessDeserializer::new(map))?;
        Ok(OneOrMany(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyReader(PhantomData))
    }
}

/// Reads a literal password. Its errors never repeat the value, as serde's own would.
struct SecretReader;

impl Visitor<'_> for SecretReader {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(unquoted())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(unquoted())
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
        Err(unquoted())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(unquoted())
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
        Err(unquoted())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(unquoted())
    }
}

fn unquoted<E: de::Error>() -> E {
    E::custom("a password stands in quotes")
}

/// A password as it stands in a settings file.
#[derive(Clone, Debug)]
pub(super) struct SecretText(pub(super) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretReader).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(read_duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(
            read_duration("2").unwrap_err(),
            "`2` is no duration; write a number with its unit, for example 2s, 100ms or 1m30s"
        );
    }

    #[test]
    fn listening_takes_port_zero_and_no_host_name() {
        assert_eq!(read_listen("127.0.0.1:0").unwrap().port(), 0);
        assert!(read_listen("localhost:26379").is_err());
        assert!(read_listen("127.0.0.1").is_err());
    }

    #[test]
    fn names_are_safe_everywhere() {
        for good in ["a", "orders-eu_1.main", &"x".repeat(NAME_LENGTH_MAX)] {
            assert_eq!(read_name(good).unwrap(), good);
        }
        for bad in [
            "",
            "Orders",
            "a b",
            "a/b",
            "ä",
            &"x".repeat(NAME_LENGTH_MAX + 1),
        ] {
            assert!(read_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_password_without_quotes_is_not_repeated() {
        #[derive(Debug, Deserialize)]
        struct Holder {
            #[expect(dead_code, reason = "only its errors are looked at")]
            password: SecretText,
        }
        for value in ["4711", "47.11", "true", "4711-01-01", "[4711]"] {
            let error = toml::from_str::<Holder>(&format!("password = {value}")).unwrap_err();
            assert!(!error.message().contains("47"), "{}", error.message());
        }
    }
}
