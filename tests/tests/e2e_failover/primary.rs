//! The primary alone is hit.

use std::time::Duration;

use sentinel_tests::cluster::{Cluster, Source, Writers};
use sentinel_tests::wait;

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    cluster.servers[before.primary].kill9();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
}

/// A writer that stays with the old primary gets no acknowledgement for what is lost there when it goes on.
#[test]
fn a_hung_primary_is_replaced_and_comes_back_as_a_replica() {
    let cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let pinned = Writers::start(&cluster, Source::Server(before.primary));
    cluster.servers[before.primary].pause();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].resume();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
    pinned.stop().verify_all(&cluster, after);
}

/// The judge of all the tests here can tell.
#[test]
fn a_lost_or_changed_write_is_noticed() {
    let cluster = Cluster::start(1);
    let steady = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let written = writers.stop();
    written.verify_all(&cluster, steady);
    let primary = &cluster.servers[steady.primary];
    primary.cli(&["DEL", "w0:3"]);
    primary.cli(&["SET", "w1:2", "other"]);
    let mut lost = written.lost_on(primary);
    lost.sort_unstable();
    assert_eq!(lost, ["w0:3", "w1:2"]);
}

/// It is back before anybody notices, as a primary, and its replicas would copy its emptiness.
#[test]
fn a_primary_that_restarts_empty_at_once_is_replaced_and_wipes_nobody() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].restart_empty();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
}

/// Its replicas would go back with it to what it saved last.
#[test]
fn a_primary_that_restarts_at_once_with_old_data_is_replaced() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let saved = || cluster.servers[before.primary].try_cli(&["SAVE"]).ok();
    cluster.until("the primary saves", saved);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
}

/// The second failover depends on what the first one left behind: the old primary is a full member by then.
#[test]
fn two_failovers_in_a_row_with_the_old_primaries_coming_back() {
    let mut cluster = Cluster::start(2);
    let writers = Writers::start(&cluster, Source::Voters);
    for _ in 0..2 {
        let before = cluster.wait_whole();
        cluster.servers[before.primary].kill9();
        cluster.wait_new_primary(before);
        writers.wait_for_more(&cluster, 50);
        cluster.servers[before.primary].restart();
        cluster.wait_whole_after(before);
    }
    let after = cluster.wait_whole();
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, after);
}

/// With one replica left, the write quorum is exactly that one, and the seal needs it.
#[test]
fn a_primary_with_one_replica_is_replaced_and_writes_wait_for_the_old_one() {
    let mut cluster = Cluster::start(1);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    cluster.servers[before.primary].kill9();
    cluster.wait_new_primary(before);
    let acknowledged = writers.count();
    wait::throughout(Duration::from_secs(1), || {
        assert_eq!(writers.count(), acknowledged, "nobody else holds it");
    });
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
}
