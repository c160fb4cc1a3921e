//! Lets our primary take writes again that a leader made refuse them, once that leader is gone and enough standbys are
//! back.
//!
//! A leader has writes refused while too few standbys stream, so that clients get an error instead of a wait; nothing is
//! protected by that, since no write is acknowledged without its standbys. So it takes no authority to end it, and only
//! while no leader is heard does anybody but the leader do so.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::observation::{Facts, Link, Role, Writes};
use tokio::time::timeout;

use super::host::Shared;
use crate::connection::{Connection, Purpose};
use crate::orders;

/// Between two looks, while no leader is heard.
const PACE: Duration = Duration::from_secs(1);

/// So long a leader is waited for, which knows more. Above the time that an election takes.
const UNHEARD_MIN: Duration = Duration::from_secs(3);

const LIMIT: Duration = Duration::from_secs(2);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut standing = shared.standing.clone();
    loop {
        let unheard = standing
            .borrow_and_update()
            .silence
            .as_ref()
            .map(|silence| shared.unheard(silence));
        match unheard {
            None => {
                if standing.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Some(unheard) if unheard >= UNHEARD_MIN && !shared.desk.is_busy() => {
                reopen_if_enough(&shared).await;
            }
            Some(_) => {}
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn reopen_if_enough(shared: &Shared) {
    let Some(facts) = shared.facts().await else {
        return;
    };
    if !refuses_though_enough_stream(&facts) {
        return;
    }
    let instance = &shared.settings.instance;
    match timeout(LIMIT, reopen(shared)).await {
        Ok(Ok(())) => {
            tracing::warn!(%instance, "enough standbys stream and no leader is heard: it takes writes again")
        }
        Ok(Err(error)) => tracing::warn!(%instance, error, "it still refuses writes"),
        Err(_) => tracing::warn!(%instance, "it still refuses writes: no answer in time"),
    }
}

/// A deposed primary that was fenced has a write quorum without members, and never passes.
fn refuses_though_enough_stream(facts: &Facts) -> bool {
    let (Role::Primary, Writes::Refused, Some(quorum)) =
        (&facts.role, facts.writes, &facts.write_quorum)
    else {
        return false;
    };
    let streaming = facts.replicas.iter().filter(|replica| {
        replica.link == Link::Streaming && quorum.members.contains(&replica.instance)
    });
    streaming.count() >= quorum.k as usize
}

/// As an acting session that ends no other one: a leader that is coming back closes it with its first order (rule S6).
async fn reopen(shared: &Shared) -> Result<(), String> {
    let (instance, service) = (&shared.settings.instance, &shared.settings.postgres);
    let session = Connection::open(instance, service, Purpose::Act, || {})
        .await
        .map_err(|error| error.to_string())?;
    for order in [
        orders::set("default_transaction_read_only", "off").as_str(),
        orders::RELOAD,
    ] {
        session
            .run(order)
            .await
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sentinel_core::id::{InstanceId, Token};
    use sentinel_core::observation::{ReplicaLink, WriteQuorum};
    use sentinel_core::position::Offset;

    use super::*;
    use crate::facts::samples;

    fn instance(port: u16) -> InstanceId {
        InstanceId::new("10.0.0.1", port)
    }

    /// A primary that refuses writes, with members 2 and 3, and these replicas.
    fn refusing(replicas: &[(u16, Link)]) -> Facts {
        let replica = |(port, link): &(u16, Link)| ReplicaLink {
            instance: instance(*port),
            link: *link,
            acknowledged: Offset(0),
            applied: None,
        };
        Facts {
            write_quorum: Some(WriteQuorum {
                version: Token::default(),
                k: 1,
                members: [instance(2), instance(3)].into(),
            }),
            replicas: replicas.iter().map(replica).collect(),
            writes: Writes::Refused,
            ..samples::of(Role::Primary)
        }
    }

    #[test]
    fn only_members_that_stream_let_it_take_writes_again() {
        let streaming = refusing(&[(3, Link::Streaming)]);
        assert!(refuses_though_enough_stream(&streaming));
        assert!(!refuses_though_enough_stream(&refusing(&[])));
        let stranger = refusing(&[(4, Link::Streaming)]);
        assert!(!refuses_though_enough_stream(&stranger));
        let broken = refusing(&[(3, Link::Broken)]);
        assert!(!refuses_though_enough_stream(&broken));
    }

    #[test]
    fn nobody_else_is_touched() {
        let streaming = || refusing(&[(3, Link::Streaming)]);
        let taking = Facts {
            writes: Writes::Taken,
            ..streaming()
        };
        assert!(!refuses_though_enough_stream(&taking));
        let nobody = |mut quorum: WriteQuorum| {
            quorum.members.clear();
            quorum
        };
        let fenced = Facts {
            write_quorum: streaming().write_quorum.map(nobody),
            ..streaming()
        };
        assert!(!refuses_though_enough_stream(&fenced));
        let by_hand = Facts {
            write_quorum: None,
            ..streaming()
        };
        assert!(!refuses_though_enough_stream(&by_hand));
    }
}
