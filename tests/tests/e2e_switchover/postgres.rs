//! Of PostgreSQL, whose servers are stopped and started by their agents.

use sentinel_tests::cluster::TOKEN;
use sentinel_tests::postgres_cluster::{PostgresCluster, SERVICE, Source, Writers};
use sentinel_tests::postgres_server::Role;
use serde_json::Value;

use crate::to;

/// Orders one of the leader, again while a replica is just being admitted or another voter begins to lead.
fn order(cluster: &PostgresCluster, body: &str) -> (u16, Value) {
    let path = format!("/v1/services/{SERVICE}/switchover");
    cluster.until("an order that is not too early", || {
        let leader = &cluster.nodes[cluster.try_leader()?];
        let (status, answer) = leader.order(&path, TOKEN, body);
        (!crate::is_early(&answer)).then_some((status, answer))
    })
}

#[test]
fn the_named_standby_takes_over_and_the_old_primary_follows_it() {
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let target = (before.primary + 1) % cluster.servers.len();
    let old = &cluster.servers[before.primary];
    // Of the log that a primary writes: the control file tells the old one until the next checkpoint.
    let timeline = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    let timeline_before = old.value(timeline);
    let writers = Writers::start(&cluster, Source::Discovery);
    let (status, answer) = order(&cluster, &to(&cluster.servers[target].instance()));
    assert_eq!(
        status,
        200,
        "{answer}\n{}",
        cluster.nodes[before.primary].log()
    );
    assert_eq!(answer["from"], old.instance().to_string());
    let after = cluster.end_whole_after(before, writers);
    assert_eq!(after.primary, target);

    // It was stopped in good order and had nothing of its own: no rewind, nothing set aside.
    let log = cluster.nodes[before.primary].log();
    assert!(!log.contains("rewinding"), "{log}");
    assert!(
        old.try_query(Role::App, "SELECT count(*) FROM written")
            .is_ok()
    );
    assert_ne!(cluster.servers[target].value(timeline), timeline_before);
}
