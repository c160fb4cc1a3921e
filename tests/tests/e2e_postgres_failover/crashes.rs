//! Crashes that need no other primary: the server comes back by itself, or its agent starts it in place.

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};

#[test]
fn without_a_majority_a_killed_primary_is_started_in_place_and_stays_primary() {
    let mut cluster = PostgresCluster::shaped(&Shape {
        restart_after: "1s",
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Server(before.primary));
    for index in cluster.standbys(before) {
        cluster.nodes[index].pause();
    }
    let killed = cluster.servers[before.primary].pid().unwrap();
    cluster.servers[before.primary].kill();
    // Its agent alone knows of it.
    cluster.until("its agent starts it", || {
        let pid = cluster.servers[before.primary].pid()?;
        (pid != killed).then_some(())
    });
    writers.wait_for_more(&cluster, 50);
    for index in cluster.standbys(before) {
        cluster.nodes[index].resume();
    }
    writers.wait_for_more(&cluster, 50);
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "nobody else was promoted");
}

#[test]
fn a_killed_backend_changes_nothing() {
    let cluster = PostgresCluster::shaped(&Shape {
        down_after: "3s",
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let primary = &cluster.servers[before.primary];
    let postmaster = primary.pid();
    let backend = primary.value(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend' LIMIT 1",
    );
    let pid = Pid::from_raw(backend.parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    primary.wait_for_log("all server processes terminated; reinitializing");
    writers.wait_for_more(&cluster, 50);
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "nobody else was promoted");
    assert_eq!(cluster.servers[before.primary].pid(), postmaster);
}
