//! A client that writes through the write guard.
//!
//! Asks the Sentinel endpoints for the primary, or sticks to one server that it knows. Retries nothing.

use sentinel_core::id::InstanceId;
use sentinel_redis::guard::{GuardOptions, PrimarySource, WriteGuard};

use crate::demo::journal::Key;

/// One connection behind a guard of its own.
#[derive(Debug)]
pub(in crate::demo) struct Writer {
    guard: WriteGuard,
}

impl Writer {
    /// A client of this service; connects by itself.
    pub(super) fn new(service: &str, source: PrimarySource) -> Self {
        let guard = WriteGuard::new(GuardOptions::new(service.into(), source));
        Self { guard }
    }

    /// Sends the write once: what failed is not retried under its key, so that every acknowledgement stands for one.
    pub(in crate::demo) async fn write(&mut self, key: Key) -> Option<InstanceId> {
        let mut command = redis::cmd("SET");
        command.arg(key.name()).arg(key.value());
        let acked = self.guard.write_attributed(command).await.ok()?;
        Some(acked.primary)
    }
}
