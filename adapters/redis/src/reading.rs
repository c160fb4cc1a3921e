//! Reads facts out of what a server says of itself (`INFO`, `CONFIG GET`, `ACL GETUSER`).
//!
//! Knows replies and nothing else: no connection, no deadline, no earlier reading.
//!
//! The delicate facts are `position` and `synced`: a replica that has lost its data must never look
//! as if it could be promoted. Tried on redis-server 7.0.15 with slowed and broken-off syncs:
//!
//! | a replica … | loading | sync in progress | slave_repl_offset | master_repl_offset | data |
//! |---|---|---|---|---|---|
//! | in its first sync, `REPLICAOF` sent to an empty server | 0 | 1 | 0 | 0 | none |
//! | the same, frozen in the middle | 0 | 0 | 0 | 0, link down since -1 | none |
//! | in its first sync, `replicaof` in its configuration | 0 | 1 | 1 | 0 | none |
//! | the same, frozen in the middle | 0 | 0 | 1 | 0 | none |
//! | in a full resync, the copy still on its way | 0 | 1 | p | p | whole, at p |
//! | the same, frozen in the middle | 0 | 0 | p | p | whole, at p |
//! | in a full resync, loading the copy (freeze answers LOADING) | 1 | 1 | 1 | p | torn |
//! | after a copy that broke off in memory (`swapdb`) | 0 | 0 | p | p | whole, at p |
//! | after a copy on disk that cannot be loaded | the server exits | | | | |
//!
//! So data are given up only when the load begins, and from then until its end the two offsets
//! differ. A replica therefore has a position only while they agree, and is not synced while it
//! loads, while a sync is in progress, or when it has never been linked and has no history.

use redis::{Cmd, Value};
use sentinel_core::id::{Incarnation, InstanceId, ServerId};
use sentinel_core::observation::{
    Facts, Link, Persistable, ReplicaLink, RestartGuard, Role, Upstream, Writes,
};
use sentinel_core::position::{Lineage, Offset, Position};
use std::collections::BTreeMap;

use crate::{record, reply};

/// The address to which a frozen instance is told to listen: nobody does.
pub(crate) const NOWHERE: (&str, u16) = ("127.0.0.1", 1);

const SECTIONS: [&str; 4] = ["server", "replication", "persistence", "keyspace"];
const SETTINGS: [&str; 5] = [
    "repl-diskless-sync",
    "repl-diskless-sync-delay",
    "repl-diskless-sync-max-replicas",
    "replica-priority",
    "aclfile",
];

/// Why a server forgets what it is told.
const NO_FILE: &str = "runs without a configuration file, so that its restart would forget what it was told: start it with one";

/// Facts, and what an action must know beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) facts: Facts,
    /// ACL users are kept in a file of their own, and not by `CONFIG REWRITE`.
    pub(crate) users_file: UsersFile,
    /// The server knows `repl-diskless-sync-max-replicas` (since 7.0), which cuts the delay short.
    pub(crate) early_sync: EarlySync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsersFile {
    Configured,
    Absent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EarlySync {
    Known,
    Unknown,
}

/// Why replies are no facts; the text says which part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's {0} is not that of a Redis or Valkey data node; check the address")]
pub(crate) struct NotARedis(&'static str);

/// One pipeline; [`read`] takes its replies.
pub(crate) fn questions() -> Vec<Cmd> {
    let mut commands: Vec<Cmd> = Vec::new();
    for section in SECTIONS {
        let mut info = redis::cmd("INFO");
        info.arg(section);
        commands.push(info);
    }
    // One setting each: several in one CONFIG GET came with 7.0.
    for setting in SETTINGS {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(setting);
        commands.push(get);
    }
    commands.extend(record::questions());
    commands
}

/// Makes facts of the replies to [`questions`].
pub(crate) fn read(replies: &[Value]) -> Result<Reading, NotARedis> {
    let [
        server,
        replication,
        persistence,
        keyspace,
        sync,
        delay,
        early,
        priority,
        users,
        user,
        k,
    ] = replies
    else {
        return Err(NotARedis("number of replies"));
    };
    let server = reply::info(server);
    let replication = reply::info(replication);
    let persistence = reply::info(persistence);
    let run_id = server.get("run_id").ok_or(NotARedis("INFO server"))?;
    let loading = ["loading", "async_loading"]
        .iter()
        .any(|field| persistence.get(field).is_some_and(|value| *value != "0"));
    let early = reply::setting(early, "repl-diskless-sync-max-replicas");
    let facts = Facts {
        incarnation: Incarnation::new(*run_id),
        server: ServerId::new(*run_id),
        role: role(&replication)?,
        position: position(&replication).filter(|_| !loading),
        fork: fork(&replication),
        synced: !loading && holds_whole_copy(&replication),
        holds_data: reply::text(keyspace).is_some_and(|text| text.contains("keys=")),
        persistable: match server.get("config_file") {
            None | Some(&"") => Persistable::No(NO_FILE.into()),
            Some(_) => Persistable::Yes,
        },
        priority: reply::setting(priority, "replica-priority")
            .and_then(|text| text.parse().ok())
            .ok_or(NotARedis("replica-priority"))?,
        write_quorum: record::in_force(user, k).unwrap_or_else(|damage| {
            tracing::warn!(%damage, "write quorum not readable");
            None
        }),
        replicas: replicas(&replication),
        restart_guard: restart_guard(sync, delay, early),
        writes: Writes::Itself,
        applied: None,
        trouble: None,
    };
    let users_file = match reply::setting(users, "aclfile") {
        None | Some("") => UsersFile::Absent,
        Some(_) => UsersFile::Configured,
    };
    Ok(Reading {
        facts,
        users_file,
        early_sync: early.map_or(EarlySync::Unknown, |_| EarlySync::Known),
    })
}

type Fields<'a> = BTreeMap<&'a str, &'a str>;

fn role(fields: &Fields<'_>) -> Result<Role, NotARedis> {
    match *fields.get("role").ok_or(NotARedis("INFO replication"))? {
        "master" => Ok(Role::Primary),
        "slave" => Ok(Role::Replica {
            upstream: upstream(fields).ok_or(NotARedis("master_host"))?,
            link: link(fields),
        }),
        _ => Err(NotARedis("role")),
    }
}

fn upstream(fields: &Fields<'_>) -> Option<Upstream> {
    let host = *fields.get("master_host")?;
    let port: u16 = fields.get("master_port")?.parse().ok()?;
    if (host, port) == NOWHERE {
        return Some(Upstream::Frozen);
    }
    Some(Upstream::Instance(InstanceId::new(host, port)))
}

fn link(fields: &Fields<'_>) -> Link {
    if fields.get("master_link_status") == Some(&"up") {
        Link::Streaming
    } else if fields.get("master_sync_in_progress") == Some(&"1") {
        Link::Syncing
    } else {
        Link::Broken
    }
}

fn number(fields: &Fields<'_>, name: &str) -> Option<u64> {
    fields.get(name)?.parse().ok()
}

fn position(fields: &Fields<'_>) -> Option<Position> {
    let offset = number(fields, "master_repl_offset")?;
    // Absent on a primary.
    if let Some(received) = fields.get("slave_repl_offset")
        && received.parse() != Ok(offset)
    {
        return None;
    }
    Some(Position {
        lineage: Lineage::new(*fields.get("master_replid")?),
        offset: Offset(offset),
    })
}

fn holds_whole_copy(fields: &Fields<'_>) -> bool {
    if fields.get("role") == Some(&"master") {
        return true;
    }
    let never_linked = fields.get("master_link_down_since_seconds") == Some(&"-1");
    let no_history = number(fields, "master_repl_offset").is_none_or(|offset| offset == 0);
    position(fields).is_some()
        && fields.get("master_sync_in_progress") == Some(&"0")
        && !(never_linked && no_history)
}

/// `second_repl_offset` is the first byte that is not of the parent lineage, and -1 without one.
fn fork(fields: &Fields<'_>) -> Option<Position> {
    let first_own = number(fields, "second_repl_offset")?;
    Some(Position {
        lineage: Lineage::new(*fields.get("master_replid2")?),
        offset: Offset(first_own.checked_sub(1)?),
    })
}

fn replicas(fields: &Fields<'_>) -> Vec<ReplicaLink> {
    let is_replica = |name: &str| {
        name.strip_prefix("slave")
            .is_some_and(|rest| rest.parse::<u32>().is_ok())
    };
    fields
        .iter()
        .filter(|(name, _)| is_replica(name))
        .filter_map(|(_, line)| replica(line))
        .collect()
}

/// `ip=127.0.0.1,port=6380,state=online,offset=1463,lag=0`.
///
/// A link without an address is that of a reader of the replication stream (a backup, a copy of the changes elsewhere)
/// which announced no port to listen on: `port=0`. Nobody can ask it anything, so it is no instance.
fn replica(line: &str) -> Option<ReplicaLink> {
    let parts: Fields<'_> = line
        .split(',')
        .filter_map(|part| part.split_once('='))
        .collect();
    let host = parts.get("ip").filter(|host| !host.is_empty())?;
    let port = parts.get("port")?.parse().ok().filter(|port| *port != 0)?;
    Some(ReplicaLink {
        instance: InstanceId::new(*host, port),
        link: match *parts.get("state")? {
            "online" => Link::Streaming,
            _ => Link::Syncing,
        },
        acknowledged: Offset(number(&parts, "offset")?),
        applied: None,
    })
}

fn restart_guard(sync: &Value, delay: &Value, early: Option<&str>) -> RestartGuard {
    let delay = reply::setting(delay, "repl-diskless-sync-delay")
        .and_then(|seconds| seconds.parse::<u64>().ok())
        .unwrap_or(0);
    let diskless = reply::setting(sync, "repl-diskless-sync") == Some("yes");
    if diskless && delay > 0 && early.is_none_or(|replicas| replicas == "0") {
        return RestartGuard::Delay(delay * 1000);
    }
    RestartGuard::None
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn setting(name: &str, value: &str) -> Value {
        Value::Array(vec![bulk(name), bulk(value)])
    }

    fn replies(replication: &str, persistence: &str) -> Vec<Value> {
        vec![
            bulk("# Server\r\nrun_id:aa\r\nconfig_file:/etc/redis.conf\r\n"),
            bulk(replication),
            bulk(persistence),
            bulk("# Keyspace\r\ndb0:keys=5,expires=0,avg_ttl=0\r\n"),
            setting("repl-diskless-sync", "yes"),
            setting("repl-diskless-sync-delay", "5"),
            Value::Array(vec![]),
            setting("replica-priority", "100"),
            setting("aclfile", ""),
            Value::Nil,
            setting("min-replicas-to-write", "0"),
        ]
    }

    fn facts(replication: &str) -> Facts {
        read(&replies(replication, "loading:0\r\nasync_loading:0\r\n"))
            .unwrap()
            .facts
    }

    fn replica_line(sync: u32, received: u32, offset: u32, down_since: &str) -> String {
        format!(
            "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:1\r\nmaster_link_status:down\r\nmaster_sync_in_progress:{sync}\r\n\
             slave_repl_offset:{received}\r\nmaster_link_down_since_seconds:{down_since}\r\nmaster_replid:ab\r\n\
             master_replid2:0000\r\nmaster_repl_offset:{offset}\r\nsecond_repl_offset:-1\r\n"
        )
    }

    #[test]
    fn a_primary_with_replicas() {
        let facts = facts(
            "role:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=0\r\n\
             slave1:ip=2001:db8::1,port=6381,state=wait_bgsave,offset=0,lag=0\r\nmaster_replid:ab\r\n\
             master_replid2:cd\r\nmaster_repl_offset:20\r\nsecond_repl_offset:11\r\n",
        );
        assert_eq!(facts.role, Role::Primary);
        assert_eq!(facts.position.unwrap().offset, Offset(20));
        assert_eq!(
            facts.fork.unwrap(),
            Position {
                lineage: Lineage::new("cd"),
                offset: Offset(10)
            }
        );
        let links: Vec<_> = facts
            .replicas
            .iter()
            .map(|r| (r.instance.to_string(), r.link))
            .collect();
        assert_eq!(
            links,
            [
                ("127.0.0.1:6380".into(), Link::Streaming),
                ("[2001:db8::1]:6381".into(), Link::Syncing)
            ]
        );
        assert_eq!(facts.restart_guard, RestartGuard::Delay(5000));
    }

    #[test]
    fn a_link_without_an_address_is_no_instance() {
        let facts = facts(
            "role:master\r\nconnected_slaves:3\r\nslave0:ip=127.0.0.1,port=0,state=online,offset=14,lag=0\r\n\
             slave1:ip=,port=6380,state=online,offset=14,lag=0\r\n\
             slave2:ip=127.0.0.1,port=6381,state=online,offset=14,lag=0\r\nmaster_replid:ab\r\n\
             master_replid2:cd\r\nmaster_repl_offset:20\r\nsecond_repl_offset:11\r\n",
        );
        let links: Vec<_> = facts.replicas.iter().map(|r| &r.instance).collect();
        assert_eq!(links, [&InstanceId::new("127.0.0.1", 6381)]);
    }

    /// The rows of the table at the top of the file.
    #[test]
    fn only_whole_copies_are_synced() {
        for (what, line, position, synced) in [
            ("first sync", replica_line(1, 0, 0, "-1"), Some(0), false),
            (
                "first sync, frozen",
                replica_line(0, 0, 0, "-1"),
                Some(0),
                false,
            ),
            (
                "first sync from configuration",
                replica_line(1, 1, 0, "-1"),
                None,
                false,
            ),
            ("the same, frozen", replica_line(0, 1, 0, "-1"), None, false),
            (
                "copy on its way",
                replica_line(1, 50, 50, "3"),
                Some(50),
                false,
            ),
            (
                "the same, frozen",
                replica_line(0, 50, 50, "3"),
                Some(50),
                true,
            ),
            ("data given up", replica_line(0, 1, 50, "3"), None, false),
            ("frozen", replica_line(0, 50, 50, "3"), Some(50), true),
            (
                "a primary that was frozen",
                replica_line(0, 50, 50, "-1"),
                Some(50),
                true,
            ),
        ] {
            let facts = facts(&line);
            assert_eq!(facts.position.map(|p| p.offset.0), position, "{what}");
            assert_eq!(facts.synced, synced, "{what}");
        }
    }

    #[test]
    fn a_loading_server_is_nowhere() {
        let line = replica_line(0, 50, 50, "3");
        for persistence in [
            "loading:1\r\nasync_loading:0\r\n",
            "loading:0\r\nasync_loading:1\r\n",
        ] {
            let facts = read(&replies(&line, persistence)).unwrap().facts;
            assert!(!facts.synced && facts.position.is_none());
        }
    }

    #[test]
    fn a_sentinel_is_not_a_data_node() {
        let mut replies = replies("role:sentinel\r\n", "");
        assert_eq!(read(&replies), Err(NotARedis("role")));
        replies.pop();
        assert_eq!(read(&replies), Err(NotARedis("number of replies")));
    }
}
