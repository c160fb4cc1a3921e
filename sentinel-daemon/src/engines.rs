//! The registry of engines: one line for each adapter that this build has.
//!
//! Knows names, what of the settings an engine has a use for, and how an adapter is made from them. Does not know what
//! an adapter does.

mod postgres;
mod redis;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use sentinel_core::id::{EngineName, InstanceId, ServiceName};
use sentinel_core::runtime::{AdapterFactory, Handle};

use crate::settings::{GuardedService, Secrets, Settings};

/// All of them.
const ENGINES: [Engine; 2] = [redis::ENGINE, postgres::ENGINE];

/// One engine, as far as the settings are concerned.
struct Engine {
    /// Its name in the settings.
    name: &'static str,
    /// How its adapter and its agents on this host are made.
    make: fn(&Settings, &Secrets) -> Made,
    /// Keys of `[[service]]` that it has no use for, each with what the engine does, after "which".
    no_use: &'static [(&'static str, &'static str)],
    /// Longest address that it takes as the name of a replica.
    address_bytes_max: Option<usize>,
    /// Whether a node on a server's host can be its agent.
    agents: Agents,
}

/// Whether an engine has agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agents {
    Some,
    None,
}

fn engine(name: &str) -> Option<Engine> {
    ENGINES.into_iter().find(|engine| engine.name == name)
}

/// Whether this build has an adapter of that name.
pub fn is_known(name: &EngineName) -> bool {
    engine(name.as_str()).is_some()
}

/// All names, for an error message.
pub fn known() -> String {
    ENGINES
        .map(|engine| format!("\"{}\"", engine.name))
        .join(", ")
}

/// Why a key of `[[service]]` means nothing to an engine; `None` when it does, or when the engine is not known.
pub fn no_use(name: &str, key: &str) -> Option<&'static str> {
    let engine = engine(name)?;
    let found = engine.no_use.iter().find(|(other, _)| *other == key)?;
    Some(found.1)
}

/// Longest address that the engine takes as the name of a replica; `None` when there is no such limit.
pub fn address_bytes_max(name: &EngineName) -> Option<usize> {
    engine(name.as_str())?.address_bytes_max
}

/// Whether a node on a server's host can be its agent.
pub fn has_agents(name: &EngineName) -> bool {
    engine(name.as_str()).is_some_and(|engine| engine.agents == Agents::Some)
}

/// What one engine brings to a node.
struct Made {
    adapter: AdapterFactory,
    agents: Vec<AgentStart>,
}

/// What a node is run with.
pub struct Equipment {
    /// The adapters of all engines: a service that was added elsewhere may be of any of them.
    pub adapters: Vec<AdapterFactory>,
    /// The agents of this host. Each is to be begun within the runtime, once the node runs.
    pub agents: Vec<AgentStart>,
}

impl fmt::Debug for Equipment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Equipment")
            .field("adapters", &self.adapters.len())
            .field("agents", &self.agents.len())
            .finish()
    }
}

/// Begins an agent.
pub type AgentStart = Box<dyn FnOnce(&Handle) -> Result<RunningAgent, AgentFailure> + Send>;

/// An agent that has begun. Dropping it ends what the daemon does for it.
pub type RunningAgent = Box<dyn Any + Send>;

/// Why an agent does not begin. Its server is as it was.
#[derive(Debug, thiserror::Error)]
#[error("the agent of {instance} of service {service} cannot begin: {problem}")]
pub struct AgentFailure {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Everything that the engines bring to a node with these settings.
pub fn equip(settings: &Settings, secrets: &Secrets) -> Equipment {
    let mut equipment = Equipment {
        adapters: Vec::new(),
        agents: Vec::new(),
    };
    for engine in ENGINES {
        let made = (engine.make)(settings, secrets);
        equipment.adapters.push(made.adapter);
        equipment.agents.extend(made.agents);
    }
    equipment
}

/// What an adapter wants to know of each service of its engine.
fn of_engine<T>(
    settings: &Settings,
    engine: &str,
    describe: impl Fn(&GuardedService) -> T,
) -> BTreeMap<ServiceName, T> {
    settings
        .services
        .iter()
        .filter(|service| service.settings.engine.as_str() == engine)
        .map(|service| (service.settings.name.clone(), describe(service)))
        .collect()
}
