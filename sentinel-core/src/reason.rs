//! Reasons: why something was decided, or was not.
//!
//! A code for machines and a sentence for people. Every plan carries some, and so does every refusal to plan.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable word for machines, such as `veto_first_sync`.
    pub code: String,
    /// One sentence for people, with names and numbers.
    pub text: String,
}

impl Reason {
    /// A reason with its code and sentence.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
