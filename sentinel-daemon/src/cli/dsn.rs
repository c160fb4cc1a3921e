//! The connection string of `sentinel primary SERVICE --dsn`: every instance, the primary first, for libpq and what is built on it.
//!
//! Pure. libpq tries the hosts in this order and stays at the first that takes writes, so the string outlives a
//! failover. Names no database and no user: those are the application's, and not known here.

use sentinel_core::id::InstanceId;

/// Seconds that one host may take: libpq has no limit of its own, and a host that is gone without a word would keep a
/// client from the next one. Less than 2 is not taken.
const CONNECT_TIMEOUT_S: u32 = 2;

/// Why there is no such string.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DsnError {
    /// A comma separates hosts there, and nothing lets one stand in a name.
    #[error("the host of {0} has a comma, which a connection string cannot hold")]
    Comma(InstanceId),
}

/// Writes the string. The order is the caller's.
pub(super) fn dsn(instances: &[&InstanceId]) -> Result<String, DsnError> {
    if let Some(comma) = instances.iter().find(|id| id.host().contains(',')) {
        return Err(DsnError::Comma((*comma).clone()));
    }
    let list = |part: fn(&InstanceId) -> String| {
        let parts: Vec<String> = instances.iter().map(|id| part(id)).collect();
        quoted(&parts.join(","))
    };
    let hosts = list(|id| id.host().to_owned());
    let ports = list(|id| id.port().to_string());
    Ok(format!(
        "host={hosts} port={ports} connect_timeout={CONNECT_TIMEOUT_S} target_session_attrs=read-write"
    ))
}

/// A value as libpq reads it: bare where it is plain, else in quotes, in which a quote and a backslash have a backslash before them.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".,:-_%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let escaped = value.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn strings() {
        for (instances, wanted) in [
            (
                &[
                    "10.0.0.21:5432",
                    "db-2.example.org:5433",
                    "[2001:db8::1]:5434",
                ][..],
                "host=10.0.0.21,db-2.example.org,2001:db8::1 port=5432,5433,5434 connect_timeout=2 target_session_attrs=read-write",
            ),
            (
                &[r"o'd\d:1"],
                r"host='o\'d\\d' port=1 connect_timeout=2 target_session_attrs=read-write",
            ),
        ] {
            let ids: Vec<InstanceId> = instances.iter().map(|id| id.parse().unwrap()).collect();
            assert_eq!(dsn(&ids.iter().collect::<Vec<_>>()).unwrap(), wanted);
        }
        let comma = InstanceId::new("a,b", 1);
        assert_eq!(
            dsn(&[&comma]).unwrap_err().to_string(),
            "the host of a,b:1 has a comma, which a connection string cannot hold"
        );
    }

    #[test]
    fn values() {
        for (value, wanted) in [("", "''"), ("a b", "'a b'"), ("a=b", "'a=b'"), ("ä", "'ä'")] {
            assert_eq!(quoted(value), wanted);
        }
    }
}
