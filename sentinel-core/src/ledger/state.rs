//! The committed state of every service: what a majority of voters has agreed upon.
//!
//! Plain data. How it changes is `apply.rs`'s knowledge; what follows from it is the planner's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::config::ServiceSettings;
use crate::id::{Epoch, Incarnation, InstanceId, Member, ServiceName, Term, Token};
use crate::observation::WriteQuorum;
use crate::position::{Chain, Lineage, Offset, Position};
use crate::reason::Reason;

/// All services, as of one index of the Raft log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Index of the newest entry that it holds.
    pub index: u64,
    /// Services by name.
    pub services: BTreeMap<ServiceName, ServiceState>,
}

/// One service.
///
/// Invariants: `token` rises with every commit; `floor` never falls within one chain; `configs` is
/// empty only before adoption; in `Promoting` the last element of `chain` has no lineage, and only there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Its settings.
    pub settings: ServiceSettings,
    /// Newest token.
    pub token: Token,
    /// What is going on.
    pub stage: Stage,
    /// The authorised primary, in the incarnation in which it was authorised.
    pub primary: Option<Member>,
    /// The write quorums that may be in force: none before adoption, two during a joint change (rules S3, S8).
    pub configs: Vec<QuorumConfig>,
    /// Lineages of the authorised primaries (rule S1).
    pub chain: Chain,
    /// No candidate below this is promoted (rule S2).
    pub floor: Offset,
    /// Instances told to promote in an epoch that did not complete, in the incarnation that was told (rule S10).
    pub told: BTreeMap<InstanceId, Told>,
    /// Instances that were told in an epoch that another one completed, and were not frozen in that one: what they hold
    /// may bear the name of a history that is not theirs. In this incarnation they are rebuilt, and nothing else (rule S12).
    pub barred: BTreeMap<InstanceId, Incarnation>,
    /// Whom an operator wants as the next primary, while a failover that serves a switchover is under way.
    pub planned: Option<InstanceId>,
    /// All known instances.
    pub instances: BTreeSet<InstanceId>,
    /// What discovery answers: the primary of the last completed change, and its epoch.
    pub answer: Option<Answer>,
    /// Newest decisions, oldest first; bounded by [`HISTORY_MAX`].
    pub history: VecDeque<HistoryEntry>,
}

/// An instance that was told to promote, and of which nobody knows whether it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// In which incarnation.
    pub incarnation: Incarnation,
    /// How far it held the chain when it was told. If it has forked before that, what lay between was no whole record.
    pub start: Offset,
    /// Lineages that it may have begun, each with the offset at which it left the chain. One that was
    /// told twice has left it by two lineages, of which only the first stems from the chain.
    pub branches: BTreeMap<Lineage, Offset>,
}

/// Decisions kept in a service's history.
pub const HISTORY_MAX: usize = 50;

/// Instances that one service may have; more are not discovered.
pub const INSTANCES_MAX: usize = 64;

/// Where a service is in the failover protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// No primary was adopted yet.
    Unadopted,
    /// The primary has its authority, and keeps it without us.
    Steady,
    /// As Steady, and an operator wants another primary: writes are paused until this one has the last byte.
    Switching {
        /// Who is to be primary.
        target: InstanceId,
    },
    /// Members are being frozen; nobody has been told to promote in this epoch.
    Freezing,
    /// The target may have been told to promote.
    Promoting {
        /// Who, in which incarnation.
        target: Member,
        /// Where it was frozen; the promotion is refused at any other position.
        position: Position,
    },
    /// The target is primary; replicas are being re-pointed.
    Repointing,
}

/// One write quorum: `k` of `members` must hold a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumConfig {
    /// Token of the commit that made it.
    pub version: Token,
    /// How many must hold a write.
    pub k: u32,
    /// Who counts, in which incarnation.
    pub members: BTreeMap<InstanceId, Incarnation>,
}

impl QuorumConfig {
    /// Frozen members that seal it: with so many frozen, no `k` unfrozen ones are left.
    pub fn seal_size(&self) -> usize {
        (self.members.len() + 1).saturating_sub(self.k as usize)
    }

    /// The form in which the primary stores it.
    pub fn write_quorum(&self) -> WriteQuorum {
        WriteQuorum {
            version: self.version,
            k: self.k,
            members: self.members.keys().cloned().collect(),
        }
    }
}

/// What discovery answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The primary.
    pub primary: InstanceId,
    /// The epoch in which it became primary.
    pub epoch: Epoch,
}

/// One decision as it was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Token that the service had after it.
    pub token: Token,
    /// Term of the leader that proposed it.
    pub term: Term,
    /// The decision in a word.
    pub decision: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// A decision on one service, as it goes through the Raft log. The commit is the authorisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The service.
    pub service: ServiceName,
    /// The token from which the decision was made; a service that has moved on ignores it.
    pub expect: Option<Token>,
    /// Term of the leader that proposes.
    pub term: Term,
    /// What is decided.
    pub decision: Decision,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What can be decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decision {
    /// Guard a service.
    Add(Box<ServiceSettings>),
    /// These instances were found.
    Discover {
        /// The new ones.
        instances: BTreeSet<InstanceId>,
    },
    /// Take over a primary as it stands, with the replicas that stream from it. Raises the epoch.
    Adopt {
        /// The primary.
        primary: Member,
        /// Its lineage, the first of a new chain.
        position: Position,
        /// The first write quorum.
        members: BTreeMap<InstanceId, Incarnation>,
    },
    /// Begin a switchover: the primary keeps its authority.
    Switch {
        /// Who is to be primary.
        target: InstanceId,
    },
    /// Give a switchover up before its failover began: nothing has changed.
    CallOff {
        /// Why.
        reason: String,
    },
    /// Begin a failover: raises the epoch.
    Freeze,
    /// Give a failover up: the old primary stays (rule S13).
    Abort,
    /// Promote this one.
    Promote {
        /// Who, in which incarnation.
        target: Member,
        /// Where it is frozen.
        position: Position,
        /// Its offset on the chain: the new floor and the start of the new lineage.
        start: Offset,
        /// The new write quorum: members frozen in this epoch, without the target (rule L2).
        members: BTreeMap<InstanceId, Incarnation>,
    },
    /// The target was seen as primary with this lineage: discovery answers it from here on (rule L1).
    Promoted {
        /// The lineage of its writes.
        position: Position,
        /// Where that lineage left the chain: where the target was frozen, or before it.
        fork: Offset,
        /// Instances that may hold an earlier history of the same name, as last seen: barred from now on (rule S12).
        namesakes: BTreeMap<InstanceId, Incarnation>,
    },
    /// The failover is complete.
    Complete,
    /// Begin a joint change of the write quorum (rule S3).
    Change {
        /// The new write quorum's members.
        members: BTreeMap<InstanceId, Incarnation>,
        /// The new `k`.
        k: u32,
        /// What it does, for the events.
        change: Change,
    },
    /// The new write quorum alone is in force.
    FinishChange,
    /// A member's new incarnation has caught up: accept it (rule S4).
    Readmit {
        /// The member in its new incarnation.
        member: Member,
    },
    /// The primary's engine goes on with the same history under another name.
    Rename {
        /// The new lineage, and where the primary was when it was first seen.
        position: Position,
    },
    /// The primary has this write quorum in force, which is none of ours: it counts from now on, until it is replaced.
    Acknowledge {
        /// As read on the primary; members without a known incarnation never count as frozen.
        found: WriteQuorum,
    },
}

/// What a joint change does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A replica enters.
    Admit(InstanceId),
    /// A replica leaves.
    Exclude(InstanceId),
    /// The settings' `k`, or a repair.
    Adjust,
}

impl Decision {
    /// One word for logs and reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Add(_) => "add",
            Self::Discover { .. } => "discover",
            Self::Adopt { .. } => "adopt",
            Self::Switch { .. } => "switch",
            Self::CallOff { .. } => "call_off",
            Self::Freeze => "freeze",
            Self::Abort => "abort",
            Self::Promote { .. } => "promote",
            Self::Promoted { .. } => "promoted",
            Self::Complete => "complete",
            Self::Change {
                change: Change::Admit(_),
                ..
            } => "admit",
            Self::Change {
                change: Change::Exclude(_),
                ..
            } => "exclude",
            Self::Change {
                change: Change::Adjust,
                ..
            } => "adjust",
            Self::FinishChange => "finish_change",
            Self::Readmit { .. } => "readmit",
            Self::Rename { .. } => "rename",
            Self::Acknowledge { .. } => "acknowledge",
        }
    }
}
