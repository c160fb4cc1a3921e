//! What a sequence of persisted parts amounts to. Pure; the one definition, for writing and for reading back.

use crate::peer::{Restored, SnapshotRecord};

use super::record::{Batch, Record};

/// Index of the newest entry or snapshot.
pub(super) fn last_index(restored: &Restored) -> u64 {
    match restored.entries.last() {
        Some(entry) => entry.index,
        None => snapshot_index(restored),
    }
}

/// Index of the snapshot; 0 without one.
pub(super) fn snapshot_index(restored: &Restored) -> u64 {
    restored
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.index)
}

/// Takes one more record in; the error says how it contradicts what is there.
pub(super) fn take(restored: &mut Restored, record: Record) -> Result<(), String> {
    match record {
        Record::Snapshot(snapshot) => take_snapshot(restored, snapshot),
        Record::Batch(batch) => take_batch(restored, batch),
    }
}

/// Entries after the snapshot stay only if the log holds the snapshot's own entry in the same term. Otherwise they
/// come from a history that the snapshot overrules, and their terms could run backwards behind it.
pub(super) fn take_snapshot(
    restored: &mut Restored,
    snapshot: SnapshotRecord,
) -> Result<(), String> {
    if snapshot.index < snapshot_index(restored) {
        return Err(format!(
            "a snapshot at {} after one at {}",
            snapshot.index,
            snapshot_index(restored)
        ));
    }
    let same_history = term_at(restored, snapshot.index) == Some(snapshot.term);
    restored
        .entries
        .retain(|entry| same_history && entry.index > snapshot.index);
    restored.snapshot = Some(snapshot);
    Ok(())
}

pub(super) fn take_batch(restored: &mut Restored, batch: Batch) -> Result<(), String> {
    if let Some(first) = batch.entries.first().map(|entry| entry.index) {
        let (oldest, newest) = (snapshot_index(restored) + 1, last_index(restored) + 1);
        if first < oldest || first > newest {
            return Err(format!(
                "entry {first} where {oldest} to {newest} could come"
            ));
        }
        let in_order = batch
            .entries
            .iter()
            .zip(first..)
            .all(|(entry, index)| entry.index == index);
        if !in_order {
            return Err(format!("a hole in the entries from {first} on"));
        }
        restored.entries.retain(|entry| entry.index < first);
        restored.entries.extend(batch.entries);
    }
    if let Some(hard_state) = batch.hard_state {
        restored.hard_state = hard_state;
    }
    Ok(())
}

fn term_at(restored: &Restored, index: u64) -> Option<u64> {
    let of_snapshot = restored
        .snapshot
        .as_ref()
        .filter(|snapshot| snapshot.index == index);
    let of_entry = || restored.entries.iter().find(|entry| entry.index == index);
    of_snapshot
        .map(|snapshot| snapshot.term)
        .or_else(|| of_entry().map(|entry| entry.term))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::peer::LogEntry;

    fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
        range
            .map(|index| LogEntry {
                index,
                term,
                kind: 0,
                data: vec![],
                context: vec![],
            })
            .collect()
    }

    fn batch(range: std::ops::RangeInclusive<u64>, term: u64) -> Batch {
        Batch {
            entries: entries(range, term),
            hard_state: None,
        }
    }

    fn snapshot(index: u64, term: u64) -> SnapshotRecord {
        SnapshotRecord {
            index,
            term,
            ..SnapshotRecord::default()
        }
    }

    #[test]
    fn an_entry_replaces_everything_from_its_index_on() {
        let mut restored = Restored::default();
        take_batch(&mut restored, batch(1..=5, 1)).unwrap();
        take_batch(&mut restored, batch(3..=3, 2)).unwrap();
        let terms: Vec<_> = restored
            .entries
            .iter()
            .map(|entry| (entry.index, entry.term))
            .collect();
        assert_eq!(terms, [(1, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn holes_are_refused() {
        let mut restored = Restored::default();
        take_snapshot(&mut restored, snapshot(4, 1)).unwrap();
        for (range, wanted) in [
            (4..=4, "entry 4 where 5 to 5 could come"),
            (6..=7, "entry 6 where 5 to 5 could come"),
        ] {
            assert_eq!(
                take_batch(&mut restored, batch(range, 1)).unwrap_err(),
                wanted
            );
        }
        let mut with_hole = batch(5..=6, 1);
        with_hole.entries[1].index = 8;
        assert!(take_batch(&mut restored, with_hole).is_err());
        assert!(take_snapshot(&mut restored, snapshot(3, 1)).is_err());
    }

    #[test]
    fn a_snapshot_keeps_only_entries_of_its_own_history() {
        let mut log = Restored::default();
        take_batch(&mut log, batch(1..=6, 1)).unwrap();
        for (index, term, kept) in [(4, 1, 2), (4, 2, 0), (6, 1, 0), (9, 1, 0)] {
            let mut restored = log.clone();
            take_snapshot(&mut restored, snapshot(index, term)).unwrap();
            assert_eq!(
                restored.entries.len(),
                kept,
                "snapshot at {index} in term {term}"
            );
        }
    }
}
