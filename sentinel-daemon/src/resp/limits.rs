//! How much one client may ask for, and how many clients there may be.
//!
//! The sizes are far below Redis's own: no command of the Sentinel protocol needs more, and every
//! byte of them is spent on a client that has not proved anything yet.

use std::time::Duration;

/// Arguments of one request.
pub const ARGS_MAX: usize = 64;

/// Bytes of one argument.
pub const BULK_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one inline request, or of one header line.
pub const INLINE_BYTES_MAX: usize = 4 * 1024;

/// Bytes of one whole request.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Channels and patterns of one client, and their bytes together.
pub const SUBSCRIPTIONS_MAX: usize = 1000;
/// See [`SUBSCRIPTIONS_MAX`].
pub const SUBSCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// Answers that are collected before they are written, so that a pipeline costs few writes and a
/// client that does not read costs little memory.
pub const OUTPUT_BYTES_BATCH: usize = 64 * 1024;

/// Messages that a slow subscriber may fall behind before its connection is dropped.
pub const BACKLOG_MESSAGES_MAX: usize = 1024;

/// Limits that an operator may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time. 1000.
    pub connections_max: usize,
    /// A client that takes none of its answers for so long is dropped. 10 s.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            write_timeout: Duration::from_secs(10),
        }
    }
}
