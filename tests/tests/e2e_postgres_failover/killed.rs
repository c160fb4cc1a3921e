//! Processes are killed: the primary's server, its node, or both.

use std::time::Duration;

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::PostgresVersion;
use sentinel_tests::wait;

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_standby() {
    for version in PostgresVersion::all_present() {
        let mut cluster = PostgresCluster::shaped(&Shape {
            version,
            ..Shape::default()
        });
        let before = cluster.wait_whole();
        let writers = Writers::start(&cluster, Source::Discovery);
        cluster.servers[before.primary].kill();
        cluster.wait_new_primary(before);
        writers.wait_for_more(&cluster, 100);
        cluster.end_whole_after(before, writers);
    }
}

/// Nobody on the host has to live for a primary to go on.
#[test]
fn a_primary_whose_agent_is_killed_goes_on() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.nodes[before.primary].kill9();
    let errors = writers.errors();
    writers.wait_for_more(&cluster, 300);
    wait::throughout(Duration::from_secs(3), || {
        for answer in cluster.answering().filter_map(|node| node.primary()) {
            assert_eq!(answer.epoch, before.epoch);
        }
    });
    assert_eq!(writers.errors(), errors, "{:?}", writers.newest_errors());
    cluster.nodes[before.primary].restart();
    assert_eq!(cluster.end_whole(writers), before);
}

/// Its standbys have agents, it has none until its node is back; the agent then finds out alone what it missed.
#[test]
fn a_primary_killed_with_its_agent_is_replaced_and_comes_back_with_it() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.nodes[before.primary].kill9();
    cluster.servers[before.primary].kill();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.nodes[before.primary].restart();
    cluster.end_whole_after(before, writers);
}

/// It is frozen, promoted or brought over by SQL alone.
#[test]
fn a_standby_without_its_agent_takes_part_in_a_failover() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let [standby, _] = cluster.standbys(before);
    cluster.nodes[standby].kill9();
    cluster.servers[before.primary].kill();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.nodes[standby].restart();
    cluster.end_whole_after(before, writers);
}

/// The judge of all the tests here can tell.
#[test]
fn a_lost_row_is_noticed() {
    let cluster = PostgresCluster::start();
    let steady = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let written = writers.stop();
    cluster.verify_all(&written, steady);
    let primary = &cluster.servers[steady.primary];
    primary.execute("DELETE FROM written WHERE id = 3");
    assert_eq!(written.lost_on(primary), Ok(Some((3, 1))));
}
