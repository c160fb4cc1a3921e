//! PostgreSQL: what its adapter is told of each service.

use sentinel_core::runtime::AdapterFactory;
use sentinel_postgres::{Credentials, Hosts, PostgresAdapter, PostgresService};

use super::{Agents, Engine, of_engine};
use crate::settings::{GuardedService, Secret, Secrets, Settings};

const FLUSHES: &str = "counts a replica by what it has flushed, whatever its age";
const REFUSES: &str = "never copies over another data set by itself";

/// The server cuts longer names off, `application_name` among them.
const NAME_BYTES_MAX: usize = 63;

pub(super) const ENGINE: Engine = Engine {
    name: sentinel_postgres::ENGINE,
    make: factory,
    no_use: &[("ack_lag_max", FLUSHES), ("restart_delay", REFUSES)],
    address_bytes_max: Some(NAME_BYTES_MAX),
    agents: Agents::Some,
};

fn factory(settings: &Settings, secrets: &Secrets) -> AdapterFactory {
    let services = of_engine(settings, ENGINE.name, |service| described(service, secrets));
    PostgresAdapter::factory(services, Hosts::new())
}

fn described(service: &GuardedService, secrets: &Secrets) -> PostgresService {
    let name = &service.settings.name;
    let default = PostgresService::default();
    let replication = &service.replication;
    PostgresService {
        credentials: Credentials {
            username: (service.username.clone()).unwrap_or(default.credentials.username),
            password: secrets.services.get(name).map(shared),
        },
        dbname: service.database.clone().unwrap_or(default.dbname),
        replication: replication.username.clone().map(|username| Credentials {
            username,
            password: secrets.replication.get(name).map(shared),
        }),
        passfile: replication.passfile.clone(),
        replication_options: replication.options.clone(),
    }
}

fn shared(secret: &Secret) -> sentinel_postgres::Secret {
    sentinel_postgres::Secret::new(secret.reveal())
}
