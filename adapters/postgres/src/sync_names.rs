//! The write quorum as `synchronous_standby_names`, so that k, the members and their version are one
//! setting and cannot come apart: `ANY k ("host:port", …, "sentinel:EPOCH.STEP")`.
//!
//! A standby's name is its own address. The last name is the version and belongs to nobody, so that a
//! quorum without members is a setting that nobody can fulfil, and never the empty one, which would
//! let the server acknowledge alone (rule S9). Pure; strict: a setting in any other form is not ours.

use std::collections::BTreeSet;

use sentinel_core::id::{Epoch, InstanceId, Token};
use sentinel_core::observation::WriteQuorum;

/// What the version's name begins with. An instance of that name would have to have a port with a dot.
const VERSION: &str = "sentinel:";

/// The longest name that a server keeps whole (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// Why a quorum cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unwritable {
    /// An address that no standby can have as its name.
    #[error(
        "{0} is longer than the {NAME_BYTES_MAX} bytes that a server keeps of a standby's name; \
         use a shorter host name or an IP address"
    )]
    NameTooLong(InstanceId),
    /// The server knows no `ANY 0`, and the empty setting is never written.
    #[error("a write quorum of no replica cannot be put in force; set min_replicas to 1 or more")]
    CountsNobody,
}

/// The name of an instance as a standby.
pub(crate) fn standby_name(instance: &InstanceId) -> Result<String, Unwritable> {
    let name = instance.to_string();
    if name.len() > NAME_BYTES_MAX {
        return Err(Unwritable::NameTooLong(instance.clone()));
    }
    Ok(name)
}

/// The setting that puts a quorum in force.
pub(crate) fn setting(quorum: &WriteQuorum) -> Result<String, Unwritable> {
    if quorum.k == 0 {
        return Err(Unwritable::CountsNobody);
    }
    let mut names = Vec::with_capacity(quorum.members.len() + 1);
    for member in &quorum.members {
        names.push(quoted(&standby_name(member)?));
    }
    names.push(quoted(&format!("{VERSION}{}", quorum.version)));
    Ok(format!("ANY {} ({})", quorum.k, names.join(", ")))
}

/// The setting that no standby can fulfil: whatever acknowledges by it acknowledges nothing.
pub(crate) fn nobody(version: Token) -> String {
    format!("ANY 1 ({})", quoted(&format!("{VERSION}{version}")))
}

/// The quorum that a setting stands for; `None` when it is not of the form that [`setting`] writes.
pub(crate) fn quorum(setting: &str) -> Option<WriteQuorum> {
    let rest = setting.strip_prefix("ANY ")?;
    let (k, rest) = rest.split_once(" (")?;
    let names = rest.strip_suffix(')')?;
    let mut names: Vec<&str> = names.split(", ").map(unquoted).collect::<Option<_>>()?;
    let version = version(names.pop()?)?;
    let mut members = BTreeSet::new();
    for name in names {
        let member: InstanceId = name.parse().ok()?;
        // A repeated or otherwise written address is somebody else's hand.
        if member.to_string() != name || !members.insert(member) {
            return None;
        }
    }
    let quorum = WriteQuorum {
        version,
        k: number(k)?.try_into().ok()?,
        members,
    };
    (quorum.k > 0).then_some(quorum)
}

fn version(name: &str) -> Option<Token> {
    let (epoch, step) = name.strip_prefix(VERSION)?.split_once('.')?;
    Some(Token {
        epoch: Epoch(number(epoch)?),
        step: number(step)?,
    })
}

/// A number as we write it: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Names that we write hold no quotation mark.
fn unquoted(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then_some(inner)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn quorum_of(k: u32, members: &[&str]) -> WriteQuorum {
        WriteQuorum {
            version: Token {
                epoch: Epoch(3),
                step: 17,
            },
            k,
            members: members.iter().map(|name| name.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn quorums_round_trip() {
        for (quorum, wanted) in [
            (quorum_of(1, &[]), r#"ANY 1 ("sentinel:3.17")"#),
            (
                quorum_of(2, &["db-1:5432", "10.0.0.2:5432", "[2001:db8::1]:5432"]),
                r#"ANY 2 ("10.0.0.2:5432", "[2001:db8::1]:5432", "db-1:5432", "sentinel:3.17")"#,
            ),
        ] {
            // Members come in the order of the set, which is that of the addresses.
            let text = setting(&quorum).unwrap();
            let mut sorted: Vec<&str> = text.split(", ").collect();
            sorted.sort_unstable();
            let mut wanted: Vec<&str> = wanted.split(", ").collect();
            wanted.sort_unstable();
            assert_eq!(sorted.len(), wanted.len());
            assert_eq!(super::quorum(&text), Some(quorum), "{text}");
        }
    }

    #[test]
    fn a_quorum_without_members_is_never_the_empty_setting() {
        let text = setting(&quorum_of(2, &[])).unwrap();
        assert_eq!(text, r#"ANY 2 ("sentinel:3.17")"#);
        assert_eq!(setting(&quorum_of(0, &[])), Err(Unwritable::CountsNobody));
    }

    #[test]
    fn other_settings_are_not_ours() {
        for text in [
            "",
            "*",
            "s1",
            "FIRST 1 (s1, s2)",
            r#"ANY 1 ("10.0.0.2:5432")"#,
            r#"ANY 0 ("sentinel:3.17")"#,
            r#"ANY 01 ("sentinel:3.17")"#,
            r#"ANY 1 (sentinel:3.17)"#,
            r#"ANY 1 ("sentinel:3")"#,
            r#"ANY 1 ("sentinel:3.17", "10.0.0.2:5432")"#,
            r#"ANY 1 ("10.0.0.2:5432","sentinel:3.17")"#,
            r#"ANY 1 ("10.0.0.2:5432", "10.0.0.2:5432", "sentinel:3.17")"#,
            r#"ANY 1 ("10.0.0.2:05432", "sentinel:3.17")"#,
            r#"ANY 1 ("s1", "sentinel:3.17")"#,
            r#"any 1 ("sentinel:3.17")"#,
            r#"ANY 1 ("sentinel:3.17") "#,
            r#"ANY 1 ()"#,
        ] {
            assert_eq!(quorum(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_that_the_server_would_cut_is_refused() {
        let name_of = |letters: usize| standby_name(&InstanceId::new("h".repeat(letters), 5432));
        assert!(name_of(58).is_ok());
        let text = name_of(59).unwrap_err().to_string();
        assert!(text.contains("63 bytes"), "{text}");
    }
}
