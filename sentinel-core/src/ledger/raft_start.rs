//! What a voter starts its Raft log from: the Raft numbers of the voters, and the log that its disk gave back.
//!
//! Refuses, with what to do, a log that no correct node could have written. Does not know where the bytes
//! were; the log file has found damage to them before.

use std::collections::BTreeMap;

use crate::id::NodeName;
use crate::peer::{LogEntry, Restored};

/// Why the Raft log cannot start. Nothing was changed on the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaftStartError {
    /// Observers have no Raft log.
    #[error("node `{0}` is no voter and keeps no raft log")]
    NotAVoter(NodeName),
    /// Two names give the same Raft number.
    #[error("voters `{first}` and `{second}` have the same raft number: rename one of them")]
    NumberCollision {
        /// One of them.
        first: NodeName,
        /// The other.
        second: NodeName,
    },
    /// The data folder is of a cluster with other voters.
    #[error(
        "the data folder was written with other voters ({missing:?} of [voters] are not in it, {foreign} of its own are not in [voters]): restore [voters] as it was"
    )]
    VotersDiffer {
        /// Voters of the settings that the snapshot does not have.
        missing: Vec<NodeName>,
        /// How many voters of the snapshot the settings do not have.
        foreign: usize,
    },
    /// An entry is missing, or is there twice.
    #[error(
        "the raft log has entry {found} where {wanted} belongs: replace this node's data folder"
    )]
    Hole {
        /// The index that should come next.
        wanted: u64,
        /// The index that does.
        found: u64,
    },
    /// An entry's term is impossible after those before it.
    #[error(
        "entry {index} of the raft log has term {term}, which cannot be: replace this node's data folder"
    )]
    Term {
        /// Index of the entry, or of the snapshot.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The log ends before what is known to be committed. This node may have acknowledged what it lost, so
    /// that going on could elect a leader without it.
    #[error(
        "entries up to {commit} are committed and the raft log ends at {last}: acknowledged entries were lost, replace this node's data folder"
    )]
    CommittedMissing {
        /// Newest index known to be committed.
        commit: u64,
        /// Newest index in the log.
        last: u64,
    },
    /// A kind of entry that this version does not know.
    #[error("entry {index} of the raft log is of kind {kind}: run the version that wrote it")]
    Kind {
        /// Index of the entry.
        index: u64,
        /// Its kind.
        kind: i32,
    },
    /// raft-rs refuses the settings.
    #[error("raft refused to start: {0}")]
    Refused(String),
}

/// Raft numbers of the voters, in order of their names.
pub(super) fn number_voters<'a>(
    names: impl Iterator<Item = &'a NodeName>,
) -> Result<BTreeMap<NodeName, u64>, RaftStartError> {
    let mut by_number = BTreeMap::new();
    for name in names {
        if let Some(first) = by_number.insert(raft_number(name.as_str()), name) {
            return Err(RaftStartError::NumberCollision {
                first: first.clone(),
                second: name.clone(),
            });
        }
    }
    Ok(by_number
        .into_iter()
        .map(|(number, name)| (name.clone(), number))
        .collect())
}

/// FNV-1a of the name, so that a number means the same voter on every node without being agreed upon. Never
/// 0, which raft-rs takes for nobody.
fn raft_number(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

/// Refuses a log that no sequence of persists could have left behind, also if the last one was torn anywhere.
///
/// A persist writes its snapshot, then its entries, then its hard state, so that a torn one loses the hard state first:
///
/// - A commit index behind the snapshot is raised to it: a snapshot holds nothing but committed entries.
/// - A term behind the last entry is raised to it, without a vote: a vote in that term would have been durable,
///   with its term, before it was sent.
/// - A commit index beyond the last entry is never lowered: its entries were written before it and acknowledged
///   since, so that a leader could be elected without them.
pub(super) fn checked(
    mut restored: Restored,
    voters: &BTreeMap<NodeName, u64>,
) -> Result<Restored, RaftStartError> {
    let mut last = (0, 0);
    if let Some(snapshot) = &restored.snapshot {
        check_voters(&snapshot.voters, voters)?;
        last = (snapshot.index, snapshot.term);
        if (snapshot.index == 0) != (snapshot.term == 0) {
            return Err(RaftStartError::Term {
                index: snapshot.index,
                term: snapshot.term,
            });
        }
    }
    let snapshot_index = last.0;
    for entry in &restored.entries {
        last = check_next(last, entry)?;
    }
    let (last_index, last_term) = last;
    let hard_state = &mut restored.hard_state;
    if hard_state.commit > last_index {
        return Err(RaftStartError::CommittedMissing {
            commit: hard_state.commit,
            last: last_index,
        });
    }
    hard_state.commit = hard_state.commit.max(snapshot_index);
    if hard_state.term < last_term {
        hard_state.term = last_term;
        hard_state.vote = 0;
    }
    Ok(restored)
}

fn check_next(
    (last_index, last_term): (u64, u64),
    entry: &LogEntry,
) -> Result<(u64, u64), RaftStartError> {
    let &LogEntry { index, term, .. } = entry;
    if index != last_index + 1 {
        return Err(RaftStartError::Hole {
            wanted: last_index + 1,
            found: index,
        });
    }
    if entry.kind != 0 {
        let kind = entry.kind;
        return Err(RaftStartError::Kind { index, kind });
    }
    if term < last_term.max(1) {
        return Err(RaftStartError::Term { index, term });
    }
    Ok((index, term))
}

fn check_voters(written: &[u64], voters: &BTreeMap<NodeName, u64>) -> Result<(), RaftStartError> {
    let known = voters.iter();
    let missing: Vec<NodeName> = known
        .filter(|(_, number)| !written.contains(number))
        .map(|(name, _)| name.clone())
        .collect();
    let foreign = written
        .iter()
        .filter(|number| !voters.values().any(|known| known == *number))
        .count();
    if missing.is_empty() && foreign == 0 {
        return Ok(());
    }
    Err(RaftStartError::VotersDiffer { missing, foreign })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::peer::{HardState, SnapshotRecord};

    fn names(names: &[&str]) -> Vec<NodeName> {
        names.iter().map(|name| NodeName::new(*name)).collect()
    }

    fn voters() -> BTreeMap<NodeName, u64> {
        number_voters(names(&["a", "b", "c"]).iter()).unwrap()
    }

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry {
            index,
            term,
            kind: 0,
            data: Vec::new(),
            context: Vec::new(),
        }
    }

    fn good() -> Restored {
        Restored {
            snapshot: Some(SnapshotRecord {
                index: 5,
                term: 2,
                voters: voters().into_values().collect(),
                data: Vec::new(),
            }),
            entries: vec![entry(6, 2), entry(7, 3)],
            hard_state: HardState {
                term: 3,
                vote: 9,
                commit: 6,
            },
        }
    }

    #[test]
    fn what_a_torn_persist_leaves_is_repaired() {
        assert_eq!(checked(good(), &voters()).unwrap(), good());
        let repaired = |hard_state| {
            let restored = Restored {
                hard_state,
                ..good()
            };
            checked(restored, &voters()).unwrap().hard_state
        };
        let state = |term, vote, commit| HardState { term, vote, commit };
        assert_eq!(repaired(state(3, 9, 2)), state(3, 9, 5), "commit");
        assert_eq!(repaired(state(2, 9, 6)), state(3, 0, 6), "term");
        assert_eq!(repaired(state(4, 9, 6)), state(4, 9, 6));
    }

    #[test]
    fn impossible_logs_are_refused() {
        let refused = |change: &dyn Fn(&mut Restored)| {
            let mut restored = good();
            change(&mut restored);
            checked(restored, &voters()).unwrap_err()
        };
        assert_eq!(
            refused(&|r| r.entries[1].index = 8),
            RaftStartError::Hole {
                wanted: 7,
                found: 8
            }
        );
        assert_eq!(
            refused(&|r| r.entries[0].term = 1),
            RaftStartError::Term { index: 6, term: 1 }
        );
        assert_eq!(
            refused(&|r| r.snapshot.as_mut().unwrap().term = 0),
            RaftStartError::Term { index: 5, term: 0 }
        );
        assert_eq!(
            refused(&|r| r.hard_state.commit = 8),
            RaftStartError::CommittedMissing { commit: 8, last: 7 }
        );
        assert_eq!(
            refused(&|r| r.entries[0].kind = 1),
            RaftStartError::Kind { index: 6, kind: 1 }
        );
        let foreign: Vec<u64> = number_voters(names(&["a", "b", "d"]).iter())
            .unwrap()
            .into_values()
            .collect();
        assert_eq!(
            refused(&|r| r.snapshot.as_mut().unwrap().voters = foreign.clone()),
            RaftStartError::VotersDiffer {
                missing: names(&["c"]),
                foreign: 1
            }
        );
    }

    /// Numbers are on disk: the published FNV-1a values, for ever.
    #[test]
    fn raft_numbers_do_not_change() {
        assert_eq!(raft_number(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(raft_number("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(raft_number("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn voters_of_one_number_are_refused() {
        let twice = names(&["a", "a"]);
        assert_eq!(
            number_voters(twice.iter()).unwrap_err(),
            RaftStartError::NumberCollision {
                first: NodeName::new("a"),
                second: NodeName::new("a"),
            }
        );
    }
}
