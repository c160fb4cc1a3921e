//! Judges the log by what a crash or a bad disk can do to it: every truncation, every flipped bit, every leftover.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::record::{Batch, Place, Record};
use super::replay::{last_index, snapshot_index, take_batch, take_snapshot};
use super::segment::{self, Header, SEGMENT_VERSION};
use super::{DataFolder, LogError, RaftFile};
use crate::id::{ClusterName, NodeName};
use crate::peer::{HardState, LogEntry, Persist, Restored, SnapshotRecord};

fn entry(index: u64, term: u64) -> LogEntry {
    let data = format!("command {index} of term {term}").into_bytes();
    LogEntry {
        index,
        term,
        kind: 0,
        data,
        context: vec![],
    }
}

fn snapshot(index: u64, term: u64) -> SnapshotRecord {
    SnapshotRecord {
        index,
        term,
        voters: vec![1, 2, 3],
        data: vec![7; 20],
    }
}

fn vote(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit }
}

fn batch(entries: Vec<LogEntry>, hard_state: Option<HardState>) -> Persist {
    Persist {
        snapshot: None,
        entries,
        hard_state,
    }
}

fn open(folder: &Path) -> Result<(DataFolder, RaftFile, Restored), LogError> {
    let data = DataFolder::open(folder)?;
    let (file, restored) = RaftFile::open(&data, &"main".into(), &"s1".into())?;
    Ok((data, file, restored))
}

fn reopened(folder: &Path) -> Result<Restored, LogError> {
    open(folder).map(|(_, _, restored)| restored)
}

/// Appends everything, and returns what a reader must find after each step, from the empty log on.
fn write_all(folder: &Path, steps: &[Persist]) -> Vec<Restored> {
    let (_data, mut file, restored) = open(folder).unwrap();
    let mut states = vec![restored];
    for persist in steps {
        file.append(persist).unwrap();
        let mut next = states.last().unwrap().clone();
        advance(&mut next, persist);
        states.push(next);
    }
    states
}

/// The model: what one `Persist` does to the memory of a node.
fn advance(restored: &mut Restored, persist: &Persist) {
    if let Some(snapshot) = &persist.snapshot {
        take_snapshot(restored, snapshot.clone()).unwrap();
    }
    let batch = Batch {
        entries: persist.entries.clone(),
        hard_state: persist.hard_state,
    };
    take_batch(restored, batch).unwrap();
}

fn the_segment(folder: &Path) -> PathBuf {
    let logs = segments(folder);
    assert_eq!(logs.len(), 1, "one segment stays: {logs:?}");
    logs.into_iter().next().unwrap()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder.join("raft"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn small_log() -> Vec<Persist> {
    vec![
        batch(vec![], Some(vote(1, 1, 0))),
        batch(vec![entry(1, 1), entry(2, 1)], Some(vote(1, 1, 1))),
        batch(vec![entry(2, 2)], None),
        batch(vec![entry(3, 2)], Some(vote(2, 3, 2))),
    ]
}

/// The small log again, behind a snapshot.
fn small_log_with_snapshot() -> Vec<Persist> {
    let mut steps = small_log();
    steps.push(Persist {
        snapshot: Some(snapshot(2, 2)),
        entries: vec![],
        hard_state: Some(vote(2, 3, 3)),
    });
    steps.push(batch(vec![entry(4, 2)], None));
    steps.push(batch(vec![], Some(vote(3, 2, 4))));
    steps
}

#[test]
fn every_truncation_recovers_a_prefix() {
    let folder = tempfile::tempdir().unwrap();
    let states = write_all(folder.path(), &small_log());
    let path = the_segment(folder.path());
    let whole = fs::read(&path).unwrap();
    let header = header_bytes(1);
    let mut newest = 0;
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        if length < header {
            assert!(
                matches!(
                    reopened(folder.path()),
                    Err(LogError::Damaged { offset: 0, .. })
                ),
                "{length}"
            );
            continue;
        }
        let restored = reopened(folder.path()).unwrap();
        let step = states.iter().position(|state| *state == restored).unwrap();
        assert!(step >= newest, "a longer file holds less at {length}");
        newest = step;
        if length % 16 == 0 {
            // The torn tail is gone for good, so that the next record is found behind it.
            assert_eq!(reopened(folder.path()).unwrap(), restored);
        }
    }
    assert_eq!(newest, states.len() - 1);
}

#[test]
fn what_was_durable_with_the_segment_is_never_torn() {
    let (cluster, node) = (ClusterName::new("main"), NodeName::new("s1"));
    let folder = tempfile::tempdir().unwrap();
    let states = write_all(folder.path(), &small_log_with_snapshot());
    let path = the_segment(folder.path());
    let whole = fs::read(&path).unwrap();
    let mut recovered = 0;
    for length in 0..whole.len() {
        match segment::read(&path, &whole[..length], (&cluster, &node), 2) {
            // Never a state from before the snapshot.
            Ok(segment) => {
                assert!(states[5..].contains(&segment.restored), "{length}");
                recovered += 1;
            }
            Err(error) => assert!(
                matches!(error, LogError::Damaged { .. }),
                "{length}: {error}"
            ),
        }
    }
    assert!(recovered > 100);
}

#[test]
fn a_flipped_bit_is_never_believed() {
    let (cluster, node) = (ClusterName::new("main"), NodeName::new("s1"));
    for (steps, number) in [(small_log(), 1), (small_log_with_snapshot(), 2)] {
        let folder = tempfile::tempdir().unwrap();
        let states = write_all(folder.path(), &steps);
        let path = the_segment(folder.path());
        let whole = fs::read(&path).unwrap();
        let without_last = &states[states.len() - 2];
        let mut damaged = 0;
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match segment::read(&path, &bytes, (&cluster, &node), number) {
                Ok(segment) => assert_eq!(&segment.restored, without_last, "bit {bit}"),
                Err(LogError::Damaged { .. }) => damaged += 1,
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
        assert!(damaged > whole.len() * 4);
    }
}

#[test]
fn zeros_behind_the_last_record_are_a_torn_tail() {
    let folder = tempfile::tempdir().unwrap();
    let states = write_all(folder.path(), &small_log());
    let path = the_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend([0; 5000]);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(&reopened(folder.path()).unwrap(), states.last().unwrap());
}

#[test]
fn damage_in_the_middle_names_file_offset_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    write_all(folder.path(), &small_log());
    let path = the_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let first = header_bytes(1);
    bytes[first + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let text = reopened(folder.path()).unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("{} is damaged at byte {first} (", path.display())),
        "{text}"
    );
    assert!(
        text.contains("only while a majority of the other voters is healthy"),
        "{text}"
    );
    assert_eq!(
        fs::read(&path).unwrap(),
        bytes,
        "a damaged log stays as it is"
    );
    // Undamaged, the same folder starts again.
    bytes[first + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    reopened(folder.path()).unwrap();
}

#[test]
fn a_log_that_is_gone_is_an_error() {
    for whole_folder in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &small_log());
        let raft = folder.path().join("raft");
        // A segment that never got its name is no log, and is left for whoever finds out what happened.
        let unfinished = raft.join("00000000000000000002.new");
        fs::write(&unfinished, "half").unwrap();
        let aside = folder.path().join("aside");
        let (from, to) = if whole_folder {
            (raft.clone(), aside)
        } else {
            (the_log(folder.path()), aside)
        };
        fs::rename(&from, &to).unwrap();
        for _ in 0..2 {
            assert_eq!(
                reopened(folder.path()).unwrap_err().to_string(),
                format!(
                    "{} has no log, and this node kept one there: it has forgotten its votes and must not start without them; \
                     check the disk, and only while a majority of the other voters is healthy move `raft` and `has_log` out of \
                     the data folder and start again, so that this node learns everything from them",
                    raft.display()
                )
            );
        }
        assert_eq!(unfinished.exists(), !whole_folder);
        // What was moved by mistake and is put back is the same memory.
        fs::rename(&to, &from).unwrap();
        assert_eq!(reopened(folder.path()).unwrap().hard_state, vote(2, 3, 2));
    }
}

fn the_log(folder: &Path) -> PathBuf {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    segments(folder).into_iter().find(is_log).unwrap()
}

#[test]
fn a_start_that_crashed_at_any_step_starts_again() {
    let empty = Restored::default();
    // The identity alone, as a crash right behind it leaves it, or as an operator keeps it for a new disk.
    let folder = tempfile::tempdir().unwrap();
    drop(DataFolder::open(folder.path()).unwrap());
    assert_eq!(reopened(folder.path()).unwrap(), empty);
    // The folder of the log, empty or with a segment without its name.
    let folder = tempfile::tempdir().unwrap();
    drop(DataFolder::open(folder.path()).unwrap());
    fs::create_dir(folder.path().join("raft")).unwrap();
    fs::write(folder.path().join("raft/00000000000000000001.new"), "half").unwrap();
    assert_eq!(reopened(folder.path()).unwrap(), empty);
    // The log without its mark, which is also how an older version leaves the folder: the next start marks it.
    let folder = tempfile::tempdir().unwrap();
    let newest = write_all(folder.path(), &small_log()).pop().unwrap();
    fs::remove_file(folder.path().join("has_log")).unwrap();
    assert_eq!(reopened(folder.path()).unwrap(), newest);
    fs::remove_file(the_segment(folder.path())).unwrap();
    assert!(matches!(
        reopened(folder.path()),
        Err(LogError::Missing { .. })
    ));
}

#[test]
fn a_crash_around_a_new_segment_finds_the_old_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let before = write_all(folder.path(), &small_log()).pop().unwrap();
    let old_path = the_segment(folder.path());
    let old = fs::read(&old_path).unwrap();
    let (data, mut file, _) = open(folder.path()).unwrap();
    let step = Persist {
        snapshot: Some(snapshot(2, 2)),
        entries: vec![entry(4, 2)],
        hard_state: None,
    };
    file.append(&step).unwrap();
    drop((data, file));
    let mut after = before.clone();
    advance(&mut after, &step);
    let new_path = the_segment(folder.path());
    let new = fs::read(&new_path).unwrap();

    // Before the new segment got its name, however much of it was written.
    for length in (0..=new.len()).step_by(16).chain([new.len()]) {
        fs::remove_file(&new_path)
            .or_else(|_| fs::remove_file(&old_path))
            .unwrap();
        fs::write(&old_path, &old).unwrap();
        fs::write(new_path.with_extension("new"), &new[..length]).unwrap();
        assert_eq!(reopened(folder.path()).unwrap(), before, "{length}");
        assert_eq!(segments(folder.path()), std::slice::from_ref(&old_path));
    }
    // After it got its name and before the old one was deleted.
    fs::write(&new_path, &new).unwrap();
    assert_eq!(reopened(folder.path()).unwrap(), after);
    assert_eq!(segments(folder.path()), std::slice::from_ref(&new_path));
    // A damaged new segment never lets an old one speak.
    fs::write(&old_path, &old).unwrap();
    fs::write(&new_path, &new[..new.len() - 1]).unwrap();
    assert!(matches!(
        reopened(folder.path()),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn many_appends_and_snapshots_equal_the_model() {
    for seed in 0..4 {
        let mut chance = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut model = Restored::default();
        let mut term = 1;
        let (mut data, mut file, _) = open(folder.path()).unwrap();
        for _ in 0..60 {
            let step = random_step(&mut chance, &model, &mut term);
            file.append(&step).unwrap();
            advance(&mut model, &step);
            if chance.random_ratio(1, 6) {
                drop((data, file));
                let restored;
                (data, file, restored) = open(folder.path()).unwrap();
                assert_eq!(restored, model, "seed {seed}");
            }
        }
        drop((data, file));
        assert_eq!(reopened(folder.path()).unwrap(), model, "seed {seed}");
    }
}

fn random_step(chance: &mut StdRng, model: &Restored, term: &mut u64) -> Persist {
    let (oldest, newest) = (snapshot_index(model), last_index(model));
    *term += u64::from(chance.random_ratio(1, 5));
    let hard_state = chance
        .random_bool(0.5)
        .then(|| vote(*term, chance.random_range(0..4), newest));
    if chance.random_ratio(1, 8) && newest > 0 {
        // Own compaction, or a leader's snapshot from beyond or beside our log.
        let index = chance.random_range(oldest.max(1)..=newest + 3);
        let own = model.entries.iter().find(|entry| entry.index == index);
        let snapshot_term = own
            .filter(|_| chance.random_bool(0.8))
            .map_or(*term, |entry| entry.term);
        let mut next = model.clone();
        take_snapshot(&mut next, snapshot(index, snapshot_term)).unwrap();
        let from = last_index(&next) + 1;
        let entries = (from..from + chance.random_range(0..3))
            .map(|index| entry(index, *term))
            .collect();
        return Persist {
            snapshot: next.snapshot,
            entries,
            hard_state,
        };
    }
    let from = chance.random_range(oldest + 1..=newest + 1);
    let entries = (from..from + chance.random_range(0..5))
        .map(|index| entry(index, *term))
        .collect();
    batch(entries, hard_state)
}

#[test]
fn a_large_batch_is_split_and_found_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (data, mut file, _) = open(folder.path()).unwrap();
    let large = |index| LogEntry {
        index,
        term: 1,
        kind: 0,
        data: vec![1; 3 << 20],
        context: vec![],
    };
    let step = batch((1..=2).map(large).collect(), Some(vote(1, 1, 2)));
    file.append(&step).unwrap();
    drop((data, file));
    let restored = reopened(folder.path()).unwrap();
    assert_eq!(restored.entries, step.entries);
    assert_eq!(Some(restored.hard_state), step.hard_state);
}

#[test]
fn other_owners_and_newer_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_all(folder.path(), &small_log());
    let path = the_segment(folder.path());
    let data = DataFolder::open(folder.path()).unwrap();
    let refusal = |cluster: &str, node: &str| {
        RaftFile::open(&data, &cluster.into(), &node.into())
            .unwrap_err()
            .to_string()
    };
    let file = path.display();
    assert_eq!(
        refusal("test", "s1"),
        format!(
            "{file} belongs to cluster `main`, this node is of cluster `test`: correct node.cluster or node.data_dir"
        )
    );
    assert_eq!(
        refusal("main", "s2"),
        format!(
            "{file} belongs to node `s1`, this node is `s2`: correct node.name or node.data_dir"
        )
    );

    let whole = fs::read(&path).unwrap();
    let newer_header = rewritten(&whole[..header_bytes(1)], 8);
    fs::write(&path, [&newer_header, &whole[header_bytes(1)..]].concat()).unwrap();
    let remedy = "run the version of the sentinel that wrote it, or a newer one";
    assert_eq!(
        refusal("main", "s1"),
        format!(
            "{file} has format version {}, this build reads up to {SEGMENT_VERSION}: {remedy}",
            SEGMENT_VERSION + 1
        )
    );
    fs::write(&path, &whole).unwrap();
    RaftFile::open(&data, &"main".into(), &"s1".into()).unwrap();
}

/// The header with the byte at `at` raised and its checksum right again, as another version would write it.
fn rewritten(header: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = header[..header.len() - 4].to_vec();
    bytes[at] += 1;
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn header_bytes(segment: u64) -> usize {
    let header = Header {
        cluster: ClusterName::new("main"),
        node: NodeName::new("s1"),
        segment,
        first_index: 1,
        sealed_bytes: 0,
    };
    header.encode().len()
}

#[test]
fn golden_bytes() {
    let record = Record::Batch(Batch {
        entries: vec![],
        hard_state: Some(vote(2, 1, 3)),
    });
    let bytes = record
        .encode(Place {
            segment: 1,
            offset: 64,
        })
        .unwrap();
    let mut wanted = vec![0xa7, 0x5e, 0x1b, 0xd3, 34, 0, 0, 0, 2];
    wanted.extend(bytes[9..13].iter());
    wanted.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
    wanted.extend([1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes, wanted);
    // Worked out apart from this program, over segment, offset, length, kind and payload.
    assert_eq!(bytes[9..13], 0x940a9a42_u32.to_le_bytes());
}
