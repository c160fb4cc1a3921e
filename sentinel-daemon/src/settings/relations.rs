//! Refuses settings that are well formed each and cannot work together, and warns of those that probably are not meant.
//!
//! The core's own relations come from [`NodeSettings::validate`] and [`ServiceSettings::validate`]; here are those
//! of addresses, names, engines and passwords, which the core does not know. Contacts nobody.
//!
//! [`NodeSettings::validate`]: sentinel_core::config::NodeSettings::validate
//! [`ServiceSettings::validate`]: sentinel_core::config::ServiceSettings::validate

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use sentinel_core::config::{NodeRole, ServiceSettings};
use sentinel_core::id::InstanceId;

use super::agent;
use super::error::SettingsProblem;
use super::load::Settings;
use super::place::Places;
use super::service::{GuardedService, PasswordSource};
use super::shape::{Durability, FileShape, ServiceShape};
use crate::engines;

/// A problem, and the path of the key to blame.
type Blamed = (String, SettingsProblem);

/// Relations that are gone once defaults are filled in.
pub(super) fn check_shape(shape: &FileShape, places: &Places) -> Result<(), Blamed> {
    let mut names = BTreeMap::new();
    for (index, service) in shape.service.iter().enumerate() {
        let name = service.name.0.clone();
        if let Some(first) = names.insert(name.clone(), index) {
            let first = places.line_of(&format!("service.{first}.name"));
            let problem = SettingsProblem::DuplicateService {
                name,
                first: first.map_or(0, |line| line.number),
            };
            return Err((format!("service.{index}.name"), problem));
        }
        if service.durability == Some(Durability::Async) {
            return Err((
                format!("service.{index}.durability"),
                SettingsProblem::AsyncDurability { service: name },
            ));
        }
        check_passwords(service).map_err(|(key, problem)| blame(index, key, problem))?;
        check_keys(service).map_err(|(key, problem)| blame(index, key, problem))?;
    }
    agent::check_shape(shape)
}

fn blame(service: usize, key: &str, problem: SettingsProblem) -> Blamed {
    (format!("service.{service}.{key}"), problem)
}

/// A problem, and the key in its table.
type BlamedKey = (&'static str, SettingsProblem);

fn check_passwords(service: &ServiceShape) -> Result<(), BlamedKey> {
    let own = [
        ("password_file", service.password_file.is_some()),
        ("password_env", service.password_env.is_some()),
        ("password", service.password.is_some()),
    ];
    let replication = [
        (
            "replication_password_file",
            service.replication_password_file.is_some(),
        ),
        (
            "replication_password_env",
            service.replication_password_env.is_some(),
        ),
        (
            "replication_password",
            service.replication_password.is_some(),
        ),
    ];
    for places in [own, replication] {
        let mut given = places.iter().filter(|(_, given)| *given);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            let problem = SettingsProblem::TwoPasswords {
                service: service.name.0.clone(),
                first,
                second,
            };
            return Err((second, problem));
        }
    }
    let without_name = replication.iter().find(|(_, given)| *given);
    if let (Some((key, _)), None) = (without_name, &service.replication_username) {
        let problem = SettingsProblem::PasswordWithoutName {
            key,
            service: service.name.0.clone(),
        };
        return Err((key, problem));
    }
    Ok(())
}

/// Keys that only some engines have a use for.
fn check_keys(service: &ServiceShape) -> Result<(), BlamedKey> {
    let given = [
        ("ack_lag_max", service.ack_lag_max.is_some()),
        ("restart_delay", service.restart_delay.is_some()),
        ("database", service.database.is_some()),
        (
            "replication_username",
            service.replication_username.is_some(),
        ),
        (
            "replication_passfile",
            service.replication_passfile.is_some(),
        ),
        (
            "replication_options",
            !service.replication_options.is_empty(),
        ),
    ];
    for (key, _) in given.iter().filter(|(_, given)| *given) {
        if let Some(why) = engines::no_use(&service.engine.0, key) {
            let problem = SettingsProblem::NotOfEngine {
                key,
                service: service.name.0.clone(),
                engine: service.engine.0.clone(),
                why,
            };
            return Err((key, problem));
        }
    }
    Ok(())
}

/// Everything else.
pub(super) fn check(settings: &Settings) -> Result<(), Blamed> {
    settings
        .node
        .validate()
        .map_err(|error| (error.field.to_owned(), error.into()))?;
    check_paces(settings)?;
    check_addresses(settings)?;
    check_services(settings)?;
    agent::check(settings)
}

fn check_paces(settings: &Settings) -> Result<(), Blamed> {
    let timing = &settings.node.timing;
    let blame = |field: &str, value, remedy| {
        let problem = SettingsProblem::Duration {
            field: field.to_owned(),
            value: humantime::format_duration(value).to_string(),
            remedy,
        };
        Err((field.to_owned(), problem))
    };
    if timing.raft_tick.is_zero() {
        return blame("timing.raft_tick", timing.raft_tick, "use 10ms or more");
    }
    if timing.stale_after < timing.raft_tick * timing.heartbeat_ticks * 2 {
        let remedy = "use at least two heartbeats, or an answer is stale between one and the next";
        return blame("node.stale_after", timing.stale_after, remedy);
    }
    if timing.pause_after < timing.raft_tick * 2 {
        let remedy = "use at least two raft_tick, or a node takes its own pace for a pause";
        return blame("timing.pause_after", timing.pause_after, remedy);
    }
    for (index, service) in settings.services.iter().enumerate() {
        if service.settings.exclude_after < service.settings.down_after {
            let (path, problem) = (
                format!("service.{index}.exclude_after"),
                SettingsProblem::Duration {
                    field: "exclude_after".to_owned(),
                    value: humantime::format_duration(service.settings.exclude_after).to_string(),
                    remedy: "use down_after or more, or a replica leaves the write quorum before it counts as down",
                },
            );
            return Err((path, problem));
        }
    }
    Ok(())
}

fn check_addresses(settings: &Settings) -> Result<(), Blamed> {
    let listen = &settings.listen;
    let endpoints = [
        ("peer", listen.peer),
        ("resp", listen.resp),
        ("http", listen.http),
    ];
    for (index, (second, address)) in endpoints.iter().enumerate() {
        if let Some((first, _)) = endpoints[..index]
            .iter()
            .find(|(_, other)| collide(other, address))
        {
            let problem = SettingsProblem::DuplicatePort {
                first,
                second,
                address: *address,
            };
            return Err((format!("listen.{second}"), problem));
        }
    }
    if !listen.peer.ip().is_loopback() && settings.security.cluster_key_file.is_none() {
        let problem = SettingsProblem::OpenPeerPort {
            address: listen.peer,
        };
        return Err(("listen.peer".to_owned(), problem));
    }
    let mut addresses = BTreeMap::new();
    for (name, address) in &settings.voters {
        if let Some(first) = addresses.insert(address, name) {
            let problem = SettingsProblem::DuplicateVoter {
                first: first.to_string(),
                second: name.to_string(),
                address: address.to_string(),
            };
            return Err((format!("voters.{name}"), problem));
        }
    }
    Ok(())
}

/// Port 0 is any free port, and an unspecified address is every address.
fn collide(a: &SocketAddr, b: &SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn check_services(settings: &Settings) -> Result<(), Blamed> {
    let mut owners = BTreeMap::new();
    for (index, guarded) in settings.services.iter().enumerate() {
        let service = &guarded.settings;
        if !engines::is_known(&service.engine) {
            let problem = SettingsProblem::UnknownEngine {
                service: service.name.to_string(),
                engine: service.engine.to_string(),
                known: engines::known(),
            };
            return Err((format!("service.{index}.engine"), problem));
        }
        service
            .validate(settings.voters.len())
            .map_err(|error| (format!("service.{index}.{}", error.field), error.into()))?;
        for instance in &service.seeds {
            if let Some(other) = owners.insert(instance, &service.name) {
                let problem = SettingsProblem::DuplicateInstance {
                    instance: instance.to_string(),
                    service: service.name.to_string(),
                    other: other.to_string(),
                };
                return Err((format!("service.{index}.instances"), problem));
            }
            check_length(service, instance)
                .map_err(|problem| blame(index, "instances", problem))?;
        }
    }
    Ok(())
}

/// Where replicas are named by their address, all of it must fit.
fn check_length(service: &ServiceSettings, instance: &InstanceId) -> Result<(), SettingsProblem> {
    let length = instance.to_string().len();
    match engines::address_bytes_max(&service.engine) {
        Some(length_max) if length > length_max => Err(SettingsProblem::LongInstance {
            instance: instance.to_string(),
            service: service.name.to_string(),
            engine: service.engine.to_string(),
            length,
            length_max,
        }),
        Some(_) | None => Ok(()),
    }
}

/// What works, and is probably not meant.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let node = &settings.node;
    if let Some(address) = settings.voters.get(&node.name)
        && node.role == NodeRole::Voter
        && settings.listen.peer.port() != 0
        && address.port() != settings.listen.peer.port()
    {
        warnings.push(format!(
            "[voters] gives this node as {address}, and it listens for peers on port {}: the others reach it only if something forwards the one to the other",
            settings.listen.peer.port()
        ));
    }
    if settings.voters.len() < 3 {
        warnings.push(format!(
            "{} voter(s) tolerate no failure: use three or five",
            settings.voters.len()
        ));
    }
    let is_literal =
        |source: &Option<PasswordSource>| matches!(source, Some(PasswordSource::Literal(_)));
    let has_literal = |service: &&GuardedService| {
        is_literal(&service.password) || is_literal(&service.replication.password)
    };
    let mode = fs::metadata(&settings.file).map(|found| found.permissions().mode() & 0o777);
    if let (Some(service), Ok(mode)) = (settings.services.iter().find(has_literal), mode)
        && mode & 0o077 != 0
    {
        warnings.push(format!(
            "{} has mode {mode:04o} and holds the password of service `{}`: run `chmod 600`, or use password_file",
            settings.file.display(),
            service.settings.name
        ));
    }
    warnings
}
