//! Passwords for the data nodes, and where they come from: a literal, a file or the environment.
//!
//! Decides when a file is too readable to hold a secret. A secret shows itself to the connection
//! alone, never to `Debug`, a log line or an error.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// A password, and the user whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user; `None` is the default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Secret,
}

/// Why a secret could not be loaded. Nothing is left behind; the settings are at fault.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or not readable for us.
    #[error(
        "password file {path}: cannot be read; check the path, and that it belongs to the user of this process"
    )]
    Unreadable {
        /// The file as named in the settings.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read or change the file.
    #[error("password file {path}: mode {mode:04o} lets others at it; run chmod 0600 {path}")]
    Exposed {
        /// The file as named in the settings.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The environment has no such variable, or it is not text.
    #[error("environment variable {0}: not set, or not UTF-8; export it before the start")]
    NoVariable(String),
    /// There is nothing in it. An empty password would be sent, and accepted by a server without one.
    #[error("{0}: holds no password; write the password into it, or remove the setting")]
    Empty(String),
}

impl Secret {
    /// Wraps a literal.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Reads a file that only its owner may read; a newline at the end is not part of the secret.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mode = std::fs::metadata(path)
            .map_err(unreadable)?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let text = text.trim_end_matches(['\n', '\r']);
        Self::unless_empty(text, || format!("password file {}", path.display()))
    }

    /// Reads an environment variable.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn from_environment(name: &str) -> Result<Self, SecretError> {
        let text = std::env::var(name).map_err(|_| SecretError::NoVariable(name.to_owned()))?;
        Self::unless_empty(&text, || format!("environment variable {name}"))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    fn unless_empty(text: &str, source: impl FnOnce() -> String) -> Result<Self, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty(source()));
        }
        Ok(Self::new(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::fs::Permissions;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn debug_hides_the_secret() {
        let credentials = Credentials {
            username: Some("sentinel".into()),
            password: Secret::new("hunter2"),
        };
        let text = format!("{credentials:?}");
        assert!(
            text.contains("sentinel") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[test]
    fn a_file_gives_its_line() {
        for mode in [0o600, 0o400] {
            let file = file("hunter2\n", mode);
            assert_eq!(
                Secret::from_file(file.path()).unwrap(),
                Secret::new("hunter2")
            );
        }
    }

    #[test]
    fn bad_sources_name_the_remedy() {
        let exposed = file("hunter2", 0o644);
        let empty = file("\n", 0o600);
        for (error, wanted) in [
            (Secret::from_file(exposed.path()), "chmod 0600"),
            (Secret::from_file(empty.path()), "holds no password"),
            (
                Secret::from_file(Path::new("/nowhere")),
                "password file /nowhere",
            ),
            (
                Secret::from_environment("SENTINEL_NO_SUCH_VARIABLE"),
                "SENTINEL_NO_SUCH_VARIABLE",
            ),
        ] {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(wanted) && !text.contains("hunter2"), "{text}");
        }
    }
}
