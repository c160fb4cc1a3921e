//! Redis and Valkey: what their adapter is told of each service.

use sentinel_redis::{Credentials, RedisAdapter, RedisService};

use super::{Agents, Engine, Made, of_engine};
use crate::settings::{Secrets, Settings};

const ONE_DATABASE: &str = "has numbered databases that follow the primary together";
const ONE_USER: &str = "keeps the user of its replicas in masteruser and masterauth of each server";

pub(super) const ENGINE: Engine = Engine {
    name: sentinel_redis::ENGINE,
    make,
    no_use: &[
        ("database", ONE_DATABASE),
        ("replication_username", ONE_USER),
        ("replication_passfile", ONE_USER),
        ("replication_options", ONE_USER),
    ],
    address_bytes_max: None,
    agents: Agents::None,
};

fn make(settings: &Settings, secrets: &Secrets) -> Made {
    let adapter = RedisAdapter::factory(of_engine(settings, ENGINE.name, |service| {
        let name = &service.settings.name;
        RedisService {
            credentials: secrets.services.get(name).map(|secret| Credentials {
                username: service.username.clone(),
                password: secret.clone(),
            }),
            ack_lag_max: service.settings.ack_lag_max,
            restart_delay: service.settings.restart_delay,
            copies: Some(settings.data_dir.join("copies")),
        }
    }));
    Made {
        adapter,
        agents: Vec::new(),
    }
}
