//! Processes are killed: the primary's server, its node, or both.

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::PostgresVersion;

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_standby() {
    for version in PostgresVersion::all_present() {
        let mut cluster = PostgresCluster::shaped(&Shape {
            version,
            ..Shape::default()
        });
        let before = cluster.wait_whole();
        let writers = Writers::start(&cluster, Source::Discovery);
        cluster.servers[before.primary].kill();
        cluster.wait_new_primary(before);
        writers.wait_for_more(&cluster, 100);
        cluster.end_whole_after(before, writers);
    }
}

/// The judge of all the tests here can tell.
#[test]
fn a_lost_row_is_noticed() {
    let cluster = PostgresCluster::start();
    let steady = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let written = writers.stop();
    cluster.verify_all(&written, steady);
    let primary = &cluster.servers[steady.primary];
    primary.execute("DELETE FROM written WHERE id = 3");
    assert_eq!(written.lost_on(primary), Ok(Some((3, 1))));
}
