//! An old primary has rows that nobody else has, and that were acknowledged to nobody.

use std::fs;

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Steady, Writers};
use sentinel_tests::postgres_server::PostgresServer;

/// Committed here without waiting for anybody, whatever the coordinator has set meanwhile.
fn write_alone(server: &PostgresServer, rows: u32) {
    server.execute(&format!(
        "SET default_transaction_read_only = off; SET synchronous_commit = local; \
         INSERT INTO written SELECT -n FROM generate_series(1, {rows}) n"
    ));
}

/// The primary writes so many rows that its standbys never get, and crashes.
fn crash_diverged(cluster: &mut PostgresCluster, before: Steady, rows: u32) {
    let standbys = cluster.standbys(before);
    for standby in standbys {
        cluster.cut_off(standby, before.primary);
    }
    write_alone(&cluster.servers[before.primary], rows);
    cluster.servers[before.primary].crash();
    for standby in standbys {
        cluster.servers[standby].resume();
    }
}

/// It has come back by a rewind, and none of those rows is anywhere.
fn assert_rewound(cluster: &PostgresCluster, before: Steady) {
    let log = cluster.nodes[before.primary].log();
    assert!(log.contains("step=Rewinding"), "{log}");
    assert!(!log.contains("a copy is made"), "{log}");
    for server in &cluster.servers {
        let diverged = "SELECT count(*) FROM written WHERE id < 0";
        assert_eq!(server.value(diverged), "0", "{}", server.instance());
    }
}

#[test]
fn a_diverged_primary_is_rewound_and_its_own_log_is_kept() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let old = before.primary;
    crash_diverged(&mut cluster, before, 1000);
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);

    // Where an operator looks: the state of the service, the node's log, and the folder that both name.
    let instance = cluster.servers[old].instance();
    let told = cluster.until("the state names what was kept", || {
        let service = cluster.service();
        let mut found = service.instances.into_iter();
        let agent = found.find(|found| found.instance == instance)?.agent?;
        agent
            .doing
            .contains("log that only this server had")
            .then_some(agent.doing)
    });
    let (bytes, _) = told.split_once(" bytes of log").unwrap();
    let bytes: u64 = bytes.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(bytes > 1000 * 50, "{told}");
    let log = cluster.nodes[old].log();
    let mut lines = log.lines();
    let line = lines
        .find(|line| line.contains("only this instance had") && line.contains(&bytes.to_string()));
    assert!(line.is_some(), "{told}\n{log}");
    // Every node is told, not only the one whose agent it is.
    let [other, _] = cluster.standbys(before);
    cluster.until("another node tells the event", || {
        let log = cluster.nodes[other].log();
        let mut lines = log.lines();
        lines
            .any(|line| line.contains("diverged_kept") && line.contains(&bytes.to_string()))
            .then_some(())
    });
    let (_, folder) = told.rsplit_once(" are in ").unwrap();
    let text = fs::read_to_string(format!("{folder}/diverged.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["bytes"], bytes);
    assert!(!json["files"].as_array().unwrap().is_empty());
    for file in json["files"].as_array().unwrap() {
        assert!(fs::exists(format!("{folder}/{}", file.as_str().unwrap())).unwrap());
    }

    cluster.end_whole_after(before, writers);
    assert_rewound(&cluster, before);
}

/// The recovery before the rewind ends with a checkpoint, which would remove what the rewind has to read.
#[test]
fn a_primary_that_diverged_by_more_log_than_it_keeps_is_rewound_all_the_same() {
    let lines = ["wal_keep_size = 0", "max_wal_size = '1GB'"];
    let mut cluster = PostgresCluster::shaped(&Shape {
        server_lines: lines.map(str::to_owned).to_vec(),
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    crash_diverged(&mut cluster, before, 60_000);
    cluster.end_whole_after(before, writers);
    assert_rewound(&cluster, before);
}
