//! Over HTTP.

use std::time::{Duration, Instant};

use sentinel_core::id::InstanceId;
use sentinel_tests::cluster::{Cluster, Source, Writers};
use sentinel_tests::wait;

use crate::{order, other_than, path, to};

/// A target that stopped a moment ago still looks fit, on a busy machine not always long enough.
const ATTEMPTS: usize = 10;

/// Far above what it takes, so that a slow machine passes, and below the time that a failover waits for one that is lost.
const GAP_MAX: Duration = Duration::from_secs(5);

#[test]
fn the_named_replica_takes_over_without_a_lost_write() {
    let cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let target = other_than(&cluster, before);
    let (old, new) = (
        cluster.servers[before.primary].instance(),
        cluster.servers[target].instance(),
    );
    let writers = Writers::start(&cluster, Source::Voters);
    let (ordered, count) = (Instant::now(), writers.count());
    let (status, answer) = order(&cluster, &to(&new));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["from"], old.to_string());
    assert_eq!(answer["to"], new.to_string());
    assert!(answer["epoch"].as_u64().unwrap() > before.epoch);
    let more = wait::until("the next write", || {
        (writers.count() > count + 1).then(Instant::now)
    });
    assert!(more - ordered < GAP_MAX, "{:?}", more - ordered);

    let after = cluster.wait_whole_after(before);
    assert_eq!(after.primary, target);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
}

#[test]
fn there_and_back_again_with_the_choice_left_to_the_leader() {
    let cluster = Cluster::start(1);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let mut steady = before;
    for _ in 0..2 {
        let (status, answer) = order(&cluster, "");
        assert_eq!(status, 200, "{answer}");
        steady = cluster.wait_whole_after(steady);
        writers.wait_for_more(&cluster, 50);
    }
    assert_eq!(steady.primary, before.primary);
    writers.stop().verify_all(&cluster, steady);
}

/// Refusals come before anything was changed, and each says why.
#[test]
fn what_is_refused_changes_nothing() {
    let mut cluster = Cluster::start(2);
    let observer = cluster.add_observer();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let leader = &cluster.nodes[cluster.leader()];
    let primary = cluster.servers[before.primary].instance();
    let target = cluster.servers[other_than(&cluster, before)].instance();

    let (status, answer) = leader.order(&path(), "another token", &to(&target));
    assert_eq!((status, &answer["code"]), (401, &"unauthorized".into()));
    let (status, answer) = leader.order(&path(), cluster.token(), &to(&primary));
    assert_eq!((status, &answer["code"]), (409, &"refused".into()));
    assert_eq!(answer["reasons"][0]["code"], "target_is_primary");
    let stranger = InstanceId::new("127.0.0.1", 1);
    let (status, answer) = leader.order(&path(), cluster.token(), &to(&stranger));
    assert_eq!(
        (status, &answer["code"]),
        (409, &"refused".into()),
        "{answer}"
    );
    let absent = "/v1/services/absent/switchover";
    let (status, answer) = leader.order(absent, cluster.token(), "");
    assert_eq!((status, &answer["code"]), (404, &"unknown_service".into()));
    for other in [cluster.follower(), observer] {
        let (status, answer) = cluster.nodes[other].order(&path(), cluster.token(), "");
        assert_eq!((status, &answer["code"]), (503, &"not_leader".into()));
        assert_eq!(answer["leader"], leader.name());
        let address = leader.plan().http_address().to_string();
        assert_eq!(answer["leader_http"], address);
    }

    assert_eq!(cluster.wait_whole(), before, "nothing has changed");
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, before);
}

/// It stands still with its data, and goes on receiving nothing: it must be refused, or called off.
#[test]
fn a_target_that_hangs_leaves_everything_as_it_was() {
    let cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let target = other_than(&cluster, before);
    let writers = Writers::start(&cluster, Source::Voters);
    let leader = &cluster.nodes[cluster.leader()];
    cluster.servers[target].pause();
    let instance = cluster.servers[target].instance();
    let (status, answer) = leader.order(&path(), cluster.token(), &to(&instance));
    assert_eq!(status, 409, "{answer}");
    let code = answer["code"].as_str().unwrap();
    assert!(matches!(code, "refused" | "called_off"), "{answer}");
    writers.wait_for_more(&cluster, 50);
    cluster.servers[target].resume();
    let after = cluster.wait_whole();
    assert_eq!(after.primary, before.primary, "the primary stays");
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, after);
}

/// It stops between the look at it and the last byte, so the primary is paused in vain.
#[test]
fn what_is_called_off_after_the_pause_leaves_the_primary_as_it_was() {
    let cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let target = other_than(&cluster, before);
    let writers = Writers::start(&cluster, Source::Voters);
    let late = (0..ATTEMPTS).any(|_| order_to_one_that_stops(&cluster, target, &writers));
    assert!(late, "never called off after the pause");

    let after = cluster.wait_whole();
    assert_eq!(after, before, "the primary stays, in its epoch");
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, after);
}

/// Whether it was called off because the target did not get the last byte, which is only waited for during a pause.
fn order_to_one_that_stops(cluster: &Cluster, target: usize, writers: &Writers) -> bool {
    cluster.wait_whole();
    let server = &cluster.servers[target];
    let leader = &cluster.nodes[cluster.leader()];
    server.pause();
    // One of these it has not got.
    writers.wait_for_more(cluster, 2);
    let (status, answer) = leader.order(&path(), cluster.token(), &to(&server.instance()));
    let count = writers.count();
    assert_eq!(status, 409, "{answer}");
    // The other replica still acknowledges: the primary takes writes again, and does not wait for the one that stands.
    cluster.until("writes after the pause", || {
        (writers.count() > count + 1).then_some(())
    });
    server.resume();
    answer["code"] == "called_off" && answer.to_string().contains("did not get the last bytes")
}
