//! Processes stand still (SIGSTOP) and go on later: the primary's server, its node, or both.

use std::time::Duration;

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::Paused;
use sentinel_tests::wait;

/// A writer that stays with the old primary gets no acknowledgement for what is lost there when it goes on.
#[test]
fn a_hung_primary_is_replaced_and_comes_back_as_a_standby() {
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let pinned = Writers::start(&cluster, Source::Server(before.primary));
    cluster.servers[before.primary].pause(Paused::Everything);
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].resume();
    let after = cluster.end_whole_after(before, writers);
    cluster.verify_all(&pinned.stop(), after);
}

/// Its open sessions write on and are acknowledged until its standbys are frozen; nobody else gets in.
#[test]
fn a_primary_whose_postmaster_hangs_is_replaced_and_comes_back_as_a_standby() {
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let pinned = Writers::start(&cluster, Source::Server(before.primary));
    let count = pinned.count();
    cluster.servers[before.primary].pause(Paused::Postmaster);
    cluster.wait_new_primary(before);
    assert!(pinned.count() > count, "its sessions did not work on");
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].resume();
    let after = cluster.end_whole_after(before, writers);
    cluster.verify_all(&pinned.stop(), after);
}

/// Its agent ends it the hard way: nobody sends it SIGCONT.
#[test]
fn a_primary_that_hangs_for_good_comes_back_as_a_standby() {
    let cluster = PostgresCluster::shaped(&Shape {
        restart_after: "3s",
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.servers[before.primary].pause(Paused::Everything);
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
}

/// Neither the server nor anybody who asks for the primary has a part in it.
#[test]
fn a_primary_whose_agent_hangs_goes_on() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.nodes[before.primary].pause();
    let errors = writers.errors();
    writers.wait_for_more(&cluster, 300);
    wait::throughout(Duration::from_secs(3), || {
        for answer in cluster.answering().filter_map(|node| node.primary()) {
            assert_eq!(answer.epoch, before.epoch);
        }
    });
    assert_eq!(writers.errors(), errors, "{:?}", writers.newest_errors());
    cluster.nodes[before.primary].resume();
    assert_eq!(cluster.end_whole(writers), before);
}

/// When they go on together, the server believes for a moment that it is the primary still, and so does its agent.
#[test]
fn a_primary_that_hangs_with_its_agent_is_replaced_and_comes_back_as_a_standby() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let pinned = Writers::start(&cluster, Source::Server(before.primary));
    cluster.nodes[before.primary].pause();
    cluster.servers[before.primary].pause(Paused::Everything);
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.nodes[before.primary].resume();
    cluster.servers[before.primary].resume();
    let after = cluster.end_whole_after(before, writers);
    cluster.verify_all(&pinned.stop(), after);
}
