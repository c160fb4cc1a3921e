//! The registry of engines: one line for each adapter that this build has.
//!
//! Knows names, what of the settings an engine has a use for, and how an adapter is made from them. Does not know what
//! an adapter does.

mod postgres;
mod redis;

use std::collections::BTreeMap;

use sentinel_core::id::{EngineName, ServiceName};
use sentinel_core::runtime::AdapterFactory;

use crate::settings::{GuardedService, Secrets, Settings};

/// All of them.
const ENGINES: [Engine; 2] = [redis::ENGINE, postgres::ENGINE];

/// One engine, as far as the settings are concerned.
struct Engine {
    /// Its name in the settings.
    name: &'static str,
    /// How its adapter is made.
    make: fn(&Settings, &Secrets) -> AdapterFactory,
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

/// The adapters of all engines: a service that was added elsewhere may be of any of them.
pub fn factories(settings: &Settings, secrets: &Secrets) -> Vec<AdapterFactory> {
    ENGINES
        .iter()
        .map(|engine| (engine.make)(settings, secrets))
        .collect()
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
