//! A voter's disk: the sum of what it made durable, and nothing else.
//!
//! Knows the rules by which one [`Persist`] changes it, as the contract states them. Torn writes and
//! flipped bits are the log file's own tests.

use sentinel_core::peer::{LogEntry, Persist, Restored};

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    restored: Restored,
}

impl Disk {
    /// What a restarted node finds.
    pub fn restored(&self) -> &Restored {
        &self.restored
    }

    /// Makes one [`Persist`] durable.
    pub fn write(&mut self, persist: Persist) {
        if let Some(snapshot) = persist.snapshot {
            let follows = |entry: &LogEntry| entry.index > snapshot.index;
            let mut kept: Vec<LogEntry> = self.restored.entries.drain(..).filter(follows).collect();
            if kept
                .first()
                .is_some_and(|first| first.index != snapshot.index + 1)
            {
                kept.clear();
            }
            self.restored.entries = kept;
            self.restored.snapshot = Some(snapshot);
        }
        if let Some(first) = persist.entries.first().map(|entry| entry.index) {
            self.restored.entries.retain(|entry| entry.index < first);
            assert!(
                self.restored.entries.is_empty() || self.last_index() + 1 == first,
                "a node wrote entry {first} after {}: its log has a hole",
                self.last_index()
            );
            self.restored.entries.extend(persist.entries);
        }
        if let Some(hard_state) = persist.hard_state {
            self.restored.hard_state = hard_state;
        }
    }

    /// Index of the newest entry, or of the snapshot.
    pub fn last_index(&self) -> u64 {
        let snapshot = self.restored.snapshot.as_ref().map_or(0, |s| s.index);
        self.restored.entries.last().map_or(snapshot, |e| e.index)
    }

    /// Whether this entry, or a snapshot that holds it, is durable.
    pub fn holds(&self, index: u64, term: u64) -> bool {
        let in_snapshot = |s: &sentinel_core::peer::SnapshotRecord| s.index >= index;
        self.restored.snapshot.as_ref().is_some_and(in_snapshot)
            || self.entry(index).is_some_and(|entry| entry.term == term)
    }

    /// One entry of the log.
    pub fn entry(&self, index: u64) -> Option<&LogEntry> {
        let first = self.restored.entries.first()?.index;
        let offset = usize::try_from(index.checked_sub(first)?).ok()?;
        self.restored.entries.get(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_core::peer::{HardState, SnapshotRecord};

    fn entries(range: std::ops::Range<u64>, term: u64) -> Persist {
        let entry = |index| LogEntry {
            index,
            term,
            kind: 0,
            data: Vec::new(),
            context: Vec::new(),
        };
        Persist {
            entries: range.map(entry).collect(),
            ..Persist::default()
        }
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let mut disk = Disk::default();
        disk.write(entries(1..5, 1));
        disk.write(entries(3..4, 2));
        assert_eq!(disk.last_index(), 3);
        assert!(disk.holds(2, 1) && disk.holds(3, 2) && !disk.holds(3, 1));
    }

    #[test]
    fn a_snapshot_keeps_what_follows_it_without_a_hole() {
        let snapshot = |index| Persist {
            snapshot: Some(SnapshotRecord {
                index,
                ..SnapshotRecord::default()
            }),
            ..Persist::default()
        };
        let mut disk = Disk::default();
        disk.write(entries(1..5, 1));
        disk.write(snapshot(3));
        assert_eq!(disk.restored().entries.len(), 1);
        disk.write(snapshot(9));
        assert_eq!((disk.restored().entries.len(), disk.last_index()), (0, 9));
        assert!(disk.holds(4, 7), "a snapshot holds everything before it");
    }

    #[test]
    fn an_absent_hard_state_changes_nothing() {
        let mut disk = Disk::default();
        let hard_state = HardState {
            term: 3,
            vote: 2,
            commit: 1,
        };
        disk.write(Persist {
            hard_state: Some(hard_state),
            ..Persist::default()
        });
        disk.write(entries(1..2, 3));
        assert_eq!(disk.restored().hard_state, hard_state);
    }
}
