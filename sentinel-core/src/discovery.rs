//! The view that answers are rendered from: what one node knows, in one immutable value.
//!
//! Built by the machine whenever something in it changes, read by any number of front ends without a
//! lock. Addresses and epochs in it are committed; health and facts are this node's own observation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{NodeRole, ServiceSettings};
use crate::detector::Health;
use crate::id::{ClusterName, Epoch, InstanceId, Member, NodeName, ServiceName, Term, Token};
use crate::ledger::HistoryEntry;
use crate::observation::Facts;
use crate::peer::AgentState;
use crate::position::ChainElement;
use crate::reason::Reason;
use crate::time::Instant;

/// Everything that a node can answer.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The cluster.
    pub cluster: ClusterName,
    /// The node that made the view.
    pub node: NodeName,
    /// What it is.
    pub role: NodeRole,
    /// The Raft leader, if this node knows one.
    pub leader: Option<NodeName>,
    /// Newest term that this node knows.
    pub term: Term,
    /// When this node last heard from a leader, or, leading itself, from a majority; `None` if never.
    pub leader_heard: Option<Instant>,
    /// From which silence on an answer is stale.
    pub stale_after: Duration,
    /// All voters, this node included if it votes.
    pub voters: BTreeMap<NodeName, PeerView>,
    /// All guarded services.
    pub services: BTreeMap<ServiceName, Arc<ServiceView>>,
}

/// What is known of a voter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Where its endpoints are, as it announced them.
    pub announced: Announced,
    /// When this node last heard from it; `None` if never, and for this node itself.
    pub heard: Option<Instant>,
}

/// Where a node's endpoints are, as it announces them to its peers when they connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Announced {
    /// Address of the Sentinel protocol.
    pub resp: Option<InstanceId>,
    /// Address of HTTP.
    pub http: Option<InstanceId>,
    /// 40 hex digits, kept in the node's data folder.
    pub myid: String,
}

/// Whether an answer can be trusted to be current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A leader was heard within `stale_after`.
    Fresh,
    /// The table is as of so long ago; `None` if no leader was ever heard.
    Stale(Option<Duration>),
}

impl View {
    /// Judges the view at the moment of the answer.
    pub fn freshness(&self, now: Instant) -> Freshness {
        match self.leader_heard {
            None => Freshness::Stale(None),
            Some(heard) if now.since(heard) > self.stale_after => {
                Freshness::Stale(Some(now.since(heard)))
            }
            Some(_) => Freshness::Fresh,
        }
    }
}

/// One service as a node knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// Its committed settings.
    pub settings: ServiceSettings,
    /// Token of its newest commit.
    pub token: Token,
    /// What is going on.
    pub stage: StageView,
    /// The answer: the primary of the last completed change; `None` before the first.
    pub primary: Option<InstanceId>,
    /// Epoch of the answer.
    pub primary_epoch: Epoch,
    /// Who has the authority to be primary, in which incarnation. From the decision to promote somebody on it is the
    /// target, which is not the answer yet: then nobody is both.
    pub authorised: Option<Member>,
    /// The lineages of all authorised primaries, oldest first.
    pub lineages: Vec<ChainElement>,
    /// `k` of the newest write quorum.
    pub write_quorum_k: u32,
    /// Instances whose acknowledgement counts (of every configuration in force).
    pub write_quorum_members: BTreeSet<InstanceId>,
    /// All known instances, the primary included.
    pub instances: BTreeMap<InstanceId, InstanceView>,
    /// Voters that think that the primary is down, as this node knows; complete on the leader only.
    pub witnesses: BTreeSet<NodeName>,
    /// How many of them make a verdict.
    pub verdict_quorum: u32,
    /// Why the leader does what it does, or does nothing; empty on other nodes.
    pub report: Vec<Reason>,
    /// What would keep the next failover from succeeding, were the primary lost now; empty when nothing would.
    pub blockers: Vec<Reason>,
    /// The newest committed decisions, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// What is going on in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageView {
    /// No primary was ever adopted.
    Unadopted,
    /// Nothing.
    Steady,
    /// A switchover: writes are paused until this instance has the last byte.
    Switching(InstanceId),
    /// A failover: replicas are being frozen.
    Freezing,
    /// A failover: this instance is being promoted.
    Promoting(InstanceId),
    /// A failover: the new primary is known, replicas are being re-pointed.
    Repointing,
}

/// One instance as a node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// What this node thinks of it.
    pub health: Health,
    /// Since when it thinks so.
    pub health_since: Instant,
    /// What it last said of itself. Refreshed with changes, and at least once a second.
    pub facts: Option<Facts>,
    /// When it said so.
    pub facts_at: Option<Instant>,
    /// The last probe that failed without telling whether it is down, for instance a wrong password.
    pub rejected: Option<String>,
    /// What the agent on its host is doing, if one was heard lately.
    pub agent: Option<AgentState>,
}
