//! The data folder: made once, held by one process, with the node's identity in it, and with a mark
//! that says whether a log was ever begun here.
//!
//! Does not know what else is kept there; whoever holds a [`DataFolder`] is alone in it.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::durable::{sync_contents, sync_names};
use super::error::LogError;

const MYID_DIGITS: usize = 40;
/// Beside `raft/` and not in it: it tells of a log also when the whole of `raft/` is gone.
const LOG_MARK: &str = "has_log";
/// A lock outlives its holder by a moment: a process that the holder is about to start has a copy of it until it
/// runs its own program, and a write that is under way keeps it to its end.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A data folder that this process alone uses, until the value and every log opened in it are dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    myid: String,
    lock: Lock,
}

/// Holds the folder; the kernel gives it back when the process ends, however it ends.
#[derive(Clone, Debug)]
pub(super) struct Lock {
    _file: Arc<File>,
}

impl DataFolder {
    /// Makes the folder if there is none, takes its lock, and reads or draws the node's identity.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        make_folder(path)?;
        let lock = lock(path)?;
        let myid = match fs::read_to_string(path.join("myid")) {
            Ok(text) => known_identity(path, &text)?,
            Err(error) if error.kind() == ErrorKind::NotFound => new_identity(path)?,
            Err(error) => return Err(LogError::io("reading", path.join("myid"))(error)),
        };
        Ok(Self {
            path: path.into(),
            myid,
            lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For whoever writes into the folder, possibly longer than this value lives.
    pub(super) fn lock(&self) -> Lock {
        self.lock.clone()
    }

    /// Whether a log was ever begun in this folder, and so must still be there.
    pub(super) fn has_log(&self) -> Result<bool, LogError> {
        let mark = self.path.join(LOG_MARK);
        mark.try_exists().map_err(LogError::io("reading", mark))
    }

    /// Remembers for the life of the folder that it has a log. Only that the mark is there counts, not what is in it.
    pub(super) fn mark_log(&self) -> Result<(), LogError> {
        let path = self.path.join(LOG_MARK);
        if !self.has_log()? {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(LogError::io("creating", &path))?;
        }
        // Also for a mark that is there already: a start that crashed may have left its name in the page cache only.
        sync_names(&self.path)
    }

    /// 40 hex digits that stay the same for the life of the folder.
    pub fn myid(&self) -> &str {
        &self.myid
    }
}

/// Makes a folder that only its owner can look into, with its name durable. One that exists stays as it is,
/// unless everybody can write into it: then nothing in it can be believed.
pub(super) fn make_folder(path: &Path) -> Result<(), LogError> {
    if path.is_dir() {
        return check_mode(path);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(LogError::io("creating", path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_names(parent),
        Some(_) | None => sync_names(Path::new(".")),
    }
}

fn check_mode(folder: &Path) -> Result<(), LogError> {
    let metadata = fs::metadata(folder).map_err(LogError::io("reading", folder))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o002 != 0 {
        return Err(LogError::WritableByAll {
            folder: folder.into(),
            mode,
        });
    }
    if mode & 0o077 != 0 {
        tracing::warn!(
            "data folder {} has mode {mode:04o}, so that others than its owner can look into it: run chmod 700 on it",
            folder.display()
        );
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<Lock, LogError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(LogError::io("opening", &path))?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => {
                return Ok(Lock {
                    _file: Arc::new(file),
                });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(LogError::io("locking", path)(error)),
        }
    }
    Err(LogError::InUse {
        folder: folder.into(),
    })
}

fn known_identity(folder: &Path, text: &str) -> Result<String, LogError> {
    let digits = text.trim_end();
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if digits.len() == MYID_DIGITS && digits.bytes().all(is_digit) {
        return Ok(digits.into());
    }
    Err(LogError::Identity {
        file: folder.join("myid"),
    })
}

/// Written under another name first: a crash in between must not leave half an identity.
fn new_identity(folder: &Path) -> Result<String, LogError> {
    let digits =
        rand::random::<[u8; MYID_DIGITS / 2]>()
            .iter()
            .fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("writing to a string does not fail");
                text
            });
    let unfinished = folder.join("myid.new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(LogError::io("creating", &unfinished))?;
    file.write_all(format!("{digits}\n").as_bytes())
        .map_err(LogError::io("writing", &unfinished))?;
    sync_contents(&file, &unfinished)?;
    fs::rename(&unfinished, folder.join("myid")).map_err(LogError::io("renaming", &unfinished))?;
    sync_names(folder)?;
    Ok(digits)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_identity_is_drawn_once_and_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data/of/s1");
        let first = DataFolder::open(&path).unwrap().myid().to_owned();
        assert_eq!(DataFolder::open(&path).unwrap().myid(), first);
        assert_eq!(first.len(), 40);
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("myid")), 0o600);
    }

    #[test]
    fn a_folder_that_everybody_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let set = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
        for mode in [0o777, 0o1777, 0o702] {
            set(mode).unwrap();
            let shown = mode & 0o777;
            assert_eq!(
                DataFolder::open(folder.path()).unwrap_err().to_string(),
                format!(
                    "data folder {} has mode {shown:04o}, so that everybody on this machine can alter what this node promised: run chmod 700 on it",
                    folder.path().display()
                )
            );
            assert!(!folder.path().join("lock").exists());
        }
        for mode in [0o755, 0o770, 0o700] {
            set(mode).unwrap();
            DataFolder::open(folder.path()).unwrap();
            assert_eq!(self::mode(folder.path()), mode);
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path()).unwrap();
        let error = DataFolder::open(folder.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "data folder {} is in use by another process: stop it, or give each node its own data_dir",
                folder.path().display()
            )
        );
        drop(first);
        DataFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn half_an_identity_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("myid"), "abc\n").unwrap();
        let error = DataFolder::open(folder.path()).unwrap_err();
        assert!(matches!(error, LogError::Identity { .. }));
    }
}
