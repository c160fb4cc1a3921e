//! The Raft log in memory: what raft-rs reads, and what the sum of all [`Persist`]s is.
//!
//! Every [`Persist`] is applied here at the moment it is put out, and by the driver's disk before
//! anything after it is carried out; so both hold the same log, but for the entries that memory keeps
//! behind the snapshot for slow followers. Knows no file and no message. One rule serves both sides, so
//! that a disk and its node can never disagree: [`entries_survive`].

use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::util::limit_size;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::raft_message::{entry_to_raft, hard_state_to_raft, snapshot_to_raft};
use crate::peer::{HardState, LogEntry, Persist, Restored, SnapshotRecord};

/// Entries kept in memory behind a snapshot, so that a follower that is a little behind gets entries and no
/// whole table.
pub(super) const ENTRIES_BEHIND_MAX: u64 = 512;

/// Whether the entries after a snapshot stay in the log: only if the log holds the snapshot's last entry.
///
/// A table snapshot of this node is made of its own log, so its entry is there. A snapshot from a leader is
/// installed only where the log does not match it; entries behind a mismatch are of a lost branch, and
/// their old terms at the end of the log would let a candidate with less than them win a vote.
fn entries_survive(term_at_snapshot: Option<u64>, snapshot: &SnapshotRecord) -> bool {
    term_at_snapshot == Some(snapshot.term)
}

impl Restored {
    /// Adds a [`Persist`] to what is on the disk: the definition of what a log file must give back.
    pub fn absorb(&mut self, persist: &Persist) {
        if let Some(snapshot) = &persist.snapshot {
            if entries_survive(self.term_at(snapshot.index), snapshot) {
                self.entries.retain(|entry| entry.index > snapshot.index);
            } else {
                self.entries.clear();
            }
            self.snapshot = Some(snapshot.clone());
        }
        if let Some(first) = persist.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(persist.entries.iter().cloned());
        }
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
    }

    /// Index of the newest entry, or of the snapshot where there is none after it.
    pub fn last_index(&self) -> u64 {
        let snapshot = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        self.entries.last().map_or(snapshot, |entry| entry.index)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if let Some(snapshot) = &self.snapshot
            && snapshot.index == index
        {
            return Some(snapshot.term);
        }
        let found = self
            .entries
            .binary_search_by_key(&index, |e| e.index)
            .ok()?;
        Some(self.entries[found].term)
    }
}

/// Invariants: `entries` have no holes and start right after `behind.index`; `behind.index` is at most
/// `snapshot.index`, which is at most the last index.
pub(super) struct MemoryLog {
    voters: Vec<u64>,
    hard_state: HardState,
    snapshot: SnapshotRecord,
    behind: EntryId,
    entries: Vec<Entry>,
    /// [`ENTRIES_BEHIND_MAX`], or less where a test wants snapshots to be sent early.
    pub(super) entries_behind_max: u64,
}

/// Index and term of an entry.
#[derive(Clone, Copy)]
struct EntryId {
    index: u64,
    term: u64,
}

impl MemoryLog {
    /// The log as a disk gave it back; the caller has checked it.
    pub(super) fn new(voters: Vec<u64>, restored: Restored) -> Self {
        let snapshot = restored.snapshot.unwrap_or_default();
        Self {
            voters,
            hard_state: restored.hard_state,
            behind: EntryId {
                index: snapshot.index,
                term: snapshot.term,
            },
            snapshot,
            entries: restored.entries.into_iter().map(entry_to_raft).collect(),
            entries_behind_max: ENTRIES_BEHIND_MAX,
        }
    }

    /// Applies what the driver is about to make durable.
    pub(super) fn apply(&mut self, persist: &Persist) {
        if let Some(snapshot) = &persist.snapshot {
            if entries_survive(self.term_at(snapshot.index), snapshot) {
                self.forget_up_to(snapshot.index.saturating_sub(self.entries_behind_max));
            } else {
                self.entries.clear();
                self.behind = EntryId {
                    index: snapshot.index,
                    term: snapshot.term,
                };
            }
            self.snapshot = snapshot.clone();
        }
        if let Some(LogEntry { index, .. }) = persist.entries.first() {
            let kept = index
                .checked_sub(self.behind.index + 1)
                .expect("raft never rewrites an entry that a snapshot holds");
            assert!(kept <= self.entries.len() as u64, "raft leaves no hole");
            self.entries.truncate(kept as usize);
            self.entries
                .extend(persist.entries.iter().cloned().map(entry_to_raft));
        }
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
    }

    /// Index of the newest snapshot; 0 for none.
    pub(super) fn snapshot_index(&self) -> u64 {
        self.snapshot.index
    }

    /// The snapshot that `data` makes at `index`, which the log holds.
    pub(super) fn snapshot_at(&self, index: u64, data: Vec<u8>) -> SnapshotRecord {
        SnapshotRecord {
            index,
            term: self
                .term_at(index)
                .expect("an entry after the snapshot that was handed out is in the log"),
            voters: self.voters.clone(),
            data,
        }
    }

    fn forget_up_to(&mut self, index: u64) {
        if let (Some(term), true) = (self.term_at(index), index > self.behind.index) {
            self.entries.drain(..(index - self.behind.index) as usize);
            self.behind = EntryId { index, term };
        }
    }

    fn last(&self) -> u64 {
        self.behind.index + self.entries.len() as u64
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.behind.index {
            return Some(self.behind.term);
        }
        let place = index.checked_sub(self.behind.index + 1)?;
        let entry = self.entries.get(usize::try_from(place).ok()?)?;
        Some(entry.term)
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let conf_state = ConfState {
            voters: self.voters.clone(),
            ..ConfState::default()
        };
        Ok(RaftState::new(
            hard_state_to_raft(self.hard_state),
            conf_state,
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.behind.index {
            return Err(StorageError::Compacted.into());
        }
        if high > self.last() + 1 {
            return Err(StorageError::Unavailable.into());
        }
        let place = |index: u64| (index - self.behind.index - 1) as usize;
        let mut entries = self.entries[place(low)..place(high)].to_vec();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.behind.index {
            return Err(StorageError::Compacted.into());
        }
        self.term_at(index)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.behind.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Nobody asks for an index of its own (see `raft_message::check`), so the newest one always serves.
        if self.snapshot.index == 0 || self.snapshot.index < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(snapshot_to_raft(self.snapshot.clone()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry {
            index,
            term,
            kind: 0,
            data: vec![index as u8],
            context: Vec::new(),
        }
    }

    fn snapshot(index: u64, term: u64) -> SnapshotRecord {
        SnapshotRecord {
            index,
            term,
            voters: vec![1],
            data: Vec::new(),
        }
    }

    fn persist(snapshot: Option<SnapshotRecord>, entries: &[(u64, u64)]) -> Persist {
        Persist {
            snapshot,
            entries: entries.iter().map(|&(i, t)| entry(i, t)).collect(),
            hard_state: None,
        }
    }

    /// Both sides of the rule, memory and disk, after the same persists: (index, term) of what is left.
    #[test]
    fn memory_and_disk_agree() {
        let cases = [
            (
                "a conflict replaces the tail",
                vec![
                    persist(None, &[(1, 1), (2, 1), (3, 1)]),
                    persist(None, &[(2, 2)]),
                ],
                vec![(1, 1), (2, 2)],
            ),
            (
                "a snapshot of the own log keeps what follows",
                vec![
                    persist(None, &[(1, 1), (2, 1), (3, 1)]),
                    persist(Some(snapshot(2, 1)), &[]),
                ],
                vec![(3, 1)],
            ),
            (
                "a snapshot of another branch drops everything",
                vec![
                    persist(None, &[(1, 1), (2, 1), (3, 1)]),
                    persist(Some(snapshot(2, 5)), &[]),
                ],
                vec![],
            ),
            (
                "a snapshot beyond the log leaves it empty, and entries go on from it",
                vec![
                    persist(None, &[(1, 1)]),
                    persist(Some(snapshot(9, 2)), &[(10, 2)]),
                ],
                vec![(10, 2)],
            ),
        ];
        for (name, persists, wanted) in cases {
            let mut disk = Restored::default();
            let mut memory = MemoryLog::new(vec![1], Restored::default());
            for persist in persists {
                disk.absorb(&persist);
                memory.apply(&persist);
            }
            let on_disk: Vec<_> = disk.entries.iter().map(|e| (e.index, e.term)).collect();
            assert_eq!(on_disk, wanted, "{name}");
            let after = memory.snapshot_index();
            let in_memory: Vec<_> = memory
                .entries
                .iter()
                .map(|e| (e.index, e.term))
                .filter(|(index, _)| *index > after)
                .collect();
            assert_eq!(in_memory, wanted, "{name}");
            assert_eq!(disk.last_index(), memory.last(), "{name}");
        }
    }

    #[test]
    fn a_bounded_tail_stays_behind_a_snapshot() {
        let mut log = MemoryLog::new(vec![1], Restored::default());
        let many: Vec<_> = (1..=2000).map(|index| (index, 1)).collect();
        log.apply(&persist(None, &many));
        log.apply(&persist(Some(snapshot(1500, 1)), &[]));
        assert_eq!(log.first_index().unwrap(), 1500 - ENTRIES_BEHIND_MAX + 1);
        assert_eq!(log.term(1500 - ENTRIES_BEHIND_MAX).unwrap(), 1);
        assert!(log.term(1500 - ENTRIES_BEHIND_MAX - 1).is_err());
        assert_eq!(log.last_index().unwrap(), 2000);
        assert_eq!(log.snapshot(0, 2).unwrap().get_metadata().index, 1500);
    }
}
