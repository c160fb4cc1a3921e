#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The Sentinel protocol, byte by byte, against a view made by hand.
//!
//! The wanted bytes were recorded from Redis Sentinel 7.0.15; where they differ from it, the test says why.

mod answers;
mod connections;
mod postgres;
mod real_clients;
mod reference;
mod view;
