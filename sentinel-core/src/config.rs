//! Settings of a node and of a service, and the relations between them.
//!
//! Everything here is typed and already parsed; where the values come from (a file, a command, an
//! embedding program) is not known here. [`NodeSettings::validate`] and [`ServiceSettings::validate`]
//! refuse what could never work, before any port is bound.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterName, EngineName, InstanceId, NodeName, ServiceName};
use crate::planted::Bugs;

/// Settings of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The cluster; peers of another one are refused.
    pub cluster: ClusterName,
    /// This node.
    pub name: NodeName,
    /// Whether it votes.
    pub role: NodeRole,
    /// All voters, this node included if it votes.
    pub voters: BTreeSet<NodeName>,
    /// Seed of everything that must differ between nodes and never decides anything: election timeouts.
    /// Drawn by the driver once at start; fixed in a simulation.
    pub seed: u64,
    /// Instances on this node's host that it is the agent of.
    pub agent_of: BTreeSet<(ServiceName, InstanceId)>,
    /// Paces and limits.
    pub timing: Timing,
    /// Rules left out on purpose; always empty outside tests.
    pub bugs: Bugs,
}

/// What a node is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Votes in Raft.
    Voter,
    /// Follows and answers only: a sidecar.
    Observer,
}

/// Paces and limits of a node. Defaults are those of the table in `docs/configuration.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Raft's clock: elections and heartbeats happen on its beats. 50 ms.
    pub raft_tick: Duration,
    /// Beats between a leader's heartbeats. 2 (100 ms).
    pub heartbeat_ticks: u32,
    /// Shortest election timeout in beats. 6 (300 ms).
    pub election_ticks_min: u32,
    /// Longest election timeout in beats. 12 (600 ms).
    pub election_ticks_max: u32,
    /// A leader whose majority has been silent for longer does not act. 200 ms; below the shortest election timeout.
    pub contact_fresh: Duration,
    /// An answer is marked stale when no leader was heard for so long. 2 s.
    pub stale_after: Duration,
    /// A gap in the driver's calls longer than this means that the node itself was paused. 500 ms.
    pub pause_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            raft_tick: Duration::from_millis(50),
            heartbeat_ticks: 2,
            election_ticks_min: 6,
            election_ticks_max: 12,
            contact_fresh: Duration::from_millis(200),
            stale_after: Duration::from_secs(2),
            pause_after: Duration::from_millis(500),
        }
    }
}

/// Settings of one guarded service; replicated, so equal on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// Its name.
    pub name: ServiceName,
    /// The engine whose adapter looks after it.
    pub engine: EngineName,
    /// Where to look first; the rest is discovered from the primary.
    pub seeds: BTreeSet<InstanceId>,
    /// Pace of probes. 100 ms.
    pub probe_every: Duration,
    /// Silence for so long is Down. 2 s.
    pub down_after: Duration,
    /// Refusal for so long is Down. 100 ms.
    pub refused_after: Duration,
    /// How long one action may take. 300 ms.
    pub action_deadline: Duration,
    /// How long a failover waits for more replicas to be frozen once it could go on. 300 ms.
    pub freeze_wait: Duration,
    /// A replica that is Down for so long leaves the write quorum. 10 s.
    pub exclude_after: Duration,
    /// Voters that must agree that the primary is down; `None` is the majority.
    pub quorum: Option<u32>,
    /// `k`: replicas that must hold a write before it is acknowledged. 1.
    pub min_replicas: u32,
    /// A replica that has not acknowledged for longer counts as none for the engine's own refusal of writes. 10 s.
    pub ack_lag_max: Duration,
    /// Replicas re-pointed at the same time. 1.
    pub parallel_syncs: u32,
    /// How long a primary's server must delay a full sync, so that an empty restart is seen first (rule S15). 2 s.
    pub restart_delay: Duration,
    /// Priorities that override what instances report; 0 is never promoted.
    pub priorities: BTreeMap<InstanceId, u32>,
}

impl ServiceSettings {
    /// A service with the default paces.
    pub fn new(name: ServiceName, engine: EngineName, seeds: BTreeSet<InstanceId>) -> Self {
        Self {
            name,
            engine,
            seeds,
            probe_every: Duration::from_millis(100),
            down_after: Duration::from_secs(2),
            refused_after: Duration::from_millis(100),
            action_deadline: Duration::from_millis(300),
            freeze_wait: Duration::from_millis(300),
            exclude_after: Duration::from_secs(10),
            quorum: None,
            min_replicas: 1,
            ack_lag_max: Duration::from_secs(10),
            parallel_syncs: 1,
            restart_delay: Duration::from_secs(2),
            priorities: BTreeMap::new(),
        }
    }

    /// How long the answer to one probe may take: three paces, at most half of `down_after`.
    pub fn probe_deadline(&self) -> Duration {
        (self.probe_every * 3).min(self.down_after / 2)
    }

    /// How long an opinion of Down holds without being repeated: two probes and 200 ms.
    pub fn opinion_expiry(&self) -> Duration {
        self.probe_every * 2 + Duration::from_millis(200)
    }

    /// Refuses what could never work with so many voters.
    pub fn validate(&self, voters: usize) -> Result<(), SettingsError> {
        self.validate_pace()?;
        self.validate_replicas()?;
        if let Some(quorum) = self.quorum
            && (quorum == 0 || quorum as usize > voters)
        {
            return self.refuse(
                "quorum",
                format!("is {quorum} with {voters} voters"),
                "use 1 to the number of voters",
            );
        }
        Ok(())
    }

    /// Where and how fast the service is watched.
    fn validate_pace(&self) -> Result<(), SettingsError> {
        if self.seeds.is_empty() {
            return self.refuse(
                "instances",
                "is empty".into(),
                "name at least the primary, as host:port",
            );
        }
        if self.probe_every < Duration::from_millis(10) {
            return self.refuse(
                "probe_every",
                format!("is {}", ms(self.probe_every)),
                "use 10 ms or more",
            );
        }
        if self.down_after < self.probe_every * 2 {
            let problem = format!(
                "is {}, shorter than two probes of {}",
                ms(self.down_after),
                ms(self.probe_every)
            );
            return self.refuse(
                "down_after",
                problem,
                "raise down_after or lower probe_every",
            );
        }
        if self.refused_after > self.down_after {
            let problem = format!(
                "is {}, longer than down_after ({})",
                ms(self.refused_after),
                ms(self.down_after)
            );
            return self.refuse(
                "refused_after",
                problem,
                "lower it; refusal is the stronger evidence",
            );
        }
        if self.action_deadline < Duration::from_millis(20)
            || self.action_deadline > Duration::from_secs(5)
        {
            return self.refuse(
                "action_deadline",
                format!("is {}", ms(self.action_deadline)),
                "use 20 ms to 5 s",
            );
        }
        Ok(())
    }

    /// How many replicas a write needs, and how they catch up.
    fn validate_replicas(&self) -> Result<(), SettingsError> {
        if self.min_replicas == 0 {
            return self.refuse(
                "min_replicas",
                "is 0".into(),
                "use 1 or more; with 0 an acknowledged write has one copy",
            );
        }
        if self.ack_lag_max < Duration::from_secs(1) || self.ack_lag_max.subsec_nanos() != 0 {
            return self.refuse(
                "ack_lag_max",
                format!("is {}", ms(self.ack_lag_max)),
                "use whole seconds, 1 s or more",
            );
        }
        if self.parallel_syncs == 0 {
            return self.refuse("parallel_syncs", "is 0".into(), "use 1 or more");
        }
        if self.restart_delay < Duration::from_secs(1) || self.restart_delay.subsec_nanos() != 0 {
            return self.refuse(
                "restart_delay",
                format!("is {}", ms(self.restart_delay)),
                "use whole seconds, 1 s or more",
            );
        }
        Ok(())
    }

    fn refuse(
        &self,
        field: &'static str,
        problem: String,
        remedy: &'static str,
    ) -> Result<(), SettingsError> {
        Err(SettingsError {
            service: Some(self.name.clone()),
            field,
            problem,
            remedy,
        })
    }
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

impl NodeSettings {
    /// Refuses what could never work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let fail = |field: &'static str, problem: String, remedy: &'static str| {
            Err(SettingsError {
                service: None,
                field,
                problem,
                remedy,
            })
        };
        let timing = &self.timing;
        if self.voters.is_empty() {
            return fail(
                "voters",
                "is empty".into(),
                "list every voter with its peer address",
            );
        }
        match self.role {
            NodeRole::Voter if !self.voters.contains(&self.name) => {
                return fail(
                    "node.name",
                    format!("`{}` is no voter", self.name),
                    "list it in [voters], or set role = \"observer\"",
                );
            }
            NodeRole::Observer if self.voters.contains(&self.name) => {
                return fail(
                    "node.role",
                    format!("is observer, and [voters] lists `{}`", self.name),
                    "set role = \"voter\", or take it off [voters]",
                );
            }
            NodeRole::Voter | NodeRole::Observer => {}
        }
        if timing.election_ticks_min <= timing.heartbeat_ticks
            || timing.election_ticks_max <= timing.election_ticks_min
        {
            return fail(
                "timing",
                "election timeouts do not exceed the heartbeat".into(),
                "use heartbeat < shortest < longest election timeout",
            );
        }
        if timing.contact_fresh >= timing.raft_tick * timing.election_ticks_min {
            return fail(
                "timing",
                "contact_fresh reaches the shortest election timeout".into(),
                "lower it: a deposed leader must have stopped acting before the next one begins",
            );
        }
        Ok(())
    }
}

/// A setting that could never work, with what to do about it. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}`{field}` {problem}: {remedy}", service.as_ref().map(|s| format!("service `{s}`: ")).unwrap_or_default())]
pub struct SettingsError {
    /// The service, or `None` for the node's own settings.
    pub service: Option<ServiceName>,
    /// The field as the settings file spells it.
    pub field: &'static str,
    /// What is wrong with it, with the numbers.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}
