//! PostgreSQL: what its adapter is told of each service, and its agents on this host.

mod agent;

use std::sync::Arc;

use sentinel_postgres::{Credentials, PostgresAdapter, PostgresService};

use self::agent::{Notes, Plan};
use super::{Agents, Engine, Made, of_engine};
use crate::settings::{GuardedService, Secrets, Settings};

const FLUSHES: &str = "counts a replica by what it has flushed, whatever its age";
const REFUSES: &str = "never copies over another data set by itself";

/// The server cuts longer names off, `application_name` among them.
const NAME_BYTES_MAX: usize = 63;

pub(super) const ENGINE: Engine = Engine {
    name: sentinel_postgres::ENGINE,
    make,
    no_use: &[("ack_lag_max", FLUSHES), ("restart_delay", REFUSES)],
    address_bytes_max: Some(NAME_BYTES_MAX),
    agents: Agents::Some,
};

fn make(settings: &Settings, secrets: &Secrets) -> Made {
    let services = of_engine(settings, ENGINE.name, |service| described(service, secrets));
    let notes = Notes::default();
    let (hosts, plans) = agent::plans(settings, &notes, |name| services.get(name).cloned());
    Made {
        adapter: Box::new(move |context| {
            // The first driver is the only one.
            let _ = notes.set(context.notes.clone());
            Arc::new(PostgresAdapter::new(services, hosts, context))
        }),
        agents: plans.into_iter().map(Plan::start).collect(),
    }
}

fn described(service: &GuardedService, secrets: &Secrets) -> PostgresService {
    let name = &service.settings.name;
    let default = PostgresService::default();
    let replication = &service.replication;
    PostgresService {
        credentials: Credentials {
            username: (service.username.clone()).unwrap_or(default.credentials.username),
            password: secrets.services.get(name).cloned(),
        },
        dbname: service.database.clone().unwrap_or(default.dbname),
        replication: replication.username.clone().map(|username| Credentials {
            username,
            password: secrets.replication.get(name).cloned(),
        }),
        passfile: replication.passfile.clone(),
        replication_options: replication.options.clone(),
    }
}
