//! The disk with the primary's WAL is full.

use std::fs::File;
use std::io::Write as _;

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::{
    FirstStart, Options, PostgresServer, PostgresVersion, Role, StopMode,
};
use sentinel_tests::skipped;

const MEGABYTES: u32 = 64;

#[test]
fn a_primary_whose_wal_disk_is_full_is_replaced_and_comes_back_when_there_is_room() {
    let mut primary = PostgresServer::primary(&PostgresVersion::any());
    let table = "CREATE TABLE written (id bigint PRIMARY KEY)";
    primary.try_query(Role::App, table).unwrap();
    primary.stop(StopMode::Fast);
    let disk = match primary.move_wal_to_small_disk(MEGABYTES) {
        Ok(disk) => disk,
        Err(reason) => {
            skipped::note(&format!("no small disk can be mounted here: {reason}"));
            return;
        }
    };
    primary.start();
    let later = || Options::default().first_start(FirstStart::Later);
    let standbys = [(); 2].map(|()| PostgresServer::standby_with(&primary, later()));
    let servers = std::iter::once(primary).chain(standbys).collect();
    let cluster = PostgresCluster::guarding(servers, &Shape::default());
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);

    let mut filler = File::create(disk.join("filler")).unwrap();
    let block = [0; 1 << 16];
    while filler.write_all(&block).is_ok() {}
    let old = &cluster.servers[before.primary];
    cluster.until("another primary", || {
        // Segments that wait to be used again are used up.
        let _ = old.try_query(
            Role::Superuser,
            "SELECT pg_logical_emit_message(false, 'fill', 'x'), pg_switch_wal()",
        );
        let answer = cluster.answering().find_map(|node| node.primary())?;
        (answer.epoch > before.epoch).then_some(())
    });
    writers.wait_for_more(&cluster, 100);
    cluster.servers[before.primary].resize_wal_disk(4 * MEGABYTES);
    cluster.end_whole_after(before, writers);
}
