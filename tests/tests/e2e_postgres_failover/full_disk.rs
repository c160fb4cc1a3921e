//! The disk with the primary's WAL is full, or the one with its data.

use sentinel_daemon::api::InstanceJson;
use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Steady, Writers};
use sentinel_tests::postgres_server::{
    FirstStart, Options, PostgresServer, PostgresVersion, Role, StopMode, fill,
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
    let cluster = cluster_of(primary);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);

    fill(&disk);
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
    // Somebody has to make room, so that is what the operator is told, not only that it does not start.
    cluster.until("its agent says why", || {
        let agent = seen(&cluster, before)?.agent?;
        let told = agent.doing.contains("the disk that holds its log")
            && agent.doing.contains("make room");
        (told && agent.runs == Some(false)).then_some(())
    });
    cluster.servers[before.primary].resize_wal_disk(4 * MEGABYTES);
    cluster.end_whole_after(before, writers);
}

/// It answers every question, so that the voters hold it for well; its next checkpoint ends it.
#[test]
fn a_primary_whose_data_disk_is_full_is_named_and_replaced_when_it_ends() {
    let mut primary = PostgresServer::primary(&PostgresVersion::any());
    let table = "CREATE TABLE written (id bigint PRIMARY KEY)";
    primary.try_query(Role::App, table).unwrap();
    primary.stop(StopMode::Fast);
    if let Err(reason) = primary.move_data_to_small_disk(2 * MEGABYTES) {
        skipped::note(&format!("no small disk can be mounted here: {reason}"));
        return;
    }
    let cluster = cluster_of(primary);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    writers.wait_for_more(&cluster, 50);

    let old = &cluster.servers[before.primary];
    let filler = fill(&old.data_dir());
    cluster.until("its probes and its agent say so", || {
        let old = seen(&cluster, before)?;
        let asked = old
            .trouble?
            .contains("the disk that holds its data is full");
        let looked = old.agent?.doing.contains("the disk that holds its data");
        (asked && looked).then_some(())
    });
    let ended = old.try_query(Role::Superuser, "CHECKPOINT");
    assert!(ended.is_err(), "a full disk took a checkpoint: {ended:?}");
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    std::fs::remove_file(filler).unwrap();
    let after = cluster.end_whole_after(before, writers);
    assert!(after.primary != before.primary);
    cluster.until("nothing ails it any longer", || {
        let found = seen(&cluster, before)?;
        (found.trouble.is_none() && !found.agent?.doing.contains("full")).then_some(())
    });
}

/// A stopped server with two standbys that are yet to be started.
fn cluster_of(mut primary: PostgresServer) -> PostgresCluster {
    primary.start();
    let later = || Options::default().first_start(FirstStart::Later);
    let standbys = [(); 2].map(|()| PostgresServer::standby_with(&primary, later()));
    let servers = std::iter::once(primary).chain(standbys).collect();
    PostgresCluster::guarding(servers, &Shape::default())
}

/// What the leader shows of the one that was the primary before.
fn seen(cluster: &PostgresCluster, before: Steady) -> Option<InstanceJson> {
    let old = cluster.servers[before.primary].instance();
    let instances = cluster.service().instances;
    instances.into_iter().find(|found| found.instance == old)
}
