//! Not every standby is as good a successor as the other: one lags, does not replay, or has just been restarted.

use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Steady, Writers};

/// The standby that would be promoted if both had the same, and the other one.
fn favourite(cluster: &PostgresCluster, steady: Steady) -> [usize; 2] {
    let mut standbys = cluster.standbys(steady);
    standbys.sort_by_key(|index| cluster.servers[*index].instance());
    standbys
}

#[test]
fn a_lagging_standby_loses_to_a_fresh_one() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let [lagging, fresh] = favourite(&cluster, before);
    cluster.cut_off(lagging, before.primary);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].crash();
    cluster.servers[lagging].resume();
    assert_eq!(cluster.wait_new_primary(before), fresh);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
}

/// What a standby has received counts, and its replay goes on for the failover.
#[test]
fn standbys_whose_replay_is_paused_take_over_all_the_same() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    for standby in cluster.standbys(before) {
        let standby = &cluster.servers[standby];
        standby.execute("SELECT pg_wal_replay_pause()");
        standby.wait_for("SELECT pg_get_wal_replay_pause_state()", "paused");
    }
    writers.wait_for_more(&cluster, 200);
    cluster.servers[before.primary].kill();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
}

/// It counts for the write quorum still. It cannot say what it received before it was restarted, and nobody is there to
/// receive from.
#[test]
fn a_standby_that_was_just_restarted_loses_to_one_that_has_more() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let [restarted, other] = favourite(&cluster, before);
    cluster.cut_off(restarted, before.primary);
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].crash();
    let pid = cluster.servers[restarted].pid();
    cluster.servers[restarted].crash();
    assert_eq!(cluster.wait_new_primary(before), other);
    assert_ne!(cluster.servers[restarted].pid(), pid);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
}

/// The other way round: until its replay has come to its end it says less than it has, and what it has nobody else has.
#[test]
fn a_standby_that_was_just_restarted_and_has_more_wins() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let [lagging, restarted] = favourite(&cluster, before);
    // So that it applies for a while after its restart what it had received before.
    let slow = &cluster.servers[restarted];
    slow.execute("ALTER SYSTEM SET recovery_min_apply_delay = '4s'");
    slow.execute("SELECT pg_reload_conf()");
    cluster.cut_off(lagging, before.primary);
    writers.wait_for_more(&cluster, 300);
    let pid = cluster.servers[restarted].pid();
    cluster.servers[before.primary].crash();
    cluster.servers[restarted].crash();
    cluster.servers[lagging].resume();
    assert_eq!(cluster.wait_new_primary(before), restarted);
    assert_ne!(cluster.servers[restarted].pid(), pid);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
}
