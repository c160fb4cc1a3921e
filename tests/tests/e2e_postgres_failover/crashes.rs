//! Crashes that need no other primary: the server comes back by itself, or its agent starts it in place. Only a crash
//! that outlasts the grace makes another one the primary.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::{PostgresServer, StopMode};

/// The agent begins long before the voters hold anybody for down.
fn graceful(grace: &str) -> Shape {
    Shape {
        restart_after: "200ms",
        down_after: "10s",
        service_lines: vec![format!("refused_after = \"{grace}\"")],
        ..Shape::default()
    }
}

/// Every voter is well and sees it; none of them says that the primary is down before the grace is over.
#[test]
fn a_primary_that_is_back_within_the_grace_stays_primary() {
    let mut cluster = PostgresCluster::shaped(&graceful("10s"));
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    writers.wait_for_more(&cluster, 50);
    let ends: [fn(&mut PostgresServer); 2] = [PostgresServer::kill, |server| {
        server.stop(StopMode::Immediate);
    }];
    for end in ends {
        let ended = cluster.servers[before.primary].pid().unwrap();
        let errors = writers.errors();
        end(&mut cluster.servers[before.primary]);
        cluster.until("its agent starts it", || {
            let pid = cluster.servers[before.primary].pid()?;
            (pid != ended).then_some(())
        });
        writers.wait_for_more(&cluster, 100);
        assert!(writers.errors() > errors, "the writers noticed nothing");
        for node in &cluster.nodes {
            assert_eq!(node.primary().unwrap().epoch, before.epoch);
        }
    }
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "nobody else was promoted");
}

/// Its agent tries, and what it starts ends at once, until somebody mends the server's settings.
#[test]
fn a_primary_that_is_not_back_within_the_grace_is_replaced() {
    const GRACE: Duration = Duration::from_secs(3);
    let mut cluster = PostgresCluster::shaped(&graceful("3s"));
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    writers.wait_for_more(&cluster, 50);
    let file = cluster.servers[before.primary]
        .data_dir()
        .join("postgresql.conf");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{good}\nno_such_setting = 1\n")).unwrap();
    let killed = Instant::now();
    cluster.servers[before.primary].kill();
    cluster.wait_new_primary(before);
    assert!(killed.elapsed() >= GRACE, "{:?}", killed.elapsed());
    let tried = cluster.nodes[before.primary].log();
    let tried = tried.matches("the server could not be started").count();
    assert!(tried > 0, "its agent did not try within the grace");
    writers.wait_for_more(&cluster, 100);
    fs::write(&file, good).unwrap();
    cluster.end_whole_after(before, writers);
}

/// The other standby's receiver hangs, so that it can neither be frozen nor acknowledge: nobody can be promoted, and the
/// primary itself is the way out.
#[test]
fn a_failover_that_lacks_a_standby_is_ended_by_the_primarys_own_return() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let hung = cluster.standbys(before)[0];
    let receiver = cluster.servers[hung].value("SELECT pid FROM pg_stat_wal_receiver");
    let receiver = Pid::from_raw(receiver.parse().unwrap()).unwrap();
    kill_process(receiver, Signal::STOP).unwrap();
    cluster.servers[before.primary].kill();
    cluster.until("a failover without an end", || {
        (cluster.service().stage == "freezing").then_some(())
    });
    writers.wait_for_more(&cluster, 50);
    for node in &cluster.nodes {
        assert_eq!(
            node.primary().unwrap().primary,
            cluster.servers[before.primary].instance()
        );
    }
    let _ = kill_process(receiver, Signal::CONT);
    let after = cluster.end_whole(writers);
    assert_eq!(after.primary, before.primary);
}

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
