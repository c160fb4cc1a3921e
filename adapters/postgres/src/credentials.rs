//! Who we are to the data nodes.
//!
//! Does not know where a password comes from: whoever reads settings reads the files and variables that they name.

use sentinel_core::runtime::Secret;

/// A role of the server, and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The role.
    pub username: String,
    /// Its password; `None` where the server asks for none.
    pub password: Option<Secret>,
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
