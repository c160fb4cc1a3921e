#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The agent on real servers: it starts, stops and minds them, and turns deposed primaries into standbys.
//!
//! Most agents live in the test's own process; one of those that is killed is its runtime torn down in the middle of what
//! it does, with its tools, as a kill of its process group would. Where it matters, the agent is a node's (`node.rs`).

mod authority;
mod client;
mod debian;
mod killed;
mod minded;
mod minding;
mod node;
mod overtaken;
mod pausing;
mod rebuilding;
mod rejoining;
mod showing;
mod slots;
mod stalling;
mod stopping;
mod unit;
