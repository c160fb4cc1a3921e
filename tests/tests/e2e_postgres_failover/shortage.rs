//! Fewer standbys stream than must hold a write: the primary refuses new transactions with an error instead of letting
//! them hang, and takes them again by itself.

use std::fs;
use std::time::{Duration, Instant};

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::{Role, StopMode};

/// A refusal comes at once; a commit that waits for a standby comes never.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What a new session is told.
const DEFAULT: &str =
    "SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'";

/// A server that nobody starts again: its node votes on, and is no agent any more.
pub(crate) fn leave_to_itself(cluster: &mut PostgresCluster, index: usize) {
    let path = settings(cluster, index);
    let text = fs::read_to_string(&path).unwrap();
    let (voter, agent) = text.split_once("[[agent]]").unwrap();
    fs::write(path.with_extension("agent"), agent).unwrap();
    fs::write(&path, voter).unwrap();
    cluster.nodes[index].kill9();
    cluster.nodes[index].restart();
}

/// Its node is its agent again, and starts it.
pub(crate) fn give_back(cluster: &mut PostgresCluster, index: usize) {
    let path = settings(cluster, index);
    let voter = fs::read_to_string(&path).unwrap();
    let agent = fs::read_to_string(path.with_extension("agent")).unwrap();
    fs::write(&path, format!("{voter}[[agent]]{agent}")).unwrap();
    if cluster.nodes[index].answers() {
        cluster.nodes[index].kill9();
    }
    cluster.nodes[index].restart();
}

fn settings(cluster: &PostgresCluster, index: usize) -> std::path::PathBuf {
    let name = cluster.nodes[index].name();
    cluster.folder().join(format!("{name}.toml"))
}

#[expect(clippy::print_stdout, reason = "the measured times are of interest")]
fn case(min_replicas: u32, gone: usize) {
    let mut cluster = PostgresCluster::shaped(&Shape {
        min_replicas,
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let stopped = &cluster.standbys(before)[..gone];
    for index in stopped {
        leave_to_itself(&mut cluster, *index);
    }
    cluster.until("a leader", || cluster.try_leader());
    let writers = Writers::start(&cluster, Source::Discovery);
    for index in stopped {
        cluster.servers[*index].stop(StopMode::Fast);
    }
    let began = Instant::now();

    let primary = &cluster.servers[before.primary];
    cluster.until("the primary refuses writes", || {
        let rows = primary.try_query(Role::App, DEFAULT).ok()?;
        (rows[0][0] == "on").then_some(())
    });
    let refused_after = began.elapsed();
    let asked = Instant::now();
    let error = primary
        .try_query(Role::App, "INSERT INTO written VALUES (-1)")
        .unwrap_err();
    let took = asked.elapsed();
    println!(
        "min_replicas {min_replicas}, {gone} of 2 standbys gone: refused {refused_after:?} later, the error took {took:?}: {error}"
    );
    assert!(error.contains("read-only transaction"), "{error}");
    assert!(took < AT_ONCE, "{took:?}");
    // What is read needs no standby.
    primary.query("SELECT count(*) FROM written");
    let report = cluster.nodes[cluster.try_leader().unwrap()]
        .explain()
        .unwrap()
        .report;
    assert!(
        report.iter().any(|reason| reason.code == "writes_refused"),
        "{report:?}"
    );

    let (first, others) = stopped.split_first().unwrap();
    give_back(&mut cluster, *first);
    writers.wait_for_more(&cluster, 50);
    for index in others {
        give_back(&mut cluster, *index);
    }
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "nothing but time was needed");
}

/// Only a leader has writes refused, and this one is gone before the standbys are back.
#[test]
fn writes_that_were_refused_are_taken_again_without_a_leader() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let standbys = cluster.standbys(before);
    for index in standbys {
        leave_to_itself(&mut cluster, index);
    }
    cluster.until("a leader", || cluster.try_leader());
    let writers = Writers::start(&cluster, Source::Server(before.primary));
    for index in standbys {
        cluster.servers[index].stop(StopMode::Fast);
    }
    cluster.until("the primary refuses writes", || {
        let rows = cluster.servers[before.primary]
            .try_query(Role::App, DEFAULT)
            .ok()?;
        (rows[0][0] == "on").then_some(())
    });
    for index in standbys {
        cluster.nodes[index].kill9();
    }
    cluster.until("no leader is heard", || {
        let alone = cluster.nodes[before.primary].primary()?;
        alone.freshness.stale.then_some(())
    });
    // Either may be the one that was left in the write quorum.
    for index in standbys {
        cluster.servers[index].start();
    }
    writers.wait_for_more(&cluster, 50);
    let log = cluster.nodes[before.primary].log();
    assert!(log.contains("it takes writes again"), "{log}");

    for index in standbys {
        give_back(&mut cluster, index);
    }
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "nothing but time was needed");
}

#[test]
fn with_one_standby_of_two_that_must_hold_a_write_writes_are_refused_until_the_other_is_back() {
    case(2, 1);
}

#[test]
fn with_no_standby_left_writes_are_refused_until_one_is_back() {
    case(1, 2);
}
