//! Peers over TCP: who they are, that they know the cluster key, and that every frame is theirs
//! (docs/adr/0004-peer-transport.md).

mod complaint;
mod connection;
mod dialer;
mod error;
mod handshake;
mod key;
mod listener;
mod outbox;
mod peers;
mod proof;

#[cfg(test)]
mod tests;

pub use complaint::Complaint;
pub use error::{PeerError, Refusal};
pub use handshake::Local;
pub use key::{ClusterKey, KeyError};
pub use peers::Peers;
