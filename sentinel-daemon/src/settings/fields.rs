//! Every field of the settings file with its default: what `docs/configuration.md` and the example file are tested against.
//!
//! Defaults are read from the code that applies them, so that a document cannot drift from it unnoticed.

use std::collections::BTreeSet;
use std::time::Duration;

use sentinel_core::config::{ServiceSettings, Timing};

use super::agent::{
    FAST_LIMIT, IMMEDIATE_LIMIT, RESTART_AFTER, SLOTS_KEPT, SMART_LIMIT, START_LIMIT,
};
use super::load::{HTTP_DEFAULT, PEER_DEFAULT, RESP_DEFAULT};

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its table and key, such as `service.down_after`.
    pub path: &'static str,
    /// Its default as the file would spell it; `required` or `none` when it has none.
    pub default: String,
}

/// Every field that the settings file can have, in the order of the example file.
pub fn fields() -> Vec<Field> {
    let mut fields = node_fields();
    fields.extend(service_fields());
    fields.extend(agent_fields());
    fields.extend(timing_fields());
    fields
}

fn node_fields() -> Vec<Field> {
    let timing = Timing::default();
    vec![
        field("node.cluster", "required"),
        field("node.name", "required"),
        field("node.role", "\"voter\""),
        field("node.data_dir", "required"),
        field("node.stale_after", duration(timing.stale_after)),
        field("node.stale_answers", "\"serve\""),
        field("node.announce_resp", "none"),
        field("node.announce_http", "none"),
        field("listen.peer", format!("\"{PEER_DEFAULT}\"")),
        field("listen.resp", format!("\"{RESP_DEFAULT}\"")),
        field("listen.http", format!("\"{HTTP_DEFAULT}\"")),
        field("security.cluster_key_file", "none"),
        field("security.resp_password_file", "none"),
        field("security.admin_token_file", "none"),
    ]
}

fn service_fields() -> Vec<Field> {
    let service = ServiceSettings::new("any".into(), "any".into(), BTreeSet::new());
    vec![
        field("service.name", "required"),
        field("service.engine", "required"),
        field("service.instances", "required"),
        field("service.durability", "\"quorum\""),
        field("service.min_replicas", service.min_replicas.to_string()),
        field("service.quorum", "none"),
        field("service.probe_every", duration(service.probe_every)),
        field("service.down_after", duration(service.down_after)),
        field("service.refused_after", duration(service.refused_after)),
        field("service.action_deadline", duration(service.action_deadline)),
        field("service.freeze_wait", duration(service.freeze_wait)),
        field("service.exclude_after", duration(service.exclude_after)),
        field("service.ack_lag_max", duration(service.ack_lag_max)),
        field("service.restart_delay", duration(service.restart_delay)),
        field("service.parallel_syncs", service.parallel_syncs.to_string()),
        field("service.priorities", "{}"),
        field("service.username", "none"),
        field("service.password_file", "none"),
        field("service.password_env", "none"),
        field("service.password", "none"),
        field("service.database", "\"postgres\""),
        field("service.replication_username", "none"),
        field("service.replication_password_file", "none"),
        field("service.replication_password_env", "none"),
        field("service.replication_password", "none"),
        field("service.replication_passfile", "none"),
        field("service.replication_options", "{}"),
    ]
}

fn agent_fields() -> Vec<Field> {
    vec![
        field("agent.service", "required"),
        field("agent.instance", "required"),
        field("agent.data_dir", "required"),
        field("agent.bin_dir", "none"),
        field("agent.config_file", "none"),
        field("agent.run_by", "\"command\""),
        field("agent.cluster", "none"),
        field("agent.unit", "none"),
        field("agent.user", "none"),
        field("agent.log_file", "none"),
        field("agent.restart_after", duration(RESTART_AFTER)),
        field("agent.start_limit", duration(START_LIMIT)),
        field("agent.smart_limit", duration(SMART_LIMIT)),
        field("agent.fast_limit", duration(FAST_LIMIT)),
        field("agent.immediate_limit", duration(IMMEDIATE_LIMIT)),
        field("agent.diverged_dir", "none"),
        field("agent.slots_kept", duration(SLOTS_KEPT)),
        field("agent.first_settings", "{}"),
    ]
}

fn timing_fields() -> Vec<Field> {
    let timing = Timing::default();
    vec![
        field("timing.raft_tick", duration(timing.raft_tick)),
        field("timing.heartbeat_ticks", timing.heartbeat_ticks.to_string()),
        field(
            "timing.election_ticks_min",
            timing.election_ticks_min.to_string(),
        ),
        field(
            "timing.election_ticks_max",
            timing.election_ticks_max.to_string(),
        ),
        field("timing.contact_fresh", duration(timing.contact_fresh)),
        field("timing.pause_after", duration(timing.pause_after)),
    ]
}

fn field(path: &'static str, default: impl Into<String>) -> Field {
    Field {
        path,
        default: default.into(),
    }
}

fn duration(duration: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(duration))
}
