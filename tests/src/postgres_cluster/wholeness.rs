//! Judges whether a cluster of PostgreSQL servers is as it should be in good times.
//!
//! Asks the nodes over both protocols, and every server itself: a standby follows when it streams the primary's timeline,
//! whatever the nodes say of it. Changes nothing.

use std::collections::BTreeSet;

use sentinel_core::id::InstanceId;

use super::{PostgresCluster, Steady};
use crate::postgres_server::{PostgresServer, Role};

/// The primary's: recovery, timeline, and who streams from it and counts.
const PRIMARY: &str = "SELECT pg_is_in_recovery()::text, \
    CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END, \
    coalesce((SELECT string_agg(application_name, ',' ORDER BY application_name) FROM pg_stat_replication \
              WHERE state = 'streaming' AND sync_state = 'quorum'), ''), \
    current_setting('synchronous_standby_names')";

/// A standby's: recovery, the timeline that it receives, from which port.
const STANDBY: &str = "SELECT pg_is_in_recovery()::text, \
    coalesce((SELECT upper(lpad(to_hex(received_tli), 8, '0')) FROM pg_stat_wal_receiver WHERE status = 'streaming'), ''), \
    coalesce((SELECT sender_port::text FROM pg_stat_wal_receiver), '')";

/// See [`PostgresCluster::whole`].
pub(super) fn judge(cluster: &PostgresCluster) -> Result<Steady, String> {
    let leader = cluster.try_leader().ok_or("the voters have no leader")?;
    let service = cluster.nodes[leader]
        .service()
        .ok_or("the leader does not answer")?;
    let (primary, epoch) = (service.primary.clone().ok_or("no primary")?, service.epoch);
    if service.stage != "steady" {
        return Err(format!("stage {}", service.stage));
    }
    for node in cluster.answering() {
        node.agrees(&primary, epoch)?;
    }
    let others: BTreeSet<InstanceId> = cluster
        .servers
        .iter()
        .map(PostgresServer::instance)
        .filter(|instance| *instance != primary)
        .collect();
    if service.write_quorum != others {
        return Err(format!("the write quorum is {:?}", service.write_quorum));
    }
    for (node, server) in cluster.nodes.iter().zip(&cluster.servers) {
        let found = service.instances.iter();
        let mut found = found.filter(|found| found.instance == server.instance());
        let agent = found.next().and_then(|found| found.agent.as_ref());
        if node.answers() && agent.is_none_or(|agent| agent.runs != Some(true)) {
            return Err(format!("the agent of {} says {agent:?}", server.instance()));
        }
    }
    let index = cluster
        .index_of(&primary)
        .ok_or("the primary is a stranger")?;
    let timeline = leads(&cluster.servers[index], &others)?;
    for server in &cluster.servers {
        if server.instance() != primary {
            follows(server, &timeline, primary.port())?;
        }
    }
    Ok(Steady {
        primary: index,
        epoch,
    })
}

/// The timeline of a primary from which all the others stream, and which waits for them.
fn leads(server: &PostgresServer, others: &BTreeSet<InstanceId>) -> Result<String, String> {
    let own = server.instance();
    let [recovery, timeline, streaming, names] = row(server, PRIMARY)?;
    if recovery == "true" {
        return Err(format!("{own} is no primary"));
    }
    let streaming: BTreeSet<&str> = streaming.split(',').collect();
    for other in others {
        let name = other.to_string();
        if !streaming.contains(name.as_str()) || !names.contains(&format!("\"{name}\"")) {
            return Err(format!(
                "{other} does not count at {own}: {streaming:?} stream, {names} is set"
            ));
        }
    }
    if streaming.len() != others.len() {
        return Err(format!("{streaming:?} stream from {own}"));
    }
    Ok(timeline)
}

fn follows(server: &PostgresServer, timeline: &str, port: u16) -> Result<(), String> {
    let found = row(server, STANDBY)?;
    let wanted = ["true", timeline, &port.to_string()];
    if found == wanted {
        return Ok(());
    }
    Err(format!(
        "{} has [recovery, streams timeline, from port] = {found:?}, not {wanted:?}",
        server.instance()
    ))
}

fn row<const COLUMNS: usize>(
    server: &PostgresServer,
    sql: &str,
) -> Result<[String; COLUMNS], String> {
    let rows = server
        .try_query(Role::Superuser, sql)
        .map_err(|error| format!("{}: {error}", server.instance()))?;
    let first = rows.into_iter().next().unwrap_or_default();
    first
        .try_into()
        .map_err(|row| format!("{}: {row:?}", server.instance()))
}
