#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The agent on real servers: it starts, stops and minds them, and turns deposed primaries into standbys.
//!
//! Agents live in the test's own process; one that is killed is its runtime torn down in the middle of what it does, with
//! its tools, as a kill of its process group would. Killing the daemon is the business of the failover tests.

mod authority;
mod minded;
mod minding;
mod rebuilding;
mod rejoining;
mod slots;
mod stalling;
mod stopping;
