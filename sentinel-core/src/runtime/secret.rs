//! A text that opens something, and shows itself to no log line, error or `Debug` output.
//!
//! Does not know where it comes from: whoever reads settings reads the files and variables that they name.

use std::fmt;
use std::sync::Arc;

/// A secret text. It is shown by [`Secret::reveal`] and by nothing else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_it() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("hunter2"))),
            "Some((secret))"
        );
    }
}
