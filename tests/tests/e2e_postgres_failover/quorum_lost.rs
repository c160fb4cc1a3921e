//! The voters are gone while writes go on.

use std::time::Duration;

use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Steady, Writers};
use sentinel_tests::wait;

/// How long a primary goes on without anybody who could replace it: more than ten times what makes it count as down.
const ALONE: Duration = Duration::from_secs(12);

/// How long nothing may change when nothing should.
const CALM: Duration = Duration::from_secs(5);

fn nothing_changes(cluster: &PostgresCluster, steady: Steady, period: Duration) {
    let primary = cluster.servers[steady.primary].instance();
    wait::throughout(period, || {
        for service in cluster.answering().filter_map(|node| node.service()) {
            assert_eq!(service.primary.as_ref(), Some(&primary));
            assert_eq!(
                (service.epoch, service.token_epoch),
                (steady.epoch, steady.epoch)
            );
        }
    });
}

/// Kills these nodes, writes on, starts them again; then a failover still works.
fn writes_go_on_without(killed: impl Fn(&PostgresCluster, Steady) -> Vec<usize>) {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let killed = killed(&cluster, before);
    for node in &killed {
        cluster.nodes[*node].kill9();
    }
    let (errors, count) = (writers.errors(), writers.count());
    nothing_changes(&cluster, before, ALONE);
    writers.wait_for_more(&cluster, 50);
    assert_eq!(writers.errors(), errors, "{:?}", writers.newest_errors());
    assert!(writers.count() > count + 300, "{writers:?} after {count}");
    for node in &killed {
        cluster.nodes[*node].restart();
    }
    assert_eq!(cluster.wait_whole(), before);
    nothing_changes(&cluster, before, CALM);
    assert_eq!(writers.errors(), errors, "{:?}", writers.newest_errors());

    cluster.servers[before.primary].kill();
    cluster.end_whole_after(before, writers);
}

#[test]
fn a_healthy_primary_goes_on_without_the_voters_of_its_standbys_and_nothing_flaps() {
    writes_go_on_without(|cluster, steady| cluster.standbys(steady).to_vec());
}

#[test]
fn a_healthy_primary_goes_on_without_its_own_node_and_another_and_nothing_flaps() {
    writes_go_on_without(|cluster, steady| vec![steady.primary, cluster.standbys(steady)[0]]);
}

#[test]
fn a_healthy_primary_goes_on_without_any_node_and_nothing_flaps() {
    writes_go_on_without(|_, _| vec![0, 1, 2]);
}
