//! What nodes say to one another, and what a node must keep on disk.
//!
//! Own structs for everything: the protobuf types of raft-rs stay inside `ledger/raft.rs`, and go
//! neither on the wire nor to disk.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::action::{ActionKind, Outcome};
use crate::detector::Evidence;
use crate::id::{ActionId, Incarnation, InstanceId, NodeName, ServiceName, Term, Token};
use crate::ledger::Table;

/// A message between two nodes. Who sent it is the transport's knowledge, proved by the cluster key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Raft's own traffic, between voters.
    Raft(RaftMessage),
    /// What a node thinks of the primaries; to the leader, outside the log.
    Opinions(OpinionReport),
    /// The committed table; from a voter to an observer.
    Table(Box<TableUpdate>),
    /// An observer asks a voter for the table from now on; repeated as a sign of life.
    Follow {
        /// Index of the newest table that the observer has.
        have: u64,
    },
    /// A sign of life between voters that have nothing else to say to one another.
    Alive,
    /// A node tells which instances it is the agent of, and what it is doing there; to every voter.
    Agent(AgentReport),
    /// The leader orders something of an instance that the receiver is the agent of.
    Order(Box<OrderMessage>),
    /// What came of it.
    OrderDone {
        /// Of which order.
        id: ActionId,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What a node's agent looks after. Soft state: forgotten unless it is repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// When it was told, in nanoseconds of the agent's own clock. Means nothing to anybody else, and comes back with
    /// each order.
    pub beat: u64,
    /// Instances by service.
    pub instances: BTreeMap<ServiceName, BTreeMap<InstanceId, AgentState>>,
}

/// What an agent does with one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// Whether the server's process runs; `None` while the agent does not know.
    pub runs: Option<bool>,
    /// What the agent is busy with, in a few words for people; empty when nothing.
    pub doing: String,
    /// What only this server had, and is kept since it was made a replica: how much, from where to where, and in which
    /// folder; for people.
    pub kept: Option<String>,
}

/// An action on its way to an agent. An instant means nothing to another node, so the deadline is counted from the
/// agent's own report that the leader heard last: however long the order was on its way, or lay before a node that stood
/// still, it is not begun later than the leader thinks that it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderMessage {
    /// Comes back with the outcome.
    pub id: ActionId,
    /// The report from which the deadline is counted.
    pub beat: u64,
    /// From the moment at which the leader heard that report to the deadline.
    pub within: Duration,
    /// The service to which the instance belongs.
    pub service: ServiceName,
    /// The instance to act upon.
    pub instance: InstanceId,
    /// Fencing token of the commit that authorised the action.
    pub token: Token,
    /// What to do.
    pub kind: ActionKind,
}

/// One node's opinions of the primaries that it thinks to be down. A service that is not named is thought to be up
/// or not known; an opinion expires unless it is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpinionReport {
    /// Opinions by service.
    pub opinions: BTreeMap<ServiceName, Opinion>,
}

/// One node's view of one service's primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opinion {
    /// The primary of which it speaks; an opinion on an earlier primary counts for nothing.
    pub about: InstanceId,
    /// The incarnation of the primary of which it speaks.
    pub incarnation: Incarnation,
    /// What it thinks.
    pub state: OpinionState,
}

/// What one node thinks of a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpinionState {
    /// It answers.
    Up,
    /// It is down, for this reason.
    Down(Evidence),
}

/// The committed table as one voter has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableUpdate {
    /// Term in which the voter heard its leader.
    pub term: Term,
    /// The leader, if the voter knows one.
    pub leader: Option<NodeName>,
    /// How long ago the voter heard from the leader; `None` if it never did.
    pub leader_heard_ago: Option<Duration>,
    /// Raft index of the table; it never goes back.
    pub index: u64,
    /// The table itself; absent when the observer said that it has this index already.
    pub table: Option<Table>,
}

/// A Raft message in our own form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    /// Kind of the message, by raft-rs's number.
    pub kind: i32,
    /// Term of the sender.
    pub term: u64,
    /// Term of the entry before `entries`.
    pub log_term: u64,
    /// Index of the entry before `entries`.
    pub index: u64,
    /// Log entries.
    pub entries: Vec<LogEntry>,
    /// Commit index of the sender.
    pub commit: u64,
    /// Term of the commit index.
    pub commit_term: u64,
    /// A whole snapshot, when the log no longer reaches back far enough.
    pub snapshot: Option<SnapshotRecord>,
    /// Index for which a snapshot is asked.
    pub request_snapshot: u64,
    /// Whether the receiver refused.
    pub reject: bool,
    /// Where the receiver's log may agree.
    pub reject_hint: u64,
    /// Opaque context of elections and reads.
    pub context: Vec<u8>,
    /// Priority of a candidate.
    pub priority: i64,
}

/// One entry of the Raft log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Index; the log has no holes.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
    /// Kind of the entry, by raft-rs's number: 0 is a command, 1 and 2 are changes of the voters.
    pub kind: i32,
    /// The command; empty for a new leader's first entry.
    pub data: Vec<u8>,
    /// Opaque context.
    pub context: Vec<u8>,
}

/// What Raft must never forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Newest term seen.
    pub term: u64,
    /// Raft number of the node voted for in that term; 0 for none.
    pub vote: u64,
    /// Newest index known to be committed.
    pub commit: u64,
}

/// The table at one index, in place of the entries up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Index of the last entry that it holds.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// Raft numbers of the voters at that index.
    pub voters: Vec<u64>,
    /// The encoded table.
    pub data: Vec<u8>,
}

/// What must be durable before any later output is carried out. Parts are written in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// Replaces everything up to its index. Entries after it are kept if the log holds the snapshot's own
    /// entry, in the same term; otherwise the log is empty after it.
    pub snapshot: Option<SnapshotRecord>,
    /// Entries to append; the first one's index replaces any entry from there on.
    pub entries: Vec<LogEntry>,
    /// The newest hard state.
    pub hard_state: Option<HardState>,
}

/// What a node found on its disk at start: the sum of all [`Persist`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Newest snapshot.
    pub snapshot: Option<SnapshotRecord>,
    /// Entries after the snapshot, without holes.
    pub entries: Vec<LogEntry>,
    /// Newest hard state.
    pub hard_state: HardState,
}
