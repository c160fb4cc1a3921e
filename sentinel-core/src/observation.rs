//! What a probe found: facts about one instance, or the way in which it did not answer.
//!
//! Adapters fill these in. Nothing here judges: whether a silence means Down is the detector's
//! business, whether an instance may be promoted is the ranking's.

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, InstanceId, ServerId, ServiceName};
use crate::id::{ProbeId, Token};
use crate::position::{Offset, Position};
use crate::time::Deadline;
use std::collections::BTreeSet;

/// Order to look at one instance. The adapter answers exactly once, at the deadline at the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRequest {
    /// Comes back with the observation.
    pub id: ProbeId,
    /// The service to which the instance belongs.
    pub service: ServiceName,
    /// The instance to look at.
    pub instance: InstanceId,
    /// When the answer is too late; later than this it is [`ProbeFailure::TimedOut`].
    pub deadline: Deadline,
}

/// Outcome of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The instance answered.
    Facts(Box<Facts>),
    /// It did not answer in a way that yields facts.
    Failure(ProbeFailure),
}

/// How an instance failed to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFailure {
    /// An established connection was closed or reset by the other side.
    Reset,
    /// Nobody listens at the address (connection refused at once).
    Refused,
    /// No answer until the deadline: silence, which may be a hang, a partition or load.
    TimedOut,
    /// It answered, but not in a way that can be used: wrong password, wrong engine, garbage. The
    /// text names the cause and the remedy, and holds no secret. Counts neither as life nor as refusal.
    Rejected(String),
}

/// What one instance says of itself, in one reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Which life of the instance answered: trust is given to it, and ends with it (rule S4).
    pub incarnation: Incarnation,
    /// Which server process answered.
    pub server: ServerId,
    /// Its role, as the engine reports it.
    pub role: Role,
    /// Where it is in its history; `None` when the engine cannot say so truly (rule S16).
    pub position: Option<Position>,
    /// Where its lineage left the one before: the last position of the parent lineage that is part of it.
    pub fork: Option<Position>,
    /// Whether its data are whole: no first sync, no resync in progress or broken off, not loading.
    pub synced: bool,
    /// Whether it holds any data; tells an empty restart from an ordinary one.
    pub holds_data: bool,
    /// Whether the server can persist what actions set, so that its own restart keeps it.
    pub persistable: Persistable,
    /// Priority for promotion as the instance itself is configured; 0 is never promoted, lower is better.
    pub priority: u32,
    /// The write quorum that is in force on the instance; `None` when none was ever set.
    pub write_quorum: Option<WriteQuorum>,
    /// The replicas that receive from it, as it sees them.
    pub replicas: Vec<ReplicaLink>,
    /// Whether a restart with lost data could wipe the replicas before anybody looks (rule S15).
    pub restart_guard: RestartGuard,
    /// Whether it takes writes, as far as too few replicas are concerned.
    pub writes: Writes,
    /// Up to where a replica's answers go, in the lineage of its position, when it may hold more than it has applied yet;
    /// for readers of the replica, so it decides nothing, and is not sent on.
    #[serde(skip)]
    pub applied: Option<Offset>,
    /// What ails it though it answers, such as a full disk, with what to do; for people, who alone can mend it. Decides
    /// nothing, and is not sent on: every node finds it by its own probes.
    #[serde(skip)]
    pub trouble: Option<String>,
}

/// Role of an instance, in our words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It takes writes, or would.
    Primary,
    /// It receives from somebody, or from nobody when frozen.
    Replica {
        /// From whom it is told to receive.
        upstream: Upstream,
        /// Whether it does.
        link: Link,
    },
}

/// From whom a replica is told to receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upstream {
    /// This instance.
    Instance(InstanceId),
    /// Nobody, by our freeze.
    Frozen,
}

/// State of a replica's link to its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// It streams.
    Streaming,
    /// It copies the whole data set.
    Syncing,
    /// It is not connected.
    Broken,
    /// It cannot go on from its upstream, ever: what follows its own position is gone there. Only a new copy helps.
    Stranded,
}

/// Whether a server keeps over its restart what it is told, and what it acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Persistable {
    /// It does.
    Yes,
    /// It does not. The text says why, and what to change, as the end of a sentence that begins with the instance.
    No(String),
}

/// Whether a server takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writes {
    /// It refuses them by itself while it has too few replicas; nobody needs to tell it.
    Itself,
    /// It takes them, and lets them wait for replicas that may never come.
    Taken,
    /// It was told to refuse them.
    Refused,
}

/// What keeps a primary that restarts empty from wiping its replicas (rule S15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartGuard {
    /// The server delays every full sync by so many milliseconds.
    Delay(u64),
    /// It never restarts with lost data under the same address unnoticed: replicas refuse another data set.
    Unneeded,
    /// Nothing does.
    None,
}

/// One replica as its upstream sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLink {
    /// The replica, at the address that it announces.
    pub instance: InstanceId,
    /// Whether it streams (as opposed to copying the whole data set first).
    pub link: Link,
    /// How far it has acknowledged, in the upstream's own lineage.
    pub acknowledged: Offset,
    /// How far it said that it has applied, when that may be less; not sent on, as [`Facts::applied`].
    #[serde(skip)]
    pub applied: Option<Offset>,
}

/// Which replicas must hold a write before it counts as acknowledged: at least `k` of `members`.
///
/// It is stored on the primary itself, so that a write guard reads it there and nowhere else (rule S8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteQuorum {
    /// Token of the commit that made it; tells two settings apart.
    pub version: Token,
    /// How many members must hold a write.
    pub k: u32,
    /// The instances that count. Incarnations are the coordinator's knowledge, not the server's.
    pub members: BTreeSet<InstanceId>,
}
