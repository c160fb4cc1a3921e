//! The Raft log file: opened once, appended to, and begun anew with every snapshot.
//!
//! Knows the folder `raft/` and its segments `<number>.log`. Does not know Raft: what is in the log is the machine's
//! business, and when a snapshot is due too.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::id::{ClusterName, NodeName};
use crate::peer::{HardState, LogEntry, Persist, Restored};

use super::durable::{sync_contents, sync_names};
use super::error::LogError;
use super::folder::{DataFolder, Lock, make_folder};
use super::record::{Batch, Place, Record};
use super::replay::{snapshot_index, take_batch, take_snapshot};
use super::segment::{self, Header};

/// A batch is split beyond so many bytes of entries. A record that one `Persist` usually makes is far smaller.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The log of one voter.
///
/// Invariants:
/// - one segment is in force: the one with the highest number. It got its name when it was complete and durable,
///   so an older one that is still there is left over and never read;
/// - everything in `known` is durable, and is what the segment in force holds;
/// - at most one record at a time is written and not yet confirmed, so at most the last one can be torn.
#[derive(Debug)]
pub struct RaftFile {
    folder: PathBuf,
    cluster: ClusterName,
    node: NodeName,
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
    known: Restored,
    /// Set while a write is under way: one that failed may have left half a record, behind which nothing counts.
    unconfirmed: bool,
    /// A write that is under way keeps the folder, even when nobody waits for it any more.
    _lock: Lock,
}

impl RaftFile {
    /// Opens the log of a voter, or makes an empty one, and returns what it held.
    pub fn open(
        data: &DataFolder,
        cluster: &ClusterName,
        node: &NodeName,
    ) -> Result<(Self, Restored), LogError> {
        let folder = data.path().join("raft");
        if data.has_log()? && !holds_a_segment(&folder)? {
            return Err(LogError::Missing { folder });
        }
        make_folder(&folder)?;
        let numbers = tidy(&folder)?;
        let (number, known) = match numbers.last() {
            None => {
                let empty = Restored::default();
                write_segment(&folder, 1, (cluster, node), &empty)?;
                (1, empty)
            }
            Some(&number) => (number, recover(&folder, number, (cluster, node))?),
        };
        remove_older(&folder, number)?;
        // After the segment has its name, so that a crash in between leaves a folder that starts; before anything is
        // promised, so that no promise is without its mark.
        data.mark_log()?;
        let (path, file, bytes) = open_for_append(&folder, number)?;
        let log = Self {
            folder,
            cluster: cluster.clone(),
            node: node.clone(),
            number,
            path,
            file,
            bytes,
            known: known.clone(),
            unconfirmed: false,
            _lock: data.lock(),
        };
        Ok((log, known))
    }

    /// Makes everything in `persist` durable before it returns. After an error the log takes nothing more.
    ///
    /// # Panics
    /// When an earlier call failed. When the entries leave a hole or a snapshot goes back: no disk does that, only a
    /// broken machine.
    pub fn append(&mut self, persist: &Persist) -> Result<(), LogError> {
        assert!(!self.unconfirmed, "the log takes nothing after an error");
        self.unconfirmed = true;
        self.write(persist)?;
        self.unconfirmed = false;
        Ok(())
    }

    fn write(&mut self, persist: &Persist) -> Result<(), LogError> {
        let batch = Batch {
            entries: persist.entries.clone(),
            hard_state: persist.hard_state,
        };
        match &persist.snapshot {
            None => self.append_batch(batch),
            Some(snapshot) => {
                let mut next = self.known.clone();
                take_snapshot(&mut next, snapshot.clone())
                    .expect("the machine's snapshots never go back");
                take_batch(&mut next, batch).expect("the machine's entries have no holes");
                self.begin_segment(next)
            }
        }
    }

    fn append_batch(&mut self, batch: Batch) -> Result<(), LogError> {
        for part in split(batch, self.known.hard_state.commit) {
            let place = Place {
                segment: self.number,
                offset: self.bytes,
            };
            let bytes = encode(&Record::Batch(part.clone()), place)?;
            self.file
                .write_all(&bytes)
                .map_err(LogError::io("writing", &self.path))?;
            sync_contents(&self.file, &self.path)?;
            self.bytes += bytes.len() as u64;
            take_batch(&mut self.known, part).expect("the machine's entries have no holes");
        }
        Ok(())
    }

    /// Until the new segment has its name the old one is in force, and after that the new one: a crash at any
    /// instant finds one of the two whole.
    fn begin_segment(&mut self, next: Restored) -> Result<(), LogError> {
        let number = self.number + 1;
        write_segment(&self.folder, number, (&self.cluster, &self.node), &next)?;
        remove_older(&self.folder, number)?;
        (self.path, self.file, self.bytes) = open_for_append(&self.folder, number)?;
        self.number = number;
        self.known = next;
        Ok(())
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.log"))
}

/// Changes nothing: what is left in a folder without a segment may be all that an operator can still learn from.
fn holds_a_segment(folder: &Path) -> Result<bool, LogError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(LogError::io("listing", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(LogError::io("listing", folder))?.path();
        if segment_number(&path).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn segment_number(path: &Path) -> Option<u64> {
    let is_log = path.extension().is_some_and(|extension| extension == "log");
    is_log.then(|| path.file_stem()?.to_str()?.parse().ok())?
}

/// Removes segments that never got their name, and returns the numbers of the others in order.
fn tidy(folder: &Path) -> Result<Vec<u64>, LogError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(LogError::io("listing", folder))? {
        let path = entry.map_err(LogError::io("listing", folder))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("new") => fs::remove_file(&path).map_err(LogError::io("removing", path))?,
            Some("log") => numbers.extend(segment_number(&path)),
            // An operator's own file, say a note: none of ours, so it stays.
            Some(_) | None => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn remove_older(folder: &Path, than: u64) -> Result<(), LogError> {
    for number in tidy(folder)?.into_iter().filter(|number| *number < than) {
        let path = segment_path(folder, number);
        fs::remove_file(&path).map_err(LogError::io("removing", path))?;
    }
    sync_names(folder)
}

/// Reads the segment in force and cuts a torn tail off.
///
/// What was read is made durable again before it is believed: after a crash of the process alone, records that were
/// never confirmed are still in the page cache, and a power cut could take them back.
fn recover(
    folder: &Path,
    number: u64,
    owner: (&ClusterName, &NodeName),
) -> Result<Restored, LogError> {
    let path = segment_path(folder, number);
    let bytes = fs::read(&path).map_err(LogError::io("reading", &path))?;
    let segment = segment::read(&path, &bytes, owner, number)?;
    let file = OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(LogError::io("opening", &path))?;
    if segment.valid_bytes < bytes.len() as u64 {
        let dropped_bytes = bytes.len() as u64 - segment.valid_bytes;
        tracing::warn!(file = %path.display(), dropped_bytes, "the last record was torn by a crash; it was never confirmed");
        file.set_len(segment.valid_bytes)
            .map_err(LogError::io("truncating", &path))?;
    }
    sync_contents(&file, &path)?;
    sync_names(folder)?;
    Ok(segment.restored)
}

/// Writes a complete segment under another name, and gives it its own once it is durable.
fn write_segment(
    folder: &Path,
    number: u64,
    (cluster, node): (&ClusterName, &NodeName),
    contents: &Restored,
) -> Result<(), LogError> {
    let mut header = Header {
        cluster: cluster.clone(),
        node: node.clone(),
        segment: number,
        first_index: snapshot_index(contents) + 1,
        sealed_bytes: 0,
    };
    let records = encode_contents(number, header.encode().len() as u64, contents)?;
    // The encoding has fixed widths: the number changes, the header's length does not.
    header.sealed_bytes = records.len() as u64;
    let unfinished = folder.join(format!("{number:020}.new"));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(LogError::io("creating", &unfinished))?;
    file.write_all(&header.encode())
        .map_err(LogError::io("writing", &unfinished))?;
    file.write_all(&records)
        .map_err(LogError::io("writing", &unfinished))?;
    sync_contents(&file, &unfinished)?;
    fs::rename(&unfinished, segment_path(folder, number))
        .map_err(LogError::io("renaming", &unfinished))?;
    sync_names(folder)
}

fn encode_contents(segment: u64, from: u64, contents: &Restored) -> Result<Vec<u8>, LogError> {
    let mut bytes = Vec::new();
    let mut records: Vec<_> = contents
        .snapshot
        .clone()
        .map(Record::Snapshot)
        .into_iter()
        .collect();
    if *contents != Restored::default() {
        let batch = Batch {
            entries: contents.entries.clone(),
            hard_state: Some(contents.hard_state),
        };
        records.extend(
            split(batch, contents.hard_state.commit)
                .into_iter()
                .map(Record::Batch),
        );
    }
    for record in records {
        let place = Place {
            segment,
            offset: from + bytes.len() as u64,
        };
        bytes.extend(encode(&record, place)?);
    }
    Ok(bytes)
}

fn encode(record: &Record, place: Place) -> Result<Vec<u8>, LogError> {
    record
        .encode(place)
        .map_err(|bytes| LogError::TooLarge { bytes })
}

fn open_for_append(folder: &Path, number: u64) -> Result<(PathBuf, File, u64), LogError> {
    let path = segment_path(folder, number);
    let file = OpenOptions::new()
        .append(true)
        .open(&path)
        .map_err(LogError::io("opening", &path))?;
    let bytes = file
        .metadata()
        .map_err(LogError::io("reading", &path))?
        .len();
    Ok((path, file, bytes))
}

/// Parts that each fit a record. A crash between two of them must leave a log that Raft could have had: the term and
/// the vote go with the first one, since entries of a term are never older than it, and the commit index
/// goes with the last one, since it may name the last entry.
fn split(batch: Batch, commit_before: u64) -> Vec<Batch> {
    let weight = |entry: &LogEntry| entry.data.len() + entry.context.len() + 64;
    let early = batch.hard_state.map(|hard_state| HardState {
        commit: commit_before,
        ..hard_state
    });
    let mut parts = vec![Batch::default()];
    let mut filled = 0;
    for entry in batch.entries {
        filled += weight(&entry);
        let part = parts.last_mut().expect("there is always a part");
        if filled > BATCH_BYTES_MAX && !part.entries.is_empty() {
            part.hard_state = early;
            filled = weight(&entry);
            parts.push(Batch {
                entries: vec![entry],
                hard_state: None,
            });
        } else {
            part.entries.push(entry);
        }
    }
    parts.last_mut().expect("there is always a part").hard_state = batch.hard_state;
    parts
}

#[cfg(test)]
pub(in crate::runtime) mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    /// A log whose disk takes every write and confirms none.
    pub(in crate::runtime) fn unconfirming(data: &DataFolder) -> (RaftFile, std::io::PipeReader) {
        let (mut log, _) = RaftFile::open(data, &"main".into(), &"s1".into()).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        log.file = File::from(std::os::fd::OwnedFd::from(writer));
        (log, reader)
    }

    #[test]
    fn after_an_error_the_log_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataFolder::open(folder.path()).unwrap();
        let (mut log, _reader) = unconfirming(&data);
        let persist = Persist {
            hard_state: Some(HardState::default()),
            ..Persist::default()
        };
        assert!(matches!(log.append(&persist), Err(LogError::Sync { .. })));
        let again = std::panic::AssertUnwindSafe(|| log.append(&persist));
        assert!(std::panic::catch_unwind(again).is_err());
    }

    #[test]
    fn a_part_brings_its_term_and_not_yet_its_commit_index() {
        let entry = |index| LogEntry {
            index,
            term: 4,
            kind: 0,
            data: vec![0; 3 << 20],
            context: vec![],
        };
        let hard_state = HardState {
            term: 4,
            vote: 2,
            commit: 9,
        };
        let parts = split(
            Batch {
                entries: (7..=9).map(entry).collect(),
                hard_state: Some(hard_state),
            },
            6,
        );
        let commits: Vec<_> = parts
            .iter()
            .map(|part| part.hard_state.map(|h| (h.term, h.vote, h.commit)))
            .collect();
        assert_eq!(commits, [Some((4, 2, 6)), Some((4, 2, 6)), Some((4, 2, 9))]);
        assert!(parts.iter().all(|part| part.entries.len() == 1));
    }
}
