//! Judges whether the named replicas hold what was written, from what the primary said behind it.
//!
//! Pure: what was read at connect, what was read behind the writes, and the offset that the primary had
//! reached right after them. `WAIT`'s own number appears nowhere: it counts whoever is connected (rule S7).

use std::collections::BTreeMap;

use sentinel_core::id::InstanceId;
use sentinel_core::observation::WriteQuorum;
use sentinel_core::position::Offset;

use super::error::UnknownCause;
use super::reading::{Identity, RoleReading};

/// What was read when the connection was made, and must still hold behind each write (rule S17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) identity: Identity,
    pub(super) quorum: WriteQuorum,
}

/// What was read in one go behind the writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) role: RoleReading,
    pub(super) identity: Identity,
    /// The record; the error says why it cannot be read.
    pub(super) quorum: Result<Option<WriteQuorum>, String>,
}

/// Offsets that replicas acknowledged, on the terms of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing(BTreeMap<InstanceId, Offset>);

impl Check {
    /// Confirms that the check was read on the terms on which the writes were sent.
    ///
    /// The replication ID is read after the offsets, and a server that is demoted and promoted again draws
    /// a new one, so that an equal one shows that every offset before it belongs to one history.
    ///
    /// # Errors
    /// What differs; the offsets then prove nothing.
    pub(super) fn on(self, terms: &Terms) -> Result<Standing, UnknownCause> {
        let acknowledged = match self.role {
            RoleReading::Primary { acknowledged, .. } => acknowledged,
            RoleReading::Other => return Err(UnknownCause::Demoted),
        };
        if self.identity.run_id != terms.identity.run_id {
            return Err(UnknownCause::RunIdChanged);
        }
        if self.identity.replication_id != terms.identity.replication_id {
            return Err(UnknownCause::ReplicationIdChanged);
        }
        match self.quorum {
            Ok(Some(quorum)) if quorum == terms.quorum => Ok(Standing(acknowledged)),
            Ok(_) | Err(_) => Err(UnknownCause::QuorumChanged),
        }
    }
}

impl Standing {
    /// How many members of the write quorum hold everything up to this offset.
    pub(super) fn holders(&self, quorum: &WriteQuorum, offset: Offset) -> u32 {
        count(&self.0, |replica| quorum.members.contains(replica), offset)
    }

    /// For how many replicas `WAIT` should wait, so that it does not return before a further member can
    /// have acknowledged: those that already have, whoever they are, and the members that are missing.
    pub(super) fn wait_count(&self, quorum: &WriteQuorum, offset: Offset) -> u32 {
        let missing = quorum.k.saturating_sub(self.holders(quorum, offset));
        missing.saturating_add(count(&self.0, |_| true, offset))
    }
}

fn count(
    acknowledged: &BTreeMap<InstanceId, Offset>,
    counts: impl Fn(&InstanceId) -> bool,
    offset: Offset,
) -> u32 {
    let holders = acknowledged
        .iter()
        .filter(|(replica, held)| **held >= offset && counts(replica));
    u32::try_from(holders.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_core::id::{Epoch, Token};

    const K: u32 = 1;

    fn instance(port: u16) -> InstanceId {
        InstanceId::new("127.0.0.1", port)
    }

    fn quorum(step: u64, k: u32, members: &[u16]) -> WriteQuorum {
        WriteQuorum {
            version: Token {
                epoch: Epoch(3),
                step,
            },
            k,
            members: members.iter().map(|port| instance(*port)).collect(),
        }
    }

    fn found(quorum: WriteQuorum) -> Result<Option<WriteQuorum>, String> {
        Ok(Some(quorum))
    }

    fn identity(run_id: &str, replication_id: &str) -> Identity {
        Identity {
            run_id: run_id.into(),
            replication_id: replication_id.into(),
        }
    }

    fn primary(acknowledged: &[(u16, u64)]) -> RoleReading {
        RoleReading::Primary {
            offset: Offset(200),
            acknowledged: acknowledged
                .iter()
                .map(|(port, offset)| (instance(*port), Offset(*offset)))
                .collect(),
        }
    }

    fn terms() -> Terms {
        Terms {
            identity: identity("run", "history"),
            quorum: quorum(7, K, &[1, 2]),
        }
    }

    fn check(role: RoleReading) -> Check {
        Check {
            role,
            identity: terms().identity,
            quorum: found(terms().quorum),
        }
    }

    /// All writes end at offset 100; members are 1 and 2, one must hold them.
    #[test]
    fn who_holds_the_writes() {
        for (acknowledged, holders, wait_count, why) in [
            (&[(1, 100)][..], 1, 1, "a member at the offset"),
            (&[(1, 101)][..], 1, 1, "a member beyond it"),
            (&[(1, 99)][..], 0, 1, "a member just below it"),
            (&[(1, 100), (2, 100)][..], 2, 2, "both members"),
            (&[(9, 150)][..], 0, 2, "only a stranger"),
            (
                &[(9, 150), (1, 99)][..],
                0,
                2,
                "a stranger above and a member below",
            ),
            (
                &[(8, 150), (9, 99)][..],
                0,
                2,
                "a stranger above and one below",
            ),
            (&[][..], 0, 1, "nobody connected"),
        ] {
            let terms = terms();
            let standing = check(primary(acknowledged)).on(&terms);
            let standing = standing.expect("the terms hold");
            assert_eq!(
                standing.holders(&terms.quorum, Offset(100)),
                holders,
                "{why}"
            );
            assert_eq!(
                standing.wait_count(&terms.quorum, Offset(100)),
                wait_count,
                "{why}"
            );
        }
    }

    /// Each check would acknowledge, were it not for the one difference.
    #[test]
    fn terms_that_do_not_hold() {
        let enough = || primary(&[(1, 100), (2, 100)]);
        let cases = [
            (check(RoleReading::Other), UnknownCause::Demoted),
            (
                Check {
                    identity: identity("other", "history"),
                    ..check(enough())
                },
                UnknownCause::RunIdChanged,
            ),
            (
                Check {
                    identity: identity("run", "other"),
                    ..check(enough())
                },
                UnknownCause::ReplicationIdChanged,
            ),
            (
                Check {
                    quorum: found(quorum(8, K, &[1, 2])),
                    ..check(enough())
                },
                UnknownCause::QuorumChanged,
            ),
            (
                Check {
                    quorum: found(quorum(7, K, &[1])),
                    ..check(enough())
                },
                UnknownCause::QuorumChanged,
            ),
            (
                Check {
                    quorum: found(quorum(7, 2, &[1, 2])),
                    ..check(enough())
                },
                UnknownCause::QuorumChanged,
            ),
            (
                Check {
                    quorum: Ok(None),
                    ..check(enough())
                },
                UnknownCause::QuorumChanged,
            ),
            (
                Check {
                    quorum: Err("bad".into()),
                    ..check(enough())
                },
                UnknownCause::QuorumChanged,
            ),
        ];
        for (check, wanted) in cases {
            assert_eq!(check.clone().on(&terms()), Err(wanted), "{check:?}");
        }
    }

    #[test]
    fn every_member_counts_that_k_needs() {
        let terms = Terms {
            quorum: quorum(7, 2, &[1, 2, 3]),
            ..terms()
        };
        let check = Check {
            quorum: found(terms.quorum.clone()),
            ..check(primary(&[(1, 100), (9, 100)]))
        };
        let standing = check.on(&terms).expect("the terms hold");
        assert_eq!(standing.holders(&terms.quorum, Offset(100)), 1);
        assert_eq!(standing.wait_count(&terms.quorum, Offset(100)), 3);
    }
}
