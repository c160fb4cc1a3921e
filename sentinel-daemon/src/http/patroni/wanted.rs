//! What a request asks beyond its path: `?lag=`, `?replication_state=`, `?mode=`, `?tag_…=` and `?instance=`.
//!
//! Pure. Does not know any instance. Other parameters are ignored, as Patroni does.

use sentinel_core::id::{AddressError, InstanceId};

use super::local::Reach;

/// A request's parameters; of two with one name the first counts, of two modes the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Bytes that a replica may be behind.
    pub(super) lag_bytes_max: Option<u64>,
    /// What is measured for `/readiness`; everywhere else it is what was replayed.
    pub(super) reach: Reach,
    /// The state in which its replication has to be.
    pub(super) replication_state: Option<String>,
    /// A tag that it has to have.
    pub(super) tag: Option<String>,
    /// Of which instance the request speaks.
    pub(super) instance: Option<InstanceId>,
}

/// Why a query cannot be answered. It is the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadQuery {
    /// Patroni takes such a value for no limit at all, which would let any replica pass.
    #[error("`lag={0}` is no size")]
    Lag(String),
    /// Neither of the two modes.
    #[error("`mode={0}` is neither apply nor write")]
    Mode(String),
    /// No address.
    #[error("`instance` is no address: {0}")]
    Instance(#[from] AddressError),
}

impl BadQuery {
    /// What to do.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Lag(_) => "write bytes, or a number with kB, MB, GB or TB, for example lag=16MB",
            Self::Mode(_) => "leave it out, or write mode=apply or mode=write",
            Self::Instance(_) => "write instance=HOST:PORT as the settings of the agent name it",
        }
    }
}

impl Wanted {
    /// Reads a query as it stands behind the question mark.
    pub(super) fn parse(query: &str) -> Result<Self, BadQuery> {
        let mut wanted = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "lag" if wanted.lag_bytes_max.is_none() => {
                    let bytes = bytes(&value).ok_or_else(|| BadQuery::Lag(shown(&value)))?;
                    wanted.lag_bytes_max = Some(bytes);
                }
                "replication_state" if wanted.replication_state.is_none() => {
                    wanted.replication_state = Some(value.into_owned());
                }
                "mode" => {
                    wanted.reach = match value.as_ref() {
                        "apply" => Reach::Replayed,
                        "write" => Reach::Received,
                        _unknown => return Err(BadQuery::Mode(shown(&value))),
                    }
                }
                "instance" if wanted.instance.is_none() => wanted.instance = Some(value.parse()?),
                name if name.starts_with("tag_") && wanted.tag.is_none() => {
                    wanted.tag = Some(shown(name));
                }
                _ignored => {}
            }
        }
        Ok(wanted)
    }
}

/// A size in bytes; a unit counts 1024 of the one before.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        _unknown => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The beginning of what a client sent; an error need not repeat all of it.
fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn sizes() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("1048576", Some(1_048_576)),
            ("1024kB", Some(1_048_576)),
            ("10MB", Some(10 << 20)),
            ("1GB", Some(1 << 30)),
            ("2 tb", Some(2 << 40)),
            ("7B", Some(7)),
            ("", None),
            ("MB", None),
            ("-1", None),
            ("1.5GB", None),
            ("1XB", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(bytes(text), wanted, "{text}");
        }
    }

    #[test]
    fn queries() {
        let wanted = Wanted::parse(
            "lag=16kB&lag=x&replication_state=streaming&mode=write&other=1&tag_az=eu&instance=%5B%3A%3A1%5D%3A5432",
        )
        .unwrap();
        assert_eq!(wanted.lag_bytes_max, Some(16 << 10));
        assert_eq!(wanted.reach, Reach::Received);
        assert_eq!(wanted.replication_state.as_deref(), Some("streaming"));
        assert_eq!(wanted.tag.as_deref(), Some("tag_az"));
        assert_eq!(wanted.instance, Some(InstanceId::new("::1", 5432)));
        assert_eq!(Wanted::parse("").unwrap(), Wanted::default());
        for (query, error) in [
            ("lag=many", "`lag=many` is no size"),
            ("mode=read", "`mode=read` is neither apply nor write"),
        ] {
            assert_eq!(Wanted::parse(query).unwrap_err().to_string(), error);
        }
    }
}
