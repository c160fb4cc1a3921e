//! The tokio driver: sockets, files, clocks and tasks.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place of this crate that does IO: it carries out what the machine asks for"
)]

pub mod adapter;
mod board;
pub mod clock;
mod driver;
mod handle;
mod hands;
pub mod log_file;
mod questions;
mod secret;
mod start;
mod storage;
pub mod transport;

#[cfg(test)]
mod tests;

pub use adapter::{
    Adapter, AdapterContext, AdapterFactory, AgentNote, ConnectionError, Lines, Stop, Turn, Turns,
};
pub use clock::Clock;
pub use handle::{Handle, NodeStopped, PrimaryAnswer, RunError, Running};
pub use secret::Secret;
pub use start::{PeerListen, StartError, StartOptions, start};
pub use transport::{ClusterKey, KeyError};
