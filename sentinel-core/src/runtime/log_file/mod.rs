//! The data folder of a node and the Raft log file in it (docs/adr/0003-raft-log-file.md).

mod durable;
mod error;
mod folder;
mod raft_file;
mod record;
mod replay;
mod segment;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use folder::DataFolder;
pub use raft_file::RaftFile;
#[cfg(test)]
pub(in crate::runtime) use raft_file::tests::unconfirming;
