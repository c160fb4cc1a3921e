//! The password that clients of the Sentinel protocol must give, if one is set.
//!
//! Never shown: not in logs, not in errors, not by `Debug`.

use std::fmt;

use subtle::ConstantTimeEq;

/// A password. Comparing takes the same time wherever a wrong one differs; only its length can be measured.
#[derive(Clone)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Wraps the password as the settings have it.
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(password.into().into_boxed_slice())
    }

    /// Whether the client gave this one.
    pub fn matches(&self, given: &[u8]) -> bool {
        bool::from(self.0.ct_eq(given))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_match() {
        let password = Password::new("correct");
        assert!(password.matches(b"correct"));
        for wrong in ["", "correc", "correct ", "Correct"] {
            assert!(!password.matches(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{password:?}").contains("correct"));
    }
}
