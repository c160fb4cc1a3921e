//! Watches how much room the disks have that hold the server's data and its log, and says so when one is full.
//!
//! Asks the file system, also while the server does not run: a full disk is the usual reason why it cannot be started, and
//! it does not answer then. Decides nothing; a server whose disk fills up ends by itself and is replaced as any other.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::host::Shared;

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);

/// What a table may grow by at once.
const DATA_ROOM_MIN: u64 = 512 << 10;

/// What a server has whose log holds no file yet.
const SEGMENT: u64 = 16 << 20;

/// What a full disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Data,
    Log,
    Both,
}

/// A disk without room.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Full {
    holds: Holds,
    path: PathBuf,
    left: u64,
    /// What the server asks for at once.
    asked: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, follows) = match self.holds {
            Holds::Data => (
                "its data",
                "writes fail, and the server ends with its next checkpoint: make room on that disk",
            ),
            Holds::Log => (
                "its log",
                "the server ends when it needs the next file of it, and cannot be started: make room on that disk, and \
                 never delete what is in pg_wal",
            ),
            Holds::Both => (
                "its data and its log",
                "writes fail, the server ends, and cannot be started: make room on that disk, and never delete what is \
                 in pg_wal",
            ),
        };
        let (left, asked, path) = (self.left >> 10, self.asked >> 10, self.path.display());
        write!(
            f,
            "the disk that holds {what} (`{path}`) is full: {left} kB are left where it takes {asked} kB at once; {follows}"
        )
    }
}

/// Watches until the agent ends.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let data_dir = shared.settings.data_dir.clone();
        // A disk that hangs lets this wait, and nothing else.
        let looked = tokio::task::spawn_blocking(move || look(&data_dir)).await;
        // A folder that is not there, or is being made, is for others to tell.
        if let Ok(Ok(full)) = looked {
            let full: Vec<String> = full.iter().map(ToString::to_string).collect();
            tell(&shared, (!full.is_empty()).then(|| full.join("; ")));
        }
        tokio::time::sleep(PACE).await;
    }
}

fn tell(shared: &Shared, full: Option<String>) {
    let instance = &shared.settings.instance;
    let before = shared.board.show().full;
    match (&before, &full) {
        (None, Some(problem)) => tracing::warn!(%instance, problem, "a disk is full"),
        (Some(_), None) => tracing::info!(%instance, "the disk that was full has room again"),
        (None, None) | (Some(_), Some(_)) => {}
    }
    if before != full {
        shared.board.update(|status| status.full = full);
    }
}

fn look(data_dir: &Path) -> io::Result<Vec<Full>> {
    // As it is and not as it is linked, so that the text names a place on the disk.
    let [data, log] = [data_dir.to_owned(), data_dir.join("pg_wal")].map(fs::canonicalize);
    let (data, log) = (data?, log?);
    let segment = segment(&log)?;
    if fs::metadata(&data)?.dev() == fs::metadata(&log)?.dev() {
        let both = judge(Holds::Both, data, segment.max(DATA_ROOM_MIN))?;
        return Ok(both.into_iter().collect());
    }
    let found = [
        judge(Holds::Data, data, DATA_ROOM_MIN)?,
        judge(Holds::Log, log, segment)?,
    ];
    Ok(found.into_iter().flatten().collect())
}

fn judge(holds: Holds, path: PathBuf, asked: u64) -> io::Result<Option<Full>> {
    let disk = rustix::fs::statvfs(&path)?;
    // Some file systems count neither blocks nor files, and say zero of all.
    let no_names = disk.f_files > 0 && disk.f_favail == 0;
    let left = match no_names {
        true => 0,
        false => disk.f_bavail.saturating_mul(disk.f_frsize),
    };
    let full = (disk.f_blocks > 0 || no_names) && left < asked;
    Ok(full.then_some(Full {
        holds,
        path,
        left,
        asked,
    }))
}

/// The size of the log's files: that of any of them.
fn segment(log: &Path) -> io::Result<u64> {
    for entry in fs::read_dir(log)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.len() == 24 && name.iter().all(u8::is_ascii_hexdigit) {
            return Ok(entry.metadata()?.len());
        }
    }
    Ok(SEGMENT)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_logs_files_tell_how_much_the_next_one_takes() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(segment(folder.path()).unwrap(), SEGMENT);
        for (name, bytes) in [("00000002.history", 50), ("000000020000000000000007", 4096)] {
            fs::write(folder.path().join(name), vec![0; bytes]).unwrap();
        }
        assert_eq!(segment(folder.path()).unwrap(), 4096);
    }

    #[test]
    fn less_than_is_asked_for_at_once_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let at = || folder.path().to_owned();
        assert_eq!(judge(Holds::Data, at(), 0).unwrap(), None);
        let full = judge(Holds::Log, at(), u64::MAX).unwrap().unwrap();
        let text = full.to_string();
        assert!(text.starts_with("the disk that holds its log"), "{text}");
        assert!(text.contains("make room on that disk"), "{text}");
    }

    #[test]
    fn a_folder_without_a_log_is_for_others_to_tell() {
        let folder = tempfile::tempdir().unwrap();
        assert!(look(folder.path()).is_err());
    }
}
