//! Where a server keeps the write quorum that is in force on it (rules S8 and S9).
//!
//! `k` is the server's own `min-replicas-to-write`, which makes the server itself refuse writes. The
//! members, the version and `k` again stand in a disabled ACL user without a password and without a
//! single command, as key patterns: `~v:3.17 ~k:1 ~m:10.0.0.21:6379`. The reasons for this place are
//! in `docs/adr/0005-write-quorum-record.md`. Does not know who wrote it or whether it is committed.

use std::collections::BTreeSet;

use redis::{Cmd, Value};
use sentinel_core::id::{Epoch, InstanceId, Token};
use sentinel_core::observation::WriteQuorum;

use crate::reply;

/// The ACL user that holds the record.
pub const USER: &str = "sentinel-write-quorum";

/// Why a record cannot be read. Somebody else than the coordinator wrote the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the ACL user {USER} holds no write quorum but `{0}`; remove it with ACL DELUSER {USER}, the coordinator sets it again"
)]
pub struct DamagedRecord(String);

/// The two commands whose replies [`in_force`] reads, in this order.
pub(crate) fn questions() -> Vec<Cmd> {
    let mut user = redis::cmd("ACL");
    user.arg("GETUSER").arg(USER);
    let mut k = redis::cmd("CONFIG");
    k.arg("GET").arg("min-replicas-to-write");
    vec![user, k]
}

/// The write quorum that is in force: `None` when none was ever set.
///
/// When the server's `min-replicas-to-write` differs from the record, somebody changed it by hand:
/// the result has the server's value, so that whoever compares it with what is committed sees it.
pub(crate) fn in_force(
    user: &Value,
    k_setting: &Value,
) -> Result<Option<WriteQuorum>, DamagedRecord> {
    let Some(mut quorum) = recorded(user)? else {
        return Ok(None);
    };
    if let Some(k) = reply::setting(k_setting, "min-replicas-to-write").and_then(|k| k.parse().ok())
    {
        quorum.k = k;
    }
    Ok(Some(quorum))
}

/// The commands that put a quorum in force, for a transaction.
pub(crate) fn orders(quorum: &WriteQuorum) -> Vec<Cmd> {
    let mut k = redis::cmd("CONFIG");
    k.arg("SET").arg("min-replicas-to-write").arg(quorum.k);
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg(USER).arg("reset").arg("off");
    for pattern in encode(quorum) {
        user.arg(format!("~{pattern}"));
    }
    vec![k, user]
}

fn encode(quorum: &WriteQuorum) -> Vec<String> {
    let mut patterns = vec![format!("v:{}", quorum.version), format!("k:{}", quorum.k)];
    patterns.extend(quorum.members.iter().map(|member| format!("m:{member}")));
    patterns
}

/// The record alone, as the coordinator committed it.
pub(crate) fn recorded(user: &Value) -> Result<Option<WriteQuorum>, DamagedRecord> {
    let Some(keys) = reply::field(user, "keys") else {
        return Ok(None);
    };
    let patterns = patterns(keys);
    decode(&patterns)
        .map(Some)
        .ok_or_else(|| DamagedRecord(patterns.join(" ")))
}

/// Redis 7 and later give one text, `~a ~b`; 6.2 gives a list, `a` and `b`.
fn patterns(keys: &Value) -> Vec<String> {
    let texts: Vec<&str> = match reply::items(keys) {
        Some(items) => items.iter().filter_map(reply::text).collect(),
        None => reply::text(keys).unwrap_or_default().split(' ').collect(),
    };
    texts
        .into_iter()
        .map(|text| text.strip_prefix('~').unwrap_or(text).to_owned())
        .filter(|text| !text.is_empty())
        .collect()
}

fn decode(patterns: &[String]) -> Option<WriteQuorum> {
    let mut version = None;
    let mut k = None;
    let mut members = BTreeSet::new();
    for pattern in patterns {
        match pattern.split_once(':')? {
            ("v", text) if version.is_none() => version = Some(token(text)?),
            ("k", text) if k.is_none() => k = Some(text.parse().ok()?),
            ("m", text) => {
                members.insert(text.parse::<InstanceId>().ok()?);
            }
            (_, _) => return None,
        }
    }
    Some(WriteQuorum {
        version: version?,
        k: k?,
        members,
    })
}

fn token(text: &str) -> Option<Token> {
    let (epoch, step) = text.split_once('.')?;
    Some(Token {
        epoch: Epoch(epoch.parse().ok()?),
        step: step.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn quorum(k: u32, members: &[&str]) -> WriteQuorum {
        WriteQuorum {
            version: Token {
                epoch: Epoch(3),
                step: 17,
            },
            k,
            members: members.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn user(keys: Value) -> Value {
        Value::Array(vec![
            bulk("flags"),
            Value::Array(vec![bulk("off")]),
            bulk("keys"),
            keys,
        ])
    }

    fn k_setting(k: &str) -> Value {
        Value::Array(vec![bulk("min-replicas-to-write"), bulk(k)])
    }

    #[test]
    fn records_round_trip() {
        for quorum in [
            quorum(1, &["127.0.0.1:6380", "[2001:db8::1]:6379"]),
            quorum(2, &["db-1.example.org:6379"]),
            quorum(1, &[]),
            quorum(0, &[]),
        ] {
            let text: Vec<String> = encode(&quorum).iter().map(|p| format!("~{p}")).collect();
            let of_seven = user(bulk(&text.join(" ")));
            let of_six = user(Value::Array(
                encode(&quorum).iter().map(|p| bulk(p)).collect(),
            ));
            for user in [of_seven, of_six] {
                let found = in_force(&user, &k_setting(&quorum.k.to_string()));
                assert_eq!(found, Ok(Some(quorum.clone())));
            }
        }
    }

    #[test]
    fn the_servers_own_k_wins() {
        let user = user(bulk("~v:3.17 ~k:2 ~m:a:1"));
        let found = in_force(&user, &k_setting("0")).unwrap().unwrap();
        assert_eq!(found.k, 0);
    }

    #[test]
    fn no_user_is_no_quorum() {
        assert_eq!(in_force(&Value::Nil, &k_setting("1")), Ok(None));
    }

    #[test]
    fn damage_is_told_from_absence() {
        for keys in [
            "",
            "~*",
            "~v:3.17",
            "~k:1",
            "~v:3 ~k:1",
            "~v:3.17 ~k:1 ~k:2",
            "~v:1.1 ~k:1 ~m:x",
        ] {
            assert!(
                in_force(&user(bulk(keys)), &k_setting("1")).is_err(),
                "{keys}"
            );
        }
    }
}
