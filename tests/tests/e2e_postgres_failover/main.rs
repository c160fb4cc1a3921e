#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Failovers of a real cluster: three nodes that vote and mind a PostgreSQL server each, writers that go on through the
//! fault.
//!
//! Each test ends with the cluster whole again without a hand, and with every acknowledged row on every server.

mod diverged;
mod killed;
mod quorum_lost;
mod standbys;
mod stopped;
