//! The write guard: a client that reports a write as acknowledged only when enough named replicas hold it.
//!
//! `WAIT` counts whoever is connected; the guard counts the members that the primary's own record
//! names (rules S7, S8, S17). One hop a file: `source` says where the primary is, `handshake` reads
//! whom to count, `round` is one pipeline of writes with their check, `count` judges the check, `fate`
//! says what an error means for the data, and `flight` runs one connection from first to last round.

mod count;
mod error;
mod fate;
mod flight;
mod handshake;
mod options;
mod pursuit;
mod queue;
mod reading;
mod request;
mod round;
mod screen;
mod sentinels;
mod source;
mod wire;
mod write_guard;

pub use error::{Fate, NotAllowed, QuorumFault, Trouble, UnknownCause, WriteError};
pub use options::{GuardOptions, Timeouts};
pub use source::{PrimaryAddress, PrimarySource};
pub use write_guard::{Acknowledged, WriteGuard};
