//! Replicas are hit or arrive, and the write quorum follows.

use sentinel_tests::cluster::{Cluster, Source, Writers};

#[test]
fn a_dead_replica_leaves_the_write_quorum_and_the_next_failover_does_without_it() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let dead = (0..3).find(|index| *index != before.primary).unwrap();
    cluster.servers[dead].kill9();
    let instance = cluster.servers[dead].instance();
    cluster.until("the dead one leaves the write quorum", || {
        let members = cluster.service().write_quorum;
        (members.len() == 1 && !members.contains(&instance)).then_some(())
    });
    writers.wait_for_more(&cluster, 100);

    cluster.servers[before.primary].kill9();
    assert_ne!(cluster.wait_new_primary(before), dead);
    for index in [dead, before.primary] {
        cluster.servers[index].restart();
    }
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
}

/// It counts again in its new life, and then the other one may die too.
#[test]
fn a_replica_that_restarts_is_admitted_again_and_can_be_promoted() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let [restarted, other] = [1, 2];
    assert_eq!(before.primary, 0, "nothing has failed over yet");
    cluster.servers[restarted].restart_empty();
    assert_eq!(cluster.wait_whole(), before);
    writers.wait_for_more(&cluster, 50);
    cluster.servers[other].kill9();
    let instance = cluster.servers[other].instance();
    cluster.until("the dead one leaves the write quorum", || {
        let members = cluster.service().write_quorum;
        (!members.contains(&instance)).then_some(())
    });
    cluster.servers[before.primary].kill9();
    assert_eq!(cluster.wait_new_primary(before), restarted);
    for index in [other, before.primary] {
        cluster.servers[index].restart();
    }
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, after);
}

#[test]
fn a_replica_that_arrives_late_is_found_and_admitted() {
    let mut cluster = Cluster::start(1);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let late = cluster.add_replica_of(before.primary);
    let whole = cluster.wait_whole();
    assert_eq!(whole, before);
    let instance = cluster.servers[late].instance();
    assert!(cluster.service().write_quorum.contains(&instance));
    writers.stop().verify_all(&cluster, whole);
}
