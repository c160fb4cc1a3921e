//! Brings a standby over a fork that it must not cross as it is: its own log from the fork on is moved aside, and the
//! server reads that part from the promoted one.
//!
//! A standby that received a piece of a record which straddles the end of the fork's segment stops replicating or exits
//! (the measured region is in `hazard`). One that is started with whole records beyond the fork replays them, and then
//! cannot follow at all. Both are avoided by the same act, which is safe as long as nothing beyond the fork was replayed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::durable;
use super::relation::Parting;
use super::wal::SegmentSize;

/// Moves the segments of the old timeline that hold a byte beyond the fork out of the data folder; gives how many. The
/// server must be stopped.
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
            .is_some_and(|(timeline, segment)| timeline == parting.timeline && segment >= first);
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
    fn only_the_old_timeline_from_the_fork_on_is_moved() {
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
        assert_eq!(moved, 2);
        for name in [
            "00000001000000000000000A",
            "00000002000000000000000B",
            "00000002.history",
        ] {
            assert!(pg_wal.join(name).exists(), "{name}");
        }
        assert!(aside.join("00000001000000000000000C").exists());
    }
}
