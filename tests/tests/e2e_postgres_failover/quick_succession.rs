//! A second failover begins before the first has settled.

use std::time::{Duration, Instant};

use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Writers};

#[test]
fn two_failovers_within_five_seconds_lose_nothing() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let began = Instant::now();
    cluster.servers[before.primary].kill();
    let second = cluster.wait_new_primary(before);
    let between = cluster.until("its epoch", || {
        let answer = cluster.answering().find_map(|node| node.primary())?;
        (answer.epoch > before.epoch).then_some(sentinel_tests::cluster::Steady {
            primary: second,
            epoch: answer.epoch,
        })
    });
    let promoted = began.elapsed();
    cluster.servers[second].kill();
    let again = began.elapsed();
    let third = cluster.wait_new_primary(between);
    println!(
        "the second primary after {promoted:?}, killed after {again:?}; the third, {third}, after {:?}",
        began.elapsed()
    );
    assert!(again < Duration::from_secs(5), "{again:?}");
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(between, writers);
}
