//! The JSON of the HTTP endpoints, for the server that writes it and the command line that reads it.
//!
//! Plain data. `schema` is raised when a field changes its meaning or goes away; a new field raises nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentinel_core::config::{NodeRole, ServiceSettings};
use sentinel_core::id::{ClusterName, EngineName, InstanceId, NodeName, ServiceName};
use sentinel_core::reason::Reason;
use serde::{Deserialize, Serialize};

/// Newest version of all the objects below.
pub const SCHEMA: u32 = 1;

/// How current an answer is. Part of every object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshnessJson {
    /// No leader was heard for `stale_after`: the answer may be out of date.
    pub stale: bool,
    /// Milliseconds since a leader was last heard, which is the age of the answer; `null` if never.
    pub as_of_ms: Option<u64>,
}

/// `GET /v1/services/{name}/primary`, with status 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The service.
    pub service: ServiceName,
    /// Its primary.
    pub primary: InstanceId,
    /// Epoch of the answer; an answer of a higher epoch is newer.
    pub epoch: u64,
    /// How current it is.
    #[serde(flatten)]
    pub freshness: FreshnessJson,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicesJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// All guarded services, by name.
    pub services: Vec<ServiceJson>,
    /// How current it is.
    #[serde(flatten)]
    pub freshness: FreshnessJson,
}

/// `GET /v1/services/{name}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The service.
    pub service: ServiceName,
    /// Its engine.
    pub engine: EngineName,
    /// `unadopted`, `steady`, `switching`, `freezing`, `promoting` or `repointing`.
    pub stage: String,
    /// Who is to be promoted, in `switching` and `promoting` only.
    pub target: Option<InstanceId>,
    /// The primary of the last completed change; `null` before the first, and where a stale node is set to refuse.
    pub primary: Option<InstanceId>,
    /// Epoch of the answer.
    pub epoch: u64,
    /// Epoch of the newest commit; higher than `epoch` during a failover.
    pub token_epoch: u64,
    /// Number of the newest commit of the service.
    pub token_step: u64,
    /// How many of `write_quorum` must hold a write.
    pub min_replicas: u32,
    /// Whose acknowledgement counts.
    pub write_quorum: BTreeSet<InstanceId>,
    /// Voters that think that the primary is down; complete on the leader only.
    pub witnesses: BTreeSet<NodeName>,
    /// How many of them make a verdict.
    pub quorum: u32,
    /// All known instances.
    pub instances: Vec<InstanceJson>,
    /// The committed settings; absent in the answer of a node that is older than this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsJson>,
    /// What would keep the next failover from succeeding; empty when nothing would.
    pub blockers: Vec<Reason>,
    /// How current it is.
    #[serde(flatten)]
    pub freshness: FreshnessJson,
}

/// Settings of a service as they are committed, so equal on every node. See the settings file for their meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingsJson {
    /// `instances`: where to look first.
    pub instances: BTreeSet<InstanceId>,
    /// `probe_every` in milliseconds.
    pub probe_every_ms: u64,
    /// `down_after` in milliseconds.
    pub down_after_ms: u64,
    /// `refused_after` in milliseconds.
    pub refused_after_ms: u64,
    /// `action_deadline` in milliseconds.
    pub action_deadline_ms: u64,
    /// `freeze_wait` in milliseconds.
    pub freeze_wait_ms: u64,
    /// `exclude_after` in milliseconds.
    pub exclude_after_ms: u64,
    /// `quorum`; `null` is the majority.
    pub quorum: Option<u32>,
    /// `min_replicas`.
    pub min_replicas: u32,
    /// `ack_lag_max` in milliseconds.
    pub ack_lag_max_ms: u64,
    /// `parallel_syncs`.
    pub parallel_syncs: u32,
    /// `restart_delay` in milliseconds.
    pub restart_delay_ms: u64,
    /// `priorities`.
    pub priorities: BTreeMap<InstanceId, u32>,
}

impl From<&ServiceSettings> for SettingsJson {
    fn from(settings: &ServiceSettings) -> Self {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            instances: settings.seeds.clone(),
            probe_every_ms: ms(settings.probe_every),
            down_after_ms: ms(settings.down_after),
            refused_after_ms: ms(settings.refused_after),
            action_deadline_ms: ms(settings.action_deadline),
            freeze_wait_ms: ms(settings.freeze_wait),
            exclude_after_ms: ms(settings.exclude_after),
            quorum: settings.quorum,
            min_replicas: settings.min_replicas,
            ack_lag_max_ms: ms(settings.ack_lag_max),
            parallel_syncs: settings.parallel_syncs,
            restart_delay_ms: ms(settings.restart_delay),
            priorities: settings.priorities.clone(),
        }
    }
}

/// One instance as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceJson {
    /// Its address.
    pub instance: InstanceId,
    /// `unknown`, `up`, `suspect` or `down`.
    pub health: String,
    /// Why it counts as down: `silence`, `refusal`, `restarted` or `not_primary`.
    pub evidence: Option<String>,
    /// For so many milliseconds.
    pub health_ms: u64,
    /// `primary`, `replica` or `frozen`, as it last said of itself; `null` if it never answered.
    pub role: Option<String>,
    /// From whom it receives.
    pub upstream: Option<InstanceId>,
    /// `streaming`, `syncing` or `broken`, for a replica.
    pub link: Option<String>,
    /// Whether its data are whole.
    pub synced: Option<bool>,
    /// Its lineage.
    pub lineage: Option<String>,
    /// Its position in that lineage.
    pub offset: Option<u64>,
    /// Its priority for promotion; 0 is never promoted, lower is better.
    pub priority: Option<u32>,
    /// Age of what it last said, in milliseconds.
    pub facts_ms: Option<u64>,
    /// Why the last probe could not be used, for instance a wrong password.
    pub rejected: Option<String>,
    /// What ails it though it answers, such as a full disk, with what to do; absent when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What the agent on its host does; absent when there is none, or none was heard lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentJson>,
}

/// What an agent does with its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentJson {
    /// Whether the server's process runs; `null` while the agent does not know.
    pub runs: Option<bool>,
    /// What it is busy with, in a few words; empty when with nothing.
    pub doing: String,
}

/// `GET /v1/services/{name}/explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The service.
    pub service: ServiceName,
    /// The node that answers; `report` is empty unless it leads.
    pub node: NodeName,
    /// The leader, which has the report.
    pub leader: Option<NodeName>,
    /// Where the leader's HTTP endpoint is.
    pub leader_http: Option<InstanceId>,
    /// See [`ServiceJson::stage`].
    pub stage: String,
    /// The newest committed decisions, oldest first.
    pub decisions: Vec<DecisionJson>,
    /// Why the leader does what it does, or does nothing.
    pub report: Vec<Reason>,
    /// See [`ServiceJson::blockers`].
    pub blockers: Vec<Reason>,
    /// How current it is.
    #[serde(flatten)]
    pub freshness: FreshnessJson,
}

/// One committed decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionJson {
    /// Epoch of the service after it.
    pub epoch: u64,
    /// Number of the commit.
    pub step: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The decision in a word.
    pub decision: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Version of the daemon.
    pub version: String,
    /// The cluster.
    pub cluster: ClusterName,
    /// The node that answers.
    pub node: NodeName,
    /// Its 40 hex digits.
    pub myid: String,
    /// What it is.
    pub role: NodeRole,
    /// The Raft leader, if the node knows one.
    pub leader: Option<NodeName>,
    /// Where the leader's HTTP endpoint is, if it announced one.
    pub leader_http: Option<InstanceId>,
    /// Newest term that the node knows.
    pub term: u64,
    /// Votes that make a majority.
    pub majority: usize,
    /// All voters.
    pub voters: BTreeMap<NodeName, VoterJson>,
    /// How current it is.
    #[serde(flatten)]
    pub freshness: FreshnessJson,
}

/// One voter as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterJson {
    /// Where it answers the Sentinel protocol, as it announced.
    pub resp: Option<InstanceId>,
    /// Where it answers HTTP, as it announced.
    pub http: Option<InstanceId>,
    /// Its 40 hex digits; empty until it announced them.
    pub myid: String,
    /// Milliseconds since it was last heard; `null` if never, and for the node itself.
    pub heard_ms: Option<u64>,
}

/// Body of `POST /v1/services/{name}/switchover`; an empty body is the same as `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchoverAskJson {
    /// Who is to be primary; the leader chooses when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<InstanceId>,
}

/// `POST /v1/services/{name}/switchover`, with status 200: it is over, and the new primary takes writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchoverJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The service.
    pub service: ServiceName,
    /// Who was primary.
    pub from: Option<InstanceId>,
    /// Who is.
    pub to: InstanceId,
    /// Epoch of the answer from here on.
    pub epoch: u64,
    /// The commit with which it began, as epoch and step with a dot between them.
    pub token: String,
    /// Milliseconds from the request until the new primary took writes. Writes paused for a part of it only.
    pub took_ms: u64,
}

/// Every answer with a status of 400 and more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorJson {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub hint: String,
    /// A stable word for machines, where there are several causes: `unauthorized`, `admin_disabled`, `unknown_service`,
    /// `refused`, `called_off`, `not_leader`, `under_way`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why something was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// Who can do it, with `not_leader`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeName>,
    /// Where its HTTP endpoint is, if it announced one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_http: Option<InstanceId>,
}

impl ErrorJson {
    /// An error without the fields that only some have.
    pub fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            schema: SCHEMA,
            error: error.into(),
            hint: hint.into(),
            code: None,
            reasons: Vec::new(),
            leader: None,
            leader_http: None,
        }
    }
}
