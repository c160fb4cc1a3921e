#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The Redis adapter against real servers, through the contract alone.
//!
//! Each test shows one promise of the adapter; none knows the coordinator.

mod copies;
mod keeping;
mod lost_replies;
mod node;
mod roles;
mod silence;
