//! Passwords for the data nodes. A secret shows itself to the connection alone, never to `Debug`, a log line or an error.
//!
//! Does not know where they come from: whoever reads settings reads the files and variables that they name.

use std::fmt;
use std::sync::Arc;

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// A role of the server, and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The role.
    pub username: String,
    /// Its password; `None` where the server asks for none.
    pub password: Option<Secret>,
}

impl Secret {
    /// Wraps a literal.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_secret() {
        let credentials = Credentials {
            username: "sentinel".into(),
            password: Some(Secret::new("hunter2")),
        };
        let text = format!("{credentials:?}");
        assert!(
            text.contains("sentinel") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
