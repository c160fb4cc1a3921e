//! Replaces a small file so that a crash leaves either the old content or the new one.
//!
//! Written beside it, flushed, renamed, and the folder flushed. Knows nothing of what is in the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Only the agent's user reads what the agent keeps.
const PRIVATE: u32 = 0o600;

/// Puts `content` into the file at `path`, durably.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = folder_of(path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = folder.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE)
        .open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    flush_folder(folder)
}

/// Removes a file durably. One that is not there is removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => flush_folder(folder_of(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames durably.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    flush_folder(folder_of(from)?)?;
    flush_folder(folder_of(to)?)
}

/// Copies a file so that it survives a crash; the caller flushes the folder.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let copied = fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    Ok(copied)
}

pub(super) fn flush_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| {
        let text = format!("{} has no folder", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
