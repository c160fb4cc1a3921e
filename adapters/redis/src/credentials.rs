//! Who we are to the data nodes.
//!
//! Does not know where a password comes from: whoever reads settings reads the files and variables that they name.

use sentinel_core::runtime::Secret;

/// A password, and the user whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The ACL user; `None` is the default user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Secret,
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
