//! Settings of one simulated run: how many of everything, which faults, which planted bugs.
//!
//! [`Settings::drawn`] makes them from a seed, each run with its own subset of faults and odd
//! constants, because uniform faults reach few corners.

use std::collections::BTreeSet;
use std::time::Duration;

use sentinel_core::config::ServiceSettings;
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::planted::Bug;

use super::chance::Chance;
use super::trace::Text;

/// Whose semantics the service's servers have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// Memory, replication ids, partial and full resyncs; writes are acknowledged by guards.
    #[default]
    Redis,
    /// Flushes that survive, timelines, replay, rewinds; writes are acknowledged by the primary itself.
    Postgres,
}

/// What keeps a late order of a deposed leader from taking effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// Every order closes the other administrative connections (agentless Redis, rule S6).
    Connections,
    /// The server's agent keeps the highest token and refuses a lower one (rule S14).
    Tokens,
}

/// Kinds of faults that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A node loses everything but its disk.
    NodeCrash,
    /// A node stands still.
    NodePause,
    /// A server stands still.
    InstanceHang,
    /// A server loses its process, and memory with it; within the budget only.
    InstanceCrash,
    /// Nodes and servers fall apart into two halves.
    Partition,
    /// The primary is cut off together with the guards.
    PrimaryWithClient,
    /// One direction of one link is cut.
    OneWay,
    /// One replica is cut off from the primary alone.
    ReplicaCut,
    /// A link comes and goes.
    Flapping,
    /// Loss, doubling, delay.
    Weather,
    /// The primary's backlog is gone: whoever reconnects needs a full sync.
    Backlog,
    /// A standby's replay falls behind what it receives, so that its promotion is slow.
    SlowReplay,
    /// No fault: an operator asks for a switchover.
    Switchover,
}

/// Kinds that only PostgreSQL's shape knows.
pub const POSTGRES_KINDS: [Kind; 1] = [Kind::SlowReplay];

/// How often a run has an operator, in percent.
const OPERATOR_PERCENT: u64 = 50;

/// All kinds that every shape knows.
pub const KINDS: [Kind; 11] = [
    Kind::NodeCrash,
    Kind::NodePause,
    Kind::InstanceHang,
    Kind::InstanceCrash,
    Kind::Partition,
    Kind::PrimaryWithClient,
    Kind::OneWay,
    Kind::ReplicaCut,
    Kind::Flapping,
    Kind::Weather,
    Kind::Backlog,
];

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The seed.
    pub seed: u64,
    /// Whose semantics the servers have.
    pub shape: Shape,
    /// How many servers have an agent: the first ones, each on the node of its own number.
    pub agents: usize,
    /// Voters.
    pub voters: usize,
    /// Database servers; the first one begins as primary.
    pub instances: usize,
    /// Write guards.
    pub guards: usize,
    /// The write quorum's `k`.
    pub k: u32,
    /// What fences late orders.
    pub fencing: Fencing,
    /// Faults that may happen.
    pub kinds: Vec<Kind>,
    /// Shortest and longest time between two faults, in milliseconds.
    pub fault_every_ms: (u64, u64),
    /// How long faults happen.
    pub trouble: Duration,
    /// Time between two writes of a guard, in milliseconds.
    pub write_every_ms: (u64, u64),
    /// Rules left out.
    pub bugs: Vec<Bug>,
    /// Instances with priority 0.
    pub vetoed: Vec<usize>,
    /// Whether lines are kept.
    pub text: Text,
}

/// The one service of a run.
pub fn service_name() -> ServiceName {
    ServiceName::new("orders")
}

impl Settings {
    /// No faults, the usual sizes.
    pub fn quiet(seed: u64) -> Self {
        Self {
            seed,
            shape: Shape::Redis,
            agents: 0,
            voters: 3,
            instances: 3,
            guards: 1,
            k: 1,
            fencing: Fencing::Connections,
            kinds: Vec::new(),
            fault_every_ms: (2_000, 8_000),
            trouble: Duration::from_secs(60),
            write_every_ms: (20, 60),
            bugs: Vec::new(),
            vetoed: Vec::new(),
            text: Text::Off,
        }
    }

    /// Switchovers one after the other and nothing else; every other seed has PostgreSQL's shape.
    pub fn switchovers(seed: u64) -> Self {
        let mut settings = Self::quiet(seed);
        settings.kinds = vec![Kind::Switchover];
        if seed % 2 == 1 {
            settings.shape = Shape::Postgres;
            settings.agents = 3;
        }
        settings
    }

    /// As the seed has it.
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x5e71_1465);
        let mut settings = Self::quiet(seed);
        settings.voters = if chance.percent(70) { 3 } else { 5 };
        settings.instances = match chance.below(10) {
            0 => 2,
            1..=7 => 3,
            8 => 4,
            9 => 5,
            10.. => unreachable!("below ten"),
        };
        if settings.instances >= 4 && chance.percent(50) {
            settings.k = 2;
        }
        settings.guards = 1 + chance.index(2);
        if chance.percent(30) {
            settings.fencing = Fencing::Tokens;
        }
        settings.kinds = KINDS.into_iter().filter(|_| chance.percent(60)).collect();
        let shortest = 500 + chance.below(3_000);
        settings.fault_every_ms = (shortest, shortest * 3);
        settings.with_operator()
    }

    /// Half of the seeds have an operator who asks for switchovers.
    fn with_operator(mut self) -> Self {
        // Chance of its own, as for the shape.
        let mut chance = Chance::new(self.seed ^ 0x00b5_e77e);
        if chance.percent(OPERATOR_PERCENT) {
            self.kinds.push(Kind::Switchover);
        }
        self
    }

    /// As the seed has it, with servers of PostgreSQL's shape.
    pub fn postgres(self) -> Self {
        // Chance of its own, so that the other draws of a seed are the same for both shapes.
        let mut chance = Chance::new(self.seed ^ 0x0709_57e5);
        let agents = match chance.below(4) {
            0 => 0,
            1 => 1 + chance.index(self.instances),
            2.. => self.instances,
        };
        let kinds = POSTGRES_KINDS.into_iter().filter(|_| chance.percent(60));
        let kinds = self.kinds.iter().copied().chain(kinds).collect();
        Self {
            shape: Shape::Postgres,
            fencing: Fencing::Connections,
            agents: agents.min(self.voters),
            kinds,
            ..self
        }
    }

    /// As the seed has it, with every kind of fault in quick succession.
    pub fn stormy(seed: u64) -> Self {
        let mut settings = Self::drawn(seed);
        settings.kinds = KINDS.to_vec();
        settings = settings.with_operator();
        settings.fault_every_ms = (300, 2_000);
        settings.trouble = Duration::from_secs(40);
        settings
    }

    /// As the seed has it, with a rule left out, and with what brings the rule into play.
    pub fn hunting(bug: Bug, seed: u64) -> Self {
        let mut settings = Self::stormy(seed);
        settings.bugs = vec![bug];
        settings.kinds.retain(|kind| *kind != Kind::Switchover);
        settings.fencing = if bug == Bug::AcceptLowerToken {
            Fencing::Tokens
        } else {
            Fencing::Connections
        };
        if bug == Bug::VetoLowersBar {
            settings.instances = 3;
            settings.vetoed = vec![2];
        }
        if bug == Bug::AnyIncarnation {
            settings.instances = settings.instances.max(3);
        }
        settings
    }

    /// What the node of this index is the agent of.
    pub fn claims(&self, node: usize) -> BTreeSet<(ServiceName, InstanceId)> {
        let claim = (service_name(), super::instance::address(node));
        let own = (node < self.agents).then_some(claim);
        own.into_iter().collect()
    }

    /// The guarded service's settings: shorter than the defaults where that makes more happen.
    pub fn service(&self) -> ServiceSettings {
        let seeds = [super::instance::address(0)].into();
        let mut service = ServiceSettings::new(service_name(), "simulated".into(), seeds);
        service.down_after = Duration::from_secs(1);
        service.exclude_after = Duration::from_secs(5);
        service.min_replicas = self.k;
        for index in &self.vetoed {
            service
                .priorities
                .insert(super::instance::address(*index), 0);
        }
        service
    }
}
