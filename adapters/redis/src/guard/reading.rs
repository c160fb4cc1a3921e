//! Reads replies of a server into what the guard compares: role, identity, offsets, and the record.
//!
//! Pure. A reply that is not as expected is `Garbled`; what follows from a reading is `count`'s business.

use std::collections::BTreeMap;

use redis::Value;
use sentinel_core::id::InstanceId;
use sentinel_core::position::Offset;

use crate::connection::reply_text;
use crate::reply::{info, items, text};

/// A reply that cannot be understood, with what it should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Garbled(pub(super) String);

/// What `ROLE` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoleReading {
    /// A primary.
    Primary {
        /// End of its history.
        offset: Offset,
        /// The replicas that stream from it, by announced address, and what each has acknowledged.
        acknowledged: BTreeMap<InstanceId, Offset>,
    },
    /// Anything else.
    Other,
}

/// Which life of a server, and which history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Drawn by the server at its start.
    pub(super) run_id: String,
    /// Drawn by the server when it begins a history of its own.
    pub(super) replication_id: String,
}

/// Reads the reply to `ROLE`.
pub(super) fn role(reply: &Value) -> Result<RoleReading, Garbled> {
    let garbled = || Garbled(format!("ROLE answered {}", kind(reply)));
    let parts = items(reply).ok_or_else(garbled)?;
    match parts.first().and_then(text) {
        Some("master") => {}
        Some(_) => return Ok(RoleReading::Other),
        None => return Err(garbled()),
    }
    let offset = parts.get(1).and_then(number).ok_or_else(garbled)?;
    let replicas = parts.get(2).and_then(items).ok_or_else(garbled)?;
    let mut acknowledged = BTreeMap::new();
    for replica in replicas {
        let replica = items(replica).ok_or_else(garbled)?;
        // Whoever announces no usable address cannot be a named member.
        let (Some(instance), Some(offset)) = (address(replica), replica.get(2).and_then(number))
        else {
            continue;
        };
        // A connection that the server has not yet found dead may stand beside its successor. They count
        // once, by the further one: what a member acknowledged it held, whichever connection said so.
        acknowledged
            .entry(instance)
            .and_modify(|known: &mut Offset| *known = (*known).max(offset))
            .or_insert(offset);
    }
    Ok(RoleReading::Primary {
        offset,
        acknowledged,
    })
}

/// Reads the replies to `INFO server` and `INFO replication`.
pub(super) fn identity(server: &Value, replication: &Value) -> Result<Identity, Garbled> {
    let field = |reply: &Value, name: &str| match info(reply).get(name) {
        Some(value) => Ok((*value).to_owned()),
        None => Err(Garbled(format!(
            "INFO answered {} without {name}",
            kind(reply)
        ))),
    };
    Ok(Identity {
        run_id: field(server, "run_id")?,
        replication_id: field(replication, "master_replid")?,
    })
}

/// The first two elements, a host and a port.
pub(super) fn address(parts: &[Value]) -> Option<InstanceId> {
    let host = parts.first().and_then(text)?;
    let port = parts.get(1).and_then(number)?.0;
    let port = u16::try_from(port).ok()?;
    (!host.is_empty() && port != 0).then(|| InstanceId::new(host, port))
}

fn number(reply: &Value) -> Option<Offset> {
    if let Value::Int(number) = reply {
        return u64::try_from(*number).ok().map(Offset);
    }
    text(reply)?.parse().ok().map(Offset)
}

/// What a reply is, for a message: errors in full, anything else by its kind, because it may be long.
fn kind(reply: &Value) -> String {
    if let Value::ServerError(error) = reply {
        return reply_text(error);
    }
    let kind = match (items(reply), text(reply)) {
        (Some(_), _) => "an unexpected list",
        (_, Some(_)) => "an unexpected text",
        (None, None) => "neither list nor text",
    };
    kind.to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn reply(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn role_of_a_primary() {
        let text = "*3\r\n$6\r\nmaster\r\n:70\r\n*3\r\n\
            *3\r\n$9\r\n127.0.0.1\r\n$4\r\n7001\r\n$2\r\n70\r\n\
            *3\r\n$9\r\n127.0.0.1\r\n$4\r\n7002\r\n$2\r\n56\r\n\
            *3\r\n$9\r\n127.0.0.1\r\n$4\r\n7001\r\n$2\r\n60\r\n";
        let acknowledged = BTreeMap::from([
            (InstanceId::new("127.0.0.1", 7001), Offset(70)),
            (InstanceId::new("127.0.0.1", 7002), Offset(56)),
        ]);
        let offset = Offset(70);
        assert_eq!(
            role(&reply(text)),
            Ok(RoleReading::Primary {
                offset,
                acknowledged
            })
        );
    }

    #[test]
    fn role_of_others() {
        let replica = "*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n:1\r\n$7\r\nconnect\r\n:-1\r\n";
        assert_eq!(role(&reply(replica)), Ok(RoleReading::Other));
        for garbled in [
            "+OK\r\n",
            "*0\r\n",
            "*1\r\n$6\r\nmaster\r\n",
            "-LOADING x\r\n",
            "$-1\r\n",
        ] {
            assert!(role(&reply(garbled)).is_err(), "{garbled}");
        }
    }

    #[test]
    fn identity_is_read_from_both_sections() {
        let info = |text: &str| Value::BulkString(text.into());
        let server = info("# Server\r\nrun_id:ab12\r\nx:1\r\n");
        let replication = info("# Replication\r\nmaster_replid:cd34\r\nmaster_replid2:00\r\n");
        let identity = identity(&server, &replication).unwrap();
        assert_eq!(
            (identity.run_id.as_str(), identity.replication_id.as_str()),
            ("ab12", "cd34")
        );
        assert!(super::identity(&replication, &server).is_err());
    }
}
