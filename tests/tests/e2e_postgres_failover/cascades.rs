//! A standby that receives from another standby when it is found.

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, Role};

#[test]
fn a_cascading_standby_is_pointed_at_the_primary_and_counts() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let table = "CREATE TABLE written (id bigint PRIMARY KEY)";
    primary.try_query(Role::App, table).unwrap();
    let middle = PostgresServer::standby_of(&primary);
    let last = PostgresServer::standby_of(&middle);
    primary.wait_for_standby(&middle);
    middle.wait_for_standby(&last);
    let mut cluster = PostgresCluster::guarding(vec![primary, middle, last], &Shape::default());
    // Whole means that both stream from the primary and count.
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.servers[before.primary].kill();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
}
