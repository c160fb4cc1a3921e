//! The transactions of each action, as commands. Pure: decides what is sent, never whether or when.
//!
//! Each begins by closing all other clients of the server (rule S6), which also sends its writers
//! back to ask who the primary is; `CLIENT KILL` spares the connection that sends it, also within
//! `MULTI`. Each ends by writing the configuration, so that the server's own restart keeps it.

use std::time::Duration;

use redis::Cmd;
use sentinel_core::id::InstanceId;
use sentinel_core::observation::WriteQuorum;

use crate::reading::{EarlySync, NOWHERE, Reading, UsersFile};
use crate::record;
use crate::service::{RedisService, whole_seconds};

/// Receives from nobody, and keeps lineage and position.
pub(crate) fn freeze() -> Vec<Cmd> {
    let mut commands = close_others();
    commands.push(replica_of(NOWHERE.0, &NOWHERE.1.to_string()));
    commands.push(words(&["CONFIG", "REWRITE"]));
    commands
}

/// Receives from this primary. `min-replicas-to-write` stays as it is.
pub(crate) fn follow(primary: &InstanceId, settings: &RedisService, found: &Reading) -> Vec<Cmd> {
    let mut commands = close_others();
    commands.extend(guards(settings, found));
    commands.push(replica_of(primary.host(), &primary.port().to_string()));
    // A replica takes no writes but the primary's; a pause of ours would hold those up.
    commands.push(words(&["CLIENT", "UNPAUSE"]));
    commands.push(words(&["CONFIG", "REWRITE"]));
    commands
}

/// Stops writes for a while, without a change of role and without touching a setting.
pub(crate) fn pause_writes(pause: Duration) -> Vec<Cmd> {
    let mut commands = close_others();
    let millis = pause.as_millis().to_string();
    commands.push(words(&["CLIENT", "PAUSE", &millis, "WRITE"]));
    commands
}

/// Stops writes for a switchover. Clients stay connected, so that they wait and get no error; they are
/// closed when the server becomes a replica. Nobody's other order can make this one unsafe, so nobody is closed.
pub(crate) fn pause(limit: Duration) -> Vec<Cmd> {
    let millis = limit.as_millis().to_string();
    vec![words(&["CLIENT", "PAUSE", &millis, "WRITE"])]
}

/// Ends that.
pub(crate) fn resume() -> Vec<Cmd> {
    vec![words(&["CLIENT", "UNPAUSE"])]
}

/// Puts a write quorum in force and keeps it.
pub(crate) fn configure(
    quorum: &WriteQuorum,
    settings: &RedisService,
    found: &Reading,
) -> Vec<Cmd> {
    let mut commands = prepare(quorum, settings, found);
    commands.extend(keep(found));
    commands
}

/// Puts a write quorum in force in memory only: what is about to be promoted keeps both at once,
/// and a restart between the two changes its incarnation, which ends the promotion.
pub(crate) fn prepare(quorum: &WriteQuorum, settings: &RedisService, found: &Reading) -> Vec<Cmd> {
    let mut commands = close_others();
    commands.extend(record::orders(quorum));
    commands.extend(guards(settings, found));
    commands
}

/// Takes writes.
pub(crate) fn promote(found: &Reading) -> Vec<Cmd> {
    let mut commands = close_others();
    commands.push(replica_of("NO", "ONE"));
    commands.extend(keep(found));
    commands
}

fn close_others() -> Vec<Cmd> {
    vec![
        words(&["CLIENT", "KILL", "TYPE", "normal"]),
        words(&["CLIENT", "KILL", "TYPE", "pubsub"]),
    ]
}

/// ACL users are kept in one place or the other, never in both.
fn keep(found: &Reading) -> Vec<Cmd> {
    let mut commands = match found.users_file {
        UsersFile::Configured => vec![words(&["ACL", "SAVE"])],
        UsersFile::Absent => Vec::new(),
    };
    commands.push(words(&["CONFIG", "REWRITE"]));
    commands
}

fn guards(settings: &RedisService, found: &Reading) -> Vec<Cmd> {
    let lag = whole_seconds(settings.ack_lag_max).to_string();
    let delay = whole_seconds(settings.restart_delay).to_string();
    let mut commands = vec![
        set("min-replicas-max-lag", &lag),
        set("repl-diskless-sync", "yes"),
        set("repl-diskless-sync-delay", &delay),
        // A primary without replicas gives its backlog up after this time, and draws a new
        // replication ID with it: every replica would then be off the chain.
        set("repl-backlog-ttl", "0"),
    ];
    if found.early_sync == EarlySync::Known {
        commands.push(set("repl-diskless-sync-max-replicas", "0"));
    }
    commands
}

fn set(name: &str, value: &str) -> Cmd {
    words(&["CONFIG", "SET", name, value])
}

fn replica_of(host: &str, port: &str) -> Cmd {
    words(&["REPLICAOF", host, port])
}

fn words(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}
