//! A standby that was away for so long that the primary has removed the log which it needs.

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::{PostgresServer, StopMode};

use crate::shortage::{give_back, leave_to_itself};

fn born(server: &PostgresServer) -> String {
    server.value("SELECT (pg_stat_file('PG_VERSION')).change")
}

fn stranded(cluster: &PostgresCluster, server: &PostgresServer) -> Option<()> {
    let instances = cluster.service().instances;
    let mut own = instances
        .iter()
        .filter(|found| found.instance == server.instance());
    (own.next()?.link.as_deref() == Some("stranded")).then_some(())
}

/// Nobody minds it at first: it is told what to do by hand, and nothing is done to it. Then its agent is back.
#[test]
fn a_standby_that_can_never_catch_up_is_copied_anew_by_its_agent() {
    let mut cluster = PostgresCluster::shaped(&Shape {
        server_lines: vec![
            "wal_keep_size = 0".into(),
            "max_slot_wal_keep_size = '1MB'".into(),
        ],
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let [away, other] = cluster.standbys(before);
    leave_to_itself(&mut cluster, away);
    let first = born(&cluster.servers[away]);
    let position = cluster.servers[away].value("SELECT pg_last_wal_receive_lsn()");
    cluster.servers[away].stop(StopMode::Fast);
    cluster.servers[before.primary].remove_log_needed_from(&position, &[&cluster.servers[other]]);
    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.servers[away].start();

    cluster.until("it is seen", || stranded(&cluster, &cluster.servers[away]));
    let told = cluster.until("it is told what to do", || {
        let report = cluster.nodes[cluster.try_leader()?].explain()?.report;
        let mut told = report
            .into_iter()
            .filter(|reason| reason.code == "stranded_by_hand");
        told.next()
    });
    let name = cluster.servers[away].instance().to_string();
    assert!(
        told.text.contains(&name) && told.text.contains("by hand"),
        "{told:?}"
    );
    let output = cluster.cli(cluster.try_leader().unwrap(), &["status", "db"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text
        .lines()
        .find(|line| line.contains(&name) && line.contains("stranded"));
    assert!(row.is_some(), "{text}");
    assert_eq!(
        born(&cluster.servers[away]),
        first,
        "nothing was done to it"
    );

    give_back(&mut cluster, away);
    let after = cluster.end_whole(writers);
    assert_eq!(after, before, "no failover was needed");
    assert_ne!(born(&cluster.servers[away]), first, "it is another copy");
}
