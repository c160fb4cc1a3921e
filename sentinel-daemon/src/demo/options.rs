//! What the user may ask the demonstration for.
//!
//! Grammar and values only; nothing here knows how a demonstration is done.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// What is shown, and with which fault.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// What to show: a service of one engine, or one of each
    #[arg(value_enum, default_value = "redis")]
    pub engine: DemoEngine,
    /// What happens to the primary
    #[arg(long, value_enum, default_value = "kill")]
    pub fault: Fault,
    /// Kill the leader of the voters in the same instant
    #[arg(long)]
    pub with_leader: bool,
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    pub stay: bool,
    /// When a write counts as acknowledged
    #[arg(long, value_enum, default_value = "quorum")]
    pub durability: Durability,
    /// Silence for so long means down
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub down_after: Duration,
    /// Folder of the programs of PostgreSQL [default: found by `pg_ctl` on the path, else the newest of the distribution]
    #[arg(long, env = "SENTINEL_POSTGRES_BIN", value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// Instead of the fault: cut the primary off together with one replica and half of the writers
    #[arg(long, hide = true, conflicts_with = "fault")]
    pub isolate: bool,
    /// Leave a rule out, to show that the demonstration would notice
    #[cfg(feature = "planted-bugs")]
    #[arg(long, hide = true, value_enum, value_name = "BUG")]
    pub plant: Option<crate::planted::PlantedBug>,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DemoEngine {
    /// A Redis service.
    Redis,
    /// A PostgreSQL service, with an agent on each server.
    Postgres,
    /// One service of each engine, under the same voters.
    Both,
}

/// The engine of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    /// Redis.
    Redis,
    /// PostgreSQL.
    Postgres,
}

/// What happens to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// Its process is killed.
    Kill,
    /// Its process is stopped, and goes on later: it keeps its port and its connections, and says nothing.
    Hang,
    /// None: the voters are asked to move the service to a replica.
    Switchover,
    /// The network falls apart around it: one replica and half of the writers still reach it, nobody else does.
    #[value(skip)]
    Isolate,
}

/// When a write counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Once one of the replicas that count holds it.
    Quorum,
}

impl DemoOptions {
    /// What really happens to the primary.
    pub(super) fn chosen_fault(&self) -> Fault {
        if self.isolate {
            Fault::Isolate
        } else {
            self.fault
        }
    }

    /// Name of the rule to leave out, as `sentinel run --plant` takes it.
    pub(super) fn planted(&self) -> Option<String> {
        #[cfg(feature = "planted-bugs")]
        return self.plant.map(crate::planted::PlantedBug::name);
        #[cfg(not(feature = "planted-bugs"))]
        None
    }
}

impl Fault {
    /// In a sentence, after "the primary".
    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Kill => "killed (SIGKILL)",
            Self::Hang => "stopped (SIGSTOP)",
            Self::Switchover => "is to hand over (switchover)",
            Self::Isolate => "cut off, with one replica and half of the writers",
        }
    }
}
