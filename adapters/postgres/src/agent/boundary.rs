//! Brings a standby over a fork that it must not cross as it is: its own log from the fork on is moved aside, and the
//! server reads that part from the promoted one.
//!
//! A standby that received a piece of a record which straddles the end of the fork's segment stops replicating or exits
//! (the measured region is in `hazard`). One that is started with whole records beyond the fork replays them, and then
//! cannot follow at all. One that holds a beginning of the new timeline's file, which ends before the fork, reads that
//! file first and does not start. All are avoided by the same act, which is safe as long as nothing beyond the fork was
//! replayed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::durable;
use super::relation::Parting;
use super::wal::{SegmentSize, segment_file};
use crate::hazard::PAGE;
use crate::history::History;

/// Where a page of the log says which place it begins: behind two numbers of two bytes and the timeline.
const PAGE_ADDRESS_AT: u64 = 8;

/// Whether the folder holds no byte of this timeline beyond its fork, but a file of it that ends before. The log is sent
/// in whole pages where there is more of it, so the page that holds the fork is there or not.
pub(super) fn ends_before_fork(
    data_dir: &Path,
    history: &History,
    segment_size: SegmentSize,
) -> io::Result<bool> {
    let fork = history.fork();
    let name = segment_file(
        history.timeline(),
        segment_size.segment_of(fork),
        segment_size,
    );
    let file = match File::open(data_dir.join("pg_wal").join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let page = fork.0 - fork.0 % PAGE;
    let mut address = [0; 8];
    match file.read_exact_at(&mut address, page % segment_size.0 + PAGE_ADDRESS_AT) {
        Ok(()) => Ok(u64::from_ne_bytes(address) != page),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(error),
    }
}

/// Moves the segments of the old timeline that hold a byte beyond the fork, and unfinished ones of a newer timeline, out
/// of the data folder; gives how many. The server must be stopped.
pub(super) fn move_aside(
    data_dir: &Path,
    parting: Parting,
    segment_size: SegmentSize,
    aside: &Path,
) -> io::Result<usize> {
    let pg_wal = data_dir.join("pg_wal");
    let first = segment_size.segment_of(parting.at);
    let mut moved = 0;
    for entry in fs::read_dir(&pg_wal)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let holds_more = segment_size
            .parse_name(name)
            .is_some_and(|(timeline, segment)| timeline >= parting.timeline && segment >= first);
        if holds_more {
            fs::create_dir_all(aside)?;
            displace(&path, &aside.join(name))?;
            moved += 1;
        }
    }
    durable::flush_folder(&pg_wal)?;
    Ok(moved)
}

/// Renames, or copies and removes where the other folder is on another disk.
fn displace(from: &PathBuf, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            durable::copy(from, to)?;
            fs::remove_file(from)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::history::Timeline;
    use crate::lsn::Lsn;

    #[test]
    fn everything_from_the_fork_on_is_moved() {
        let root = tempfile::tempdir().unwrap();
        let pg_wal = root.path().join("pg_wal");
        let aside = root.path().join("aside");
        fs::create_dir(&pg_wal).unwrap();
        for name in [
            "00000001000000000000000A",
            "00000001000000000000000B",
            "00000001000000000000000C",
            "00000002000000000000000B",
            "00000002.history",
        ] {
            fs::write(pg_wal.join(name), name).unwrap();
        }
        let (timeline, at) = (Timeline(1), Lsn(0xBF_FE78));
        let parting = Parting { timeline, at };
        let moved = move_aside(root.path(), parting, SegmentSize(1 << 20), &aside).unwrap();
        assert_eq!(moved, 3);
        for name in ["00000001000000000000000A", "00000002.history"] {
            assert!(pg_wal.join(name).exists(), "{name}");
        }
        assert!(aside.join("00000001000000000000000C").exists());
    }

    #[test]
    fn a_file_without_the_forks_page_ends_before_the_fork() {
        let root = tempfile::tempdir().unwrap();
        let size = SegmentSize(1 << 20);
        let history = History::parse(Timeline(2), "1\t0/BFFE78\tx").unwrap();
        let ends = || ends_before_fork(root.path(), &history, size).unwrap();
        fs::create_dir(root.path().join("pg_wal")).unwrap();
        assert!(!ends(), "there is no such file");
        let path = root.path().join("pg_wal/00000002000000000000000B");
        let mut bytes = vec![0; 1 << 20];
        fs::write(&path, &bytes).unwrap();
        assert!(ends(), "the page is empty");
        let address = (1 << 20) - 8192 + 8;
        for (page, wanted) in [(0xAF_E000_u64, true), (0xBF_E000, false)] {
            bytes[address..address + 8].copy_from_slice(&page.to_ne_bytes());
            fs::write(&path, &bytes).unwrap();
            assert_eq!(ends(), wanted, "a page that begins at {page:X}");
        }
        fs::write(&path, &bytes[..address]).unwrap();
        assert!(ends(), "the file is short");
    }
}
