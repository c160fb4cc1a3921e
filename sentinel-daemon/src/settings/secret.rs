//! The files and variables that hold secrets.
//!
//! Judges a secret file by its permissions and its length. Does not know what a secret opens.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sentinel_core::runtime::Secret;

/// Longest content of a secret file in bytes; more is the wrong file.
const SECRET_BYTES_MAX: u64 = 4096;

/// Why a secret cannot be had. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}: create it, readable by this user alone", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Group or others have rights on it.
    #[error("{} has mode {mode:04o}, so others can read or write it: run `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is empty, too long or no text.
    #[error("{} holds no usable secret ({problem}): write one line of text into it", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The environment variable is not set, or no text.
    #[error("environment variable `{variable}` is not set: set it, or use password_file")]
    Unset {
        /// The variable.
        variable: String,
    },
}

/// Reads a password from a file that only its owner can read. A line end after it is no part of it.
pub fn read_secret_file(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let unusable = |problem| SecretError::Unusable {
        path: path.to_owned(),
        problem,
    };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that what is judged is what is read.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(unusable("longer than 4096 bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| unusable("not UTF-8 text"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(unusable("empty"));
    }
    Ok(Secret::new(text))
}

/// Reads a password from the environment.
pub(super) fn read_secret_variable(variable: &str) -> Result<Secret, SecretError> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => Ok(Secret::new(text)),
        Ok(_) | Err(_) => Err(SecretError::Unset {
            variable: variable.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use super::*;

    fn secret_file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_private_file_is_read_without_its_line_end() {
        let (_folder, path) = secret_file(b"hunter2\n", 0o600);
        assert_eq!(read_secret_file(&path).unwrap().reveal(), "hunter2");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_folder, path) = secret_file(b"hunter2\n", 0o640);
        let error = read_secret_file(&path).unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: 0o640, .. }));
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn empty_and_endless_ones_are_refused() {
        let (_folder, path) = secret_file(b"\n", 0o600);
        assert!(matches!(
            read_secret_file(&path).unwrap_err(),
            SecretError::Unusable {
                problem: "empty",
                ..
            }
        ));
        let (_folder, path) = secret_file(&[b'x'; 5000], 0o600);
        assert!(matches!(
            read_secret_file(&path).unwrap_err(),
            SecretError::Unusable { .. }
        ));
    }
}
