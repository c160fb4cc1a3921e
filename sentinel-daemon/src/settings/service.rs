//! One guarded service as the file describes it: what the core needs, and how this node and the replicas log in.
//!
//! Fills in the core's defaults. Whether keys fit the engine and each other is `relations.rs`'s knowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sentinel_core::config::ServiceSettings;
use sentinel_core::id::{EngineName, InstanceId, ServiceName};
use sentinel_core::runtime::Secret;

use super::shape::ServiceShape;
use super::values::DurationText;

/// One service, with how to log in to its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedService {
    /// What the core needs; replicated.
    pub settings: ServiceSettings,
    /// The user; the engine's default user when absent.
    pub username: Option<String>,
    /// Where the password is; none when absent. Never replicated: each node has its own.
    pub password: Option<PasswordSource>,
    /// The database to connect to, for an engine that has several.
    pub database: Option<String>,
    /// How replicas log in to the primary, for an engine in which they have a user of their own.
    pub replication: Replication,
}

/// How replicas log in to the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replication {
    /// The user; the coordinator's own when absent.
    pub username: Option<String>,
    /// Where its password is.
    pub password: Option<PasswordSource>,
    /// A file on the replica's host that holds it, so that it is written into no setting of the server.
    pub passfile: Option<String>,
    /// Further words of the replica's connection string.
    pub options: BTreeMap<String, String>,
}

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// In a file that only this user can read.
    File(PathBuf),
    /// In an environment variable.
    Environment(String),
    /// In the settings file itself.
    Literal(Secret),
}

pub(super) fn guarded(shape: ServiceShape, folder: &Path) -> GuardedService {
    let seeds: BTreeSet<InstanceId> = shape.instances.into_iter().map(|text| text.0).collect();
    let default = ServiceSettings::new(
        ServiceName::new(shape.name.0),
        EngineName::new(shape.engine.0),
        seeds,
    );
    let duration = |given: Option<DurationText>, default| given.map_or(default, |text| text.0);
    let settings = ServiceSettings {
        probe_every: duration(shape.probe_every, default.probe_every),
        down_after: duration(shape.down_after, default.down_after),
        refused_after: duration(shape.refused_after, default.refused_after),
        action_deadline: duration(shape.action_deadline, default.action_deadline),
        freeze_wait: duration(shape.freeze_wait, default.freeze_wait),
        exclude_after: duration(shape.exclude_after, default.exclude_after),
        quorum: shape.quorum,
        min_replicas: shape.min_replicas.unwrap_or(default.min_replicas),
        ack_lag_max: duration(shape.ack_lag_max, default.ack_lag_max),
        parallel_syncs: shape.parallel_syncs.unwrap_or(default.parallel_syncs),
        restart_delay: duration(shape.restart_delay, default.restart_delay),
        priorities: shape.priorities,
        ..default
    };
    GuardedService {
        settings,
        username: shape.username,
        password: password(
            shape.password_file.map(|path| folder.join(path)),
            shape.password_env,
            shape.password.map(|text| text.0),
        ),
        database: shape.database,
        replication: Replication {
            username: shape.replication_username,
            password: password(
                shape
                    .replication_password_file
                    .map(|path| folder.join(path)),
                shape.replication_password_env,
                shape.replication_password.map(|text| text.0),
            ),
            passfile: shape.replication_passfile,
            options: shape.replication_options,
        },
    }
}

/// The one that is given; that there are not two was checked before.
fn password(
    file: Option<PathBuf>,
    variable: Option<String>,
    literal: Option<Secret>,
) -> Option<PasswordSource> {
    file.map(PasswordSource::File)
        .or(variable.map(PasswordSource::Environment))
        .or(literal.map(PasswordSource::Literal))
}
