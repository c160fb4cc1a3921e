//! What is agreed: the Raft log, and the table of services that it makes.

pub mod apply;
mod election_timeout;
mod memory_log;
pub mod raft;
mod raft_message;
mod raft_output;
mod raft_start;
pub mod state;

pub use apply::Applied;
pub use state::{
    Answer, Change, Decision, HISTORY_MAX, HistoryEntry, INSTANCES_MAX, Proposal, QuorumConfig,
    ServiceState, Stage, Table, Told,
};
