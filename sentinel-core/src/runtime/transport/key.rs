//! The cluster key: what every node of a cluster knows and nobody else.
//!
//! Does not know how it is proved. It is never shown, whoever asks.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A shorter key could be guessed from one recorded handshake.
const KEY_BYTES_MIN: usize = 16;

/// The secret of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(Arc<[u8]>);

/// Why there is no usable key. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the cluster key file {} cannot be read: {source}; create it with `head -c 32 /dev/urandom | base64`, mode 0600, the same on every node", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("the cluster key file {} has mode {mode:04o}, so that others can read it: run chmod 600 on it", .file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Peers on other machines could not be told from strangers.
    #[error(
        "no cluster key, and peers would be accepted at {listen}: set security.cluster_key_file, or let listen.peer be a loopback address"
    )]
    Needed {
        /// Where peers would be accepted.
        listen: SocketAddr,
    },
    /// Too short to be a secret.
    #[error(
        "the cluster key has {bytes} bytes, fewer than {KEY_BYTES_MIN}: make one with `head -c 32 /dev/urandom | base64`"
    )]
    TooShort {
        /// Bytes found.
        bytes: usize,
    },
}

impl ClusterKey {
    /// Takes the key as it is.
    pub fn new(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < KEY_BYTES_MIN {
            return Err(KeyError::TooShort {
                bytes: secret.len(),
            });
        }
        Ok(Self(secret.into()))
    }

    /// Reads the key from a file that only its owner can read; white space at either end does not count.
    pub fn read(file: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::Unreadable {
            file: file.into(),
            source,
        };
        let mode = fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed {
                file: file.into(),
                mode,
            });
        }
        Self::new(fs::read(file).map_err(unreadable)?.trim_ascii())
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_key_is_read_from_a_private_file_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        assert!(matches!(
            ClusterKey::read(&file),
            Err(KeyError::Unreadable { .. })
        ));
        fs::write(&file, "  0123456789abcdef\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let exposed = ClusterKey::read(&file).unwrap_err().to_string();
        assert_eq!(
            exposed,
            format!(
                "the cluster key file {} has mode 0640, so that others can read it: run chmod 600 on it",
                file.display()
            )
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let key = ClusterKey::read(&file).unwrap();
        assert_eq!(key, ClusterKey::new(b"0123456789abcdef").unwrap());
        assert_eq!(format!("{key:?}"), "ClusterKey(hidden)");
        assert!(matches!(
            ClusterKey::new(b"short"),
            Err(KeyError::TooShort { bytes: 5 })
        ));
    }
}
