//! The ways in which a connection to a server fails, and which evidence each of them is.

use crate::observation::ProbeFailure;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody listens at the address; nothing was sent.
    #[error("connection refused")]
    Refused,
    /// The address leads nowhere: no route, no such name, no answer to the connect. Nothing was sent.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// A connection that stood was closed. What was sent may have been carried out.
    #[error("connection closed: {0}")]
    Broken(String),
    /// The server answered, and will not serve us; the text names the remedy.
    #[error("{0}")]
    Rejected(String),
}

impl From<ConnectionError> for ProbeFailure {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Refused => Self::Refused,
            ConnectionError::Broken(_) => Self::Reset,
            // A host that is gone takes its route and often its name with it: silence, not an answer.
            ConnectionError::Unreachable(_) => Self::TimedOut,
            ConnectionError::Rejected(text) => Self::Rejected(text),
        }
    }
}
