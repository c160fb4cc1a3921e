//! The registry of engines: one line for each adapter that this build has.
//!
//! Knows names, and how an adapter is made from the settings. Does not know what an adapter does.

use std::collections::BTreeMap;

use sentinel_core::id::{EngineName, ServiceName};
use sentinel_core::runtime::AdapterFactory;
use sentinel_redis::{Credentials, RedisAdapter, RedisService};

use crate::settings::{GuardedService, Secrets, Settings};

/// Name in the settings, and how its adapter is made.
type Engine = (&'static str, fn(&Settings, &Secrets) -> AdapterFactory);

const ENGINES: [Engine; 1] = [(sentinel_redis::ENGINE, redis)];

/// Whether this build has an adapter of that name.
pub fn is_known(engine: &EngineName) -> bool {
    ENGINES.iter().any(|(name, _)| *name == engine.as_str())
}

/// All names, for an error message.
pub fn known() -> String {
    ENGINES.map(|(name, _)| format!("\"{name}\"")).join(", ")
}

/// The adapters of all engines: a service that was added elsewhere may be of any of them.
pub fn factories(settings: &Settings, secrets: &Secrets) -> Vec<AdapterFactory> {
    ENGINES
        .iter()
        .map(|(_, make)| make(settings, secrets))
        .collect()
}

fn redis(settings: &Settings, secrets: &Secrets) -> AdapterFactory {
    RedisAdapter::factory(of_engine(settings, sentinel_redis::ENGINE, |service| {
        let name = &service.settings.name;
        RedisService {
            credentials: secrets.services.get(name).map(|secret| Credentials {
                username: service.username.clone(),
                password: sentinel_redis::Secret::new(secret.reveal()),
            }),
            ack_lag_max: service.settings.ack_lag_max,
            restart_delay: service.settings.restart_delay,
            copies: Some(settings.data_dir.join("copies")),
        }
    }))
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
