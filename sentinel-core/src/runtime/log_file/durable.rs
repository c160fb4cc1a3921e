//! The calls that make things durable, each with its own error. None is ever retried.

use std::fs::File;
use std::path::Path;

use super::error::LogError;

/// Waits until the contents and the size of a file are on disk.
pub(super) fn sync_contents(file: &File, path: &Path) -> Result<(), LogError> {
    file.sync_data().map_err(|source| LogError::Sync {
        path: path.into(),
        source,
    })
}

/// Waits until the names in a folder are on disk: a new file's name is not covered by the file's own sync.
pub(super) fn sync_names(folder: &Path) -> Result<(), LogError> {
    let handle = File::open(folder).map_err(LogError::io("opening", folder))?;
    handle.sync_all().map_err(|source| LogError::Sync {
        path: folder.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn an_unconfirmed_write_has_its_own_error() {
        // The kernel refuses to sync a pipe, which is the nearest to a failing disk that every machine has.
        let (_reader, writer) = std::io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        let error = sync_contents(&file, Path::new("raft/1.log")).unwrap_err();
        assert!(matches!(error, LogError::Sync { .. }));
        assert!(
            error
                .to_string()
                .starts_with("the disk did not confirm a write to raft/1.log: ")
        );
    }
}
