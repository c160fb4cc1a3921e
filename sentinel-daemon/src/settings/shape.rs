//! The shape of the settings file as serde reads it: which tables, which keys, which types.
//!
//! Does not know defaults, relations or files. An absent key is `None`; what that means is decided in `load.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sentinel_core::config::NodeRole;
use sentinel_core::id::InstanceId;
use serde::Deserialize;

use super::values::{
    DurationText, InstanceText, ListenText, NameText, OneOrMany, RunBy, SecretText,
};
use crate::source::StaleAnswers;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileShape {
    pub(super) node: NodeShape,
    #[serde(default)]
    pub(super) listen: ListenShape,
    #[serde(default)]
    pub(super) voters: BTreeMap<NameText, InstanceText>,
    #[serde(default)]
    pub(super) security: SecurityShape,
    #[serde(default)]
    pub(super) timing: TimingShape,
    #[serde(default)]
    pub(super) service: Vec<ServiceShape>,
    #[serde(default)]
    pub(super) agent: OneOrMany<AgentShape>,
}

/// `[node]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeShape {
    pub(super) cluster: NameText,
    pub(super) name: NameText,
    pub(super) role: Option<NodeRole>,
    pub(super) data_dir: PathBuf,
    pub(super) stale_after: Option<DurationText>,
    pub(super) stale_answers: Option<StaleAnswers>,
    pub(super) announce_resp: Option<InstanceText>,
    pub(super) announce_http: Option<InstanceText>,
}

/// `[listen]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenShape {
    pub(super) peer: Option<ListenText>,
    pub(super) resp: Option<ListenText>,
    pub(super) http: Option<ListenText>,
}

/// `[security]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecurityShape {
    pub(super) cluster_key_file: Option<PathBuf>,
    pub(super) resp_password_file: Option<PathBuf>,
    pub(super) admin_token_file: Option<PathBuf>,
}

/// `[timing]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimingShape {
    pub(super) raft_tick: Option<DurationText>,
    pub(super) heartbeat_ticks: Option<u32>,
    pub(super) election_ticks_min: Option<u32>,
    pub(super) election_ticks_max: Option<u32>,
    pub(super) contact_fresh: Option<DurationText>,
    pub(super) pause_after: Option<DurationText>,
}

/// `[[service]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceShape {
    pub(super) name: NameText,
    pub(super) engine: NameText,
    pub(super) instances: Vec<InstanceText>,
    pub(super) durability: Option<Durability>,
    pub(super) min_replicas: Option<u32>,
    pub(super) quorum: Option<u32>,
    pub(super) probe_every: Option<DurationText>,
    pub(super) down_after: Option<DurationText>,
    pub(super) refused_after: Option<DurationText>,
    pub(super) action_deadline: Option<DurationText>,
    pub(super) freeze_wait: Option<DurationText>,
    pub(super) exclude_after: Option<DurationText>,
    pub(super) ack_lag_max: Option<DurationText>,
    pub(super) restart_delay: Option<DurationText>,
    pub(super) parallel_syncs: Option<u32>,
    #[serde(default)]
    pub(super) priorities: BTreeMap<InstanceId, u32>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) password: Option<SecretText>,
    pub(super) database: Option<String>,
    pub(super) replication_username: Option<String>,
    pub(super) replication_password_file: Option<PathBuf>,
    pub(super) replication_password_env: Option<String>,
    pub(super) replication_password: Option<SecretText>,
    pub(super) replication_passfile: Option<String>,
    #[serde(default)]
    pub(super) replication_options: BTreeMap<String, String>,
}

/// `[agent]`, or `[[agent]]` where a host has several instances.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentShape {
    pub(super) service: NameText,
    pub(super) instance: InstanceText,
    pub(super) data_dir: PathBuf,
    pub(super) bin_dir: Option<PathBuf>,
    pub(super) config_file: Option<PathBuf>,
    pub(super) run_by: Option<RunBy>,
    pub(super) cluster: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) user: Option<String>,
    pub(super) log_file: Option<PathBuf>,
    pub(super) restart_after: Option<DurationText>,
    pub(super) start_limit: Option<DurationText>,
    pub(super) smart_limit: Option<DurationText>,
    pub(super) fast_limit: Option<DurationText>,
    pub(super) immediate_limit: Option<DurationText>,
    pub(super) diverged_dir: Option<PathBuf>,
    pub(super) slots_kept: Option<DurationText>,
    #[serde(default)]
    pub(super) first_settings: BTreeMap<String, String>,
}

/// When a write counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Durability {
    /// Once `min_replicas` replicas have it.
    Quorum,
    /// Once the primary has it. Known to the file so that its refusal can say more than "unknown value".
    Async,
}
