//! Failover after failover, each of a whole cluster: what one leaves behind must not be in the way of the next.

use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Writers};
use sentinel_tests::postgres_server::{Paused, StopMode};

#[test]
fn primaries_end_in_every_way_one_after_another() {
    let mut cluster = PostgresCluster::start();
    let writers = Writers::start(&cluster, Source::Discovery);
    for round in 0..8 {
        let before = cluster.wait_whole();
        let primary = &mut cluster.servers[before.primary];
        match round % 4 {
            0 => primary.kill(),
            1 => primary.pause(Paused::Everything),
            2 => primary.crash(),
            _ => primary.stop(StopMode::Immediate),
        }
        cluster.wait_new_primary(before);
        writers.wait_for_more(&cluster, 30);
        cluster.servers[before.primary].resume();
    }
    let steady = cluster.end_whole(writers);
    assert!(steady.epoch >= 9, "{steady:?}");
}
