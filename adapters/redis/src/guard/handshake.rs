//! Makes a connection on which writes can be counted: authenticates, and reads the terms once.
//!
//! Whom to count is read here and nowhere else (rule S8). A change of the write quorum cuts all normal
//! connections in the same transaction, so that whoever reconnects reads the new one.

use redis::Value;
use sentinel_core::id::InstanceId;

use crate::Credentials;
use crate::record;

use super::count::{Check, Terms};
use super::error::{QuorumFault, Trouble};
use super::reading::{self, Garbled, RoleReading};
use super::wire::{Broken, Wire};
use crate::connection::reply_text;

/// What is asked at connect and behind every round of writes, in this order: the offsets come before the
/// identity that they belong to (see [`Check::on`]).
pub(super) const CHECK: [&[&str]; CHECK_REPLIES] = [
    &["ROLE"],
    &["INFO", "replication"],
    &["INFO", "server"],
    &["ACL", "GETUSER", record::USER],
];

/// How many replies [`CHECK`] has.
pub(super) const CHECK_REPLIES: usize = 4;

/// Why no write can go over a connection to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Another server or another attempt may do.
    Trouble(Trouble),
    /// It is a primary that cannot acknowledge anything.
    NoWriteQuorum(QuorumFault),
}

/// Connects and reads the terms. The caller bounds the time.
pub(super) async fn shake_hands(
    instance: &InstanceId,
    credentials: Option<&Credentials>,
) -> Result<(Wire, Terms), Unfit> {
    let broken = |broken| Unfit::Trouble(describe(instance, broken));
    let opened = Wire::open(instance).await;
    let mut connection = opened.map_err(|error| broken(Broken::Lost(error.to_string())))?;
    let refused = |detail| {
        Unfit::Trouble(Trouble::Refused {
            instance: instance.clone(),
            detail,
        })
    };
    let authenticated = connection.authenticate(credentials).await;
    authenticated.map_err(broken)?.map_err(refused)?;
    let replies = connection.ask(&CHECK).await.map_err(broken)?;
    if let Some(Value::ServerError(error)) = replies.iter().find(|reply| is_refusal(reply)) {
        return Err(refused(reply_text(error)));
    }
    Ok((connection, terms(instance, &replies)?))
}

/// Reads the replies to [`CHECK`].
///
/// # Errors
/// The first reply that cannot be understood; an unreadable record is not one, because it is a finding.
pub(super) fn check(replies: &[Value]) -> Result<Check, Garbled> {
    let [role, replication, server, record] = replies else {
        return Err(Garbled(format!("{} replies to a check", replies.len())));
    };
    Ok(Check {
        role: reading::role(role)?,
        identity: reading::identity(server, replication)?,
        quorum: record::recorded(record).map_err(|damage| damage.to_string()),
    })
}

fn terms(instance: &InstanceId, replies: &[Value]) -> Result<Terms, Unfit> {
    let garbled = |Garbled(detail)| {
        Unfit::Trouble(Trouble::Garbled {
            instance: instance.clone(),
            detail,
        })
    };
    let check = check(replies).map_err(garbled)?;
    match check.role {
        RoleReading::Primary { .. } => {}
        RoleReading::Other => return Err(Unfit::Trouble(Trouble::NotPrimary(instance.clone()))),
    }
    let fault = |fault| Err(Unfit::NoWriteQuorum(fault));
    let quorum = match check.quorum {
        Ok(Some(quorum)) => quorum,
        Ok(None) => return fault(QuorumFault::Missing),
        Err(detail) => return fault(QuorumFault::Unreadable(detail)),
    };
    let named = u32::try_from(quorum.members.len()).unwrap_or(u32::MAX);
    if named < quorum.k {
        return fault(QuorumFault::TooFewMembers {
            needed: quorum.k,
            named,
        });
    }
    Ok(Terms {
        identity: check.identity,
        quorum,
    })
}

fn is_refusal(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if matches!(error.code(), "NOPERM" | "NOAUTH" | "WRONGPASS"))
}

fn describe(instance: &InstanceId, broken: Broken) -> Trouble {
    let instance = instance.clone();
    match broken {
        Broken::Lost(detail) => Trouble::Unreachable { instance, detail },
        Broken::Garbled(detail) => Trouble::Garbled { instance, detail },
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn reply(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    fn replies(role: &str, keys: &str) -> Vec<Value> {
        let keys = format!("*2\r\n$4\r\nkeys\r\n${}\r\n{keys}\r\n", keys.len());
        let role = format!("*3\r\n${}\r\n{role}\r\n:5\r\n*0\r\n", role.len());
        vec![
            reply(&role),
            reply("+master_replid:b\r\n"),
            reply("+run_id:a\r\n"),
            reply(&keys),
        ]
    }

    fn instance() -> InstanceId {
        InstanceId::new("10.0.0.1", 6379)
    }

    #[test]
    fn a_primary_with_a_record_is_fit() {
        let terms = terms(
            &instance(),
            &replies("master", "~v:2.9 ~k:1 ~m:10.0.0.2:6379"),
        )
        .unwrap();
        assert_eq!((terms.quorum.k, terms.quorum.version.step), (1, 9));
        assert_eq!(
            (
                terms.identity.run_id.as_str(),
                terms.identity.replication_id.as_str()
            ),
            ("a", "b")
        );
    }

    #[test]
    fn others_are_not() {
        let not_primary = terms(
            &instance(),
            &replies("slave", "~v:2.9 ~k:1 ~m:10.0.0.2:6379"),
        );
        assert_eq!(
            not_primary,
            Err(Unfit::Trouble(Trouble::NotPrimary(instance())))
        );
        let too_few = terms(&instance(), &replies("master", "~v:2.9 ~k:1"));
        let fault = QuorumFault::TooFewMembers {
            needed: 1,
            named: 0,
        };
        assert_eq!(too_few, Err(Unfit::NoWriteQuorum(fault)));
        let mut missing = replies("master", "");
        missing[3] = Value::Nil;
        assert_eq!(
            terms(&instance(), &missing),
            Err(Unfit::NoWriteQuorum(QuorumFault::Missing))
        );
    }
}
