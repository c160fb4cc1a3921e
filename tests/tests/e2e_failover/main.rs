#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Failovers of a real cluster: three voters, redis-servers, writers that go on through the fault.
//!
//! Each test ends with the cluster whole again and with every acknowledged write on every server.

mod first_sync;
mod primary;
mod replicas;
mod voters;
