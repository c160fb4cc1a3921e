#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The PostgreSQL adapter against real servers, through the contract alone.
//!
//! Each test shows one promise of the adapter; none knows the coordinator. No agent runs.

mod full_disk;
mod node;
mod probes;
mod roles;
mod settings;
mod stranded;
mod trouble;
