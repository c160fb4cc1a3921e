//! What can happen in a simulated run, and where.
//!
//! The place matters because a paused node or a hung server gets its events only when it goes on.

use sentinel_core::action::{Action, Outcome};
use sentinel_core::id::{ActionId, ProbeId};
use sentinel_core::observation::Facts;
use sentinel_core::peer::PeerMessage;
use sentinel_core::position::Lineage;
use sentinel_core::time::Instant;

use super::guard::Promise;
use super::nemesis::Undo;
use super::network::Place;

/// Something that happens at one instant.
#[derive(Debug)]
pub enum Event {
    /// A node's timer.
    Wake { node: usize, life: u32 },
    /// A node's disk has done what it was told.
    Durable { node: usize, life: u32 },
    /// A message arrives from a peer.
    Peer {
        from: usize,
        to: usize,
        sent: Instant,
        message: Box<PeerMessage>,
    },
    /// Traffic between a node and a server.
    Admin(AdminEvent),
    /// Traffic between servers.
    Replication(ReplicationEvent),
    /// Traffic between a guard and a server.
    Guard(GuardEvent),
    /// What only servers of PostgreSQL's shape and their agents do.
    Postgres(PostgresEvent),
    /// The nemesis' next fault.
    Trouble,
    /// A fault ends.
    Undo(Undo),
}

/// One probe or one action of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestId {
    /// A probe.
    Probe(ProbeId),
    /// An action.
    Action(ActionId),
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Request {
    /// Its facts.
    Probe,
    /// To carry this out.
    Action(Box<Action>),
}

/// What a server answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Its facts.
    Facts(Box<Facts>),
    /// What came of the action.
    Outcome(Outcome),
    /// It answers, and not in a way that can be used.
    Rejected(&'static str),
}

/// One administrative connection is one number; each event is at one of its ends.
#[derive(Debug)]
pub enum AdminEvent {
    /// At the server's kernel: a node wants to connect.
    Open { connection: u64 },
    /// At the node: the connection stands.
    Opened { connection: u64, node: usize },
    /// At the node: nobody listens.
    Refused { connection: u64, node: usize },
    /// At the server: the next segment of the stream.
    Asked { connection: u64, instance: usize },
    /// At the node: the next segment of the stream.
    Answered { connection: u64, node: usize },
    /// At the node: the server closed the connection.
    Closed { connection: u64, node: usize },
    /// At the node: a request's deadline passes.
    Deadline {
        node: usize,
        life: u32,
        id: RequestId,
    },
}

/// A link is one number; events of an older link come to nothing.
#[derive(Debug)]
pub enum ReplicationEvent {
    /// At the replica: time to connect.
    Connect { replica: usize, link: u64 },
    /// At the replica: the history up to this offset arrives.
    Data {
        replica: usize,
        link: u64,
        upto: u64,
    },
    /// At the upstream: the replica has acknowledged this much.
    Ack {
        upstream: usize,
        replica: usize,
        link: u64,
        offset: u64,
    },
    /// At the replica: a full sync begins, and its data go.
    SyncBegin { replica: usize, link: u64 },
    /// At the replica: the full sync has arrived.
    SyncDone {
        replica: usize,
        link: u64,
        lineage: Lineage,
        log: Vec<u64>,
    },
    /// At the replica: its link broke.
    Lost { replica: usize, link: u64 },
    /// At the upstream: a replica's link broke.
    Gone {
        upstream: usize,
        replica: usize,
        link: u64,
    },
}

/// What servers of PostgreSQL's shape and their agents do in time.
#[derive(Debug)]
pub enum PostgresEvent {
    /// At a node: its agent is ordered something.
    Act {
        node: usize,
        life: u32,
        action: Box<Action>,
    },
    /// At a node: its agent reports what came of an order.
    Acted {
        node: usize,
        life: u32,
        id: ActionId,
        outcome: Outcome,
    },
    /// At a node: its agent sees the server's process begin or end.
    Note {
        node: usize,
        life: u32,
        instance: usize,
    },
    /// An order that goes on is to be answered before its deadline.
    AnswerDue { id: ActionId },
    /// At the server: a promotion is over.
    Promoted { instance: usize, number: u64 },
    /// At the server: it looks whether everybody has its last record.
    Stopping {
        instance: usize,
        starts: u32,
        looks: u32,
    },
    /// On the server's host: the time of a pause is over, or a moment after that.
    PauseOver { instance: usize, starts: u32 },
    /// On the server's host: a rewind or a copy is over.
    Job { instance: usize, number: u64 },
    /// At the server: a write quorum that was kept back comes into force.
    QuorumAfter { instance: usize },
    /// A person comes by.
    Hand,
}

/// A guard's connection is (guard, number).
#[derive(Debug)]
pub enum GuardEvent {
    /// At the guard: its pace.
    Tick { guard: usize },
    /// At the server: a guard connects and asks who it is.
    Open {
        guard: usize,
        number: u64,
        instance: usize,
    },
    /// At the guard: what the server is; `None` when it is no primary with a write quorum.
    Opened {
        guard: usize,
        number: u64,
        instance: usize,
        promise: Option<Box<Promise>>,
    },
    /// At the server: a write arrives.
    Write {
        guard: usize,
        number: u64,
        instance: usize,
        value: u64,
    },
    /// At the server: a write has waited long enough for its replicas.
    WaitEnd { instance: usize, value: u64 },
    /// At the guard: what became of a write.
    Written {
        guard: usize,
        number: u64,
        instance: usize,
        value: u64,
        offset: Option<u64>,
    },
    /// At the guard: the server closed the connection.
    Closed {
        guard: usize,
        number: u64,
        instance: usize,
    },
}

impl Event {
    /// Whose process must run for this to happen; `None` for kernels, guards and the nemesis.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Wake { node, .. } | Self::Durable { node, .. } => Some(Place::Node(*node)),
            Self::Peer { to, .. } => Some(Place::Node(*to)),
            Self::Admin(event) => event.place(),
            Self::Replication(event) => Some(Place::Instance(event.instance())),
            Self::Guard(event) => event.place(),
            Self::Postgres(event) => event.place(),
            Self::Trouble | Self::Undo(_) => None,
        }
    }

    /// Numbers that tell events apart, for the hash of a run.
    pub fn digest(&self) -> [u64; 3] {
        match self {
            Self::Wake { node, life } => [1, *node as u64, u64::from(*life)],
            Self::Durable { node, life } => [2, *node as u64, u64::from(*life)],
            Self::Peer {
                from, to, message, ..
            } => [3, (*from * 16 + *to) as u64, message_digest(message)],
            Self::Admin(event) => event.digest(),
            Self::Replication(event) => event.digest(),
            Self::Guard(event) => event.digest(),
            Self::Postgres(event) => event.digest(),
            Self::Trouble => [40, 0, 0],
            Self::Undo(_) => [41, 0, 0],
        }
    }
}

fn message_digest(message: &PeerMessage) -> u64 {
    match message {
        PeerMessage::Raft(raft) => {
            (raft.term << 32)
                ^ (raft.index << 16)
                ^ raft.commit.rotate_left(8)
                ^ u64::from(raft.kind.unsigned_abs())
                ^ (raft.entries.len() as u64).rotate_left(56)
        }
        PeerMessage::Opinions(report) => 1 + report.opinions.len() as u64,
        PeerMessage::Table(update) => 1_000 + update.index,
        PeerMessage::Follow { have } => 2_000 + have,
        PeerMessage::Alive => 3_000,
        PeerMessage::Agent(report) => 4_000 + report.instances.len() as u64,
        PeerMessage::Order(order) => 5_000 + order.id.sequence,
        PeerMessage::OrderDone { id, .. } => 6_000 + id.sequence,
    }
}

impl AdminEvent {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Open { .. } => None,
            Self::Asked { instance, .. } => Some(Place::Instance(*instance)),
            Self::Opened { node, .. }
            | Self::Refused { node, .. }
            | Self::Answered { node, .. }
            | Self::Closed { node, .. }
            | Self::Deadline { node, .. } => Some(Place::Node(*node)),
        }
    }

    fn digest(&self) -> [u64; 3] {
        match self {
            Self::Open { connection } => [10, *connection, 0],
            Self::Opened { connection, .. } => [11, *connection, 0],
            Self::Refused { connection, .. } => [12, *connection, 0],
            Self::Asked { connection, .. } => [13, *connection, 0],
            Self::Answered { connection, .. } => [14, *connection, 0],
            Self::Closed { connection, .. } => [15, *connection, 0],
            Self::Deadline { node, life, .. } => [16, *node as u64, u64::from(*life)],
        }
    }
}

impl ReplicationEvent {
    fn instance(&self) -> usize {
        match self {
            Self::Connect { replica, .. }
            | Self::Data { replica, .. }
            | Self::SyncBegin { replica, .. }
            | Self::SyncDone { replica, .. }
            | Self::Lost { replica, .. } => *replica,
            Self::Ack { upstream, .. } | Self::Gone { upstream, .. } => *upstream,
        }
    }

    fn digest(&self) -> [u64; 3] {
        match self {
            Self::Connect { replica, link } => [20, *replica as u64, *link],
            Self::Data { link, upto, .. } => [21, *link, *upto],
            Self::Ack { link, offset, .. } => [22, *link, *offset],
            Self::SyncBegin { replica, link } => [23, *replica as u64, *link],
            Self::SyncDone { link, log, .. } => [24, *link, log.len() as u64],
            Self::Lost { replica, link } => [25, *replica as u64, *link],
            Self::Gone { upstream, link, .. } => [26, *upstream as u64, *link],
        }
    }
}

impl PostgresEvent {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Act { node, .. } | Self::Acted { node, .. } | Self::Note { node, .. } => {
                Some(Place::Node(*node))
            }
            Self::Promoted { instance, .. }
            | Self::Stopping { instance, .. }
            | Self::QuorumAfter { instance } => Some(Place::Instance(*instance)),
            Self::AnswerDue { .. } | Self::PauseOver { .. } | Self::Job { .. } | Self::Hand => None,
        }
    }

    fn digest(&self) -> [u64; 3] {
        match self {
            Self::Act { node, action, .. } => [50, *node as u64, action.id.sequence],
            Self::Acted { node, id, .. } => [51, *node as u64, id.sequence],
            Self::Note { node, instance, .. } => [52, *node as u64, *instance as u64],
            Self::AnswerDue { id } => [53, id.sequence, 0],
            Self::Promoted { instance, number } => [54, *instance as u64, *number],
            Self::Stopping {
                instance, looks, ..
            } => [55, *instance as u64, u64::from(*looks)],
            Self::Job { instance, number } => [56, *instance as u64, *number],
            Self::Hand => [57, 0, 0],
            Self::QuorumAfter { instance } => [58, *instance as u64, 0],
            Self::PauseOver { instance, starts } => [59, *instance as u64, u64::from(*starts)],
        }
    }
}

impl GuardEvent {
    fn place(&self) -> Option<Place> {
        match self {
            Self::Open { instance, .. }
            | Self::Write { instance, .. }
            | Self::WaitEnd { instance, .. } => Some(Place::Instance(*instance)),
            Self::Tick { .. }
            | Self::Opened { .. }
            | Self::Written { .. }
            | Self::Closed { .. } => None,
        }
    }

    fn digest(&self) -> [u64; 3] {
        match self {
            Self::Tick { guard } => [30, *guard as u64, 0],
            Self::Open { guard, number, .. } => [31, *guard as u64, *number],
            Self::Opened { guard, number, .. } => [32, *guard as u64, *number],
            Self::Write { number, value, .. } => [33, *number, *value],
            Self::WaitEnd { value, .. } => [34, *value, 0],
            Self::Written { value, offset, .. } => [35, *value, offset.unwrap_or(0)],
            Self::Closed { guard, number, .. } => [36, *guard as u64, *number],
        }
    }
}
