//! An operator wants another primary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::postgres_cluster::{PostgresCluster, SERVICE, Shape, Source, Steady, Writers};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion};
use sentinel_tests::wait;
use serde_json::Value;

/// Far above what it takes, for a machine that does much else; what was measured is printed.
const GAP_MAX: Duration = Duration::from_secs(10);

/// Orders one of the leader, again while a standby is just being admitted or another voter begins to lead.
fn order(cluster: &PostgresCluster, target: usize) -> (u16, Value) {
    let body = format!("{{\"to\": \"{}\"}}", cluster.servers[target].instance());
    cluster.until("an order that is not too early", || {
        let leader = &cluster.nodes[cluster.try_leader()?];
        let path = format!("/v1/services/{SERVICE}/switchover");
        let (status, answer) = leader.order(&path, cluster.token(), &body);
        let early = answer["reasons"][0]["code"] == "not_steady"
            || answer["code"] == "moved_on"
            || answer["code"] == "not_leader";
        (!early).then_some((status, answer))
    })
}

/// The longest time without an acknowledged row while something is done, and until rows are acknowledged again.
fn gap<T>(writers: &Writers, something: impl FnOnce() -> T) -> (Duration, T) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut last) = (Duration::ZERO, Instant::now());
            loop {
                let (ends, seen) = (over.load(Ordering::SeqCst), writers.count());
                wait::until_within(wait::BOUND_CLUSTER, "another row", || {
                    (writers.count() > seen).then_some(())
                });
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if ends {
                    return longest;
                }
            }
        });
        let done = something();
        over.store(true, Ordering::SeqCst);
        (watch.join().unwrap(), done)
    })
}

/// Changes with every rewind and every copy.
fn data_since(server: &PostgresServer) -> String {
    server.value("SELECT (pg_stat_file('PG_VERSION')).change")
}

/// The old primary follows with the data that it had.
fn ends_switched(cluster: &PostgresCluster, before: Steady, since: &str, writers: Writers) {
    let after = cluster.end_whole_after(before, writers);
    assert_eq!(after.epoch, before.epoch + 1);
    let old = &cluster.servers[before.primary];
    assert_eq!(data_since(old), since, "it needed no rewind and no copy");
}

#[test]
fn the_named_standby_takes_over_and_the_old_primary_follows_without_a_rewind() {
    for version in PostgresVersion::all_present() {
        let cluster = PostgresCluster::shaped(&Shape {
            version: version.clone(),
            ..Shape::default()
        });
        let before = cluster.wait_whole();
        let target = cluster.standbys(before)[1];
        let since = data_since(&cluster.servers[before.primary]);
        let writers = Writers::start(&cluster, Source::Discovery);
        let (gap, (status, answer)) = gap(&writers, || order(&cluster, target));
        println!("{version:?}: no row for {gap:?}: {answer}");
        assert_eq!(status, 200, "{answer}");
        let old = cluster.servers[before.primary].instance();
        assert_eq!(answer["from"], old.to_string());
        assert!(gap < GAP_MAX, "{gap:?}");
        assert_eq!(cluster.wait_new_primary(before), target);
        ends_switched(&cluster, before, &since, writers);
    }
}

#[test]
fn the_command_line_does_it_too() {
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let since = data_since(&cluster.servers[before.primary]);
    let writers = Writers::start(&cluster, Source::Discovery);
    let file = cluster.token_file();
    let arguments = [
        "switchover",
        SERVICE,
        "--token-file",
        file.to_str().unwrap(),
    ];
    let output = cluster.cli(before.primary, &arguments);
    let told = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}{errors}");
    ends_switched(&cluster, before, &since, writers);
}

/// It looks as if it streamed, and never gets the last byte.
#[test]
fn a_target_that_stopped_receiving_changes_nothing() {
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let target = cluster.standbys(before)[0];
    let writers = Writers::start(&cluster, Source::Discovery);
    let receiver = cluster.servers[target].value("SELECT pid FROM pg_stat_wal_receiver");
    let receiver = Pid::from_raw(receiver.parse().unwrap()).unwrap();
    kill_process(receiver, Signal::STOP).unwrap();
    let (gap, (status, answer)) = gap(&writers, || order(&cluster, target));
    println!("no row for {gap:?}: {status} {answer}");
    // It may have been replaced meanwhile.
    let _ = kill_process(receiver, Signal::CONT);
    assert_ne!(status, 200, "{answer}");
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "nothing has changed");
}

/// It has everything, and only has to apply it.
#[test]
fn a_target_whose_replay_is_paused_goes_on_replaying_and_takes_over() {
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let target = cluster.standbys(before)[0];
    let since = data_since(&cluster.servers[before.primary]);
    cluster.servers[target].execute("SELECT pg_wal_replay_pause()");
    let writers = Writers::start(&cluster, Source::Discovery);
    let (status, answer) = order(&cluster, target);
    assert_eq!(status, 200, "{answer}");
    ends_switched(&cluster, before, &since, writers);
}

/// What the primary has in memory takes it two seconds to write out: it takes writes meanwhile, and only then it stops.
#[test]
fn a_checkpoint_that_takes_its_time_is_waited_for_while_writes_go_on() {
    const CHECKPOINT: Duration = Duration::from_secs(2);
    let cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let (target, old) = (
        cluster.standbys(before)[0],
        &cluster.servers[before.primary],
    );
    let since = data_since(old);
    let writers = Writers::start(&cluster, Source::Discovery);
    let checkpointer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let checkpointer = Pid::from_raw(old.value(checkpointer).parse().unwrap()).unwrap();
    kill_process(checkpointer, Signal::STOP).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            cluster.until("the leader tells of the checkpoint", || {
                let report = cluster.nodes[cluster.try_leader()?].explain()?.report;
                let told = |reason: &sentinel_core::reason::Reason| {
                    reason.code == "under_way" && reason.text.contains("checkpoint")
                };
                report.iter().any(told).then_some(())
            });
            let (errors, count) = (writers.errors(), writers.count());
            wait::throughout(CHECKPOINT, || assert!(old.pid().is_some()));
            assert!(writers.count() > count + 50, "{writers:?} after {count}");
            assert_eq!(writers.errors(), errors, "{:?}", writers.newest_errors());
            kill_process(checkpointer, Signal::CONT).unwrap();
        });
        let (gap, (status, answer)) = gap(&writers, || order(&cluster, target));
        println!("no row for {gap:?}: {answer}");
        assert_eq!(status, 200, "{answer}");
        assert!(gap < GAP_MAX, "{gap:?}");
    });
    assert_eq!(cluster.wait_new_primary(before), target);
    ends_switched(&cluster, before, &since, writers);
}
