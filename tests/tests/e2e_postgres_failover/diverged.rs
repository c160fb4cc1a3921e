//! An old primary has rows that nobody else has, and that were acknowledged to nobody.

use std::fs;

use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Writers};
use sentinel_tests::postgres_server::PostgresServer;

/// Committed here without waiting for anybody, whatever the coordinator has set meanwhile.
fn write_alone(server: &PostgresServer, rows: u32) {
    server.execute(&format!(
        "SET default_transaction_read_only = off; SET synchronous_commit = local; \
         INSERT INTO written SELECT -n FROM generate_series(1, {rows}) n"
    ));
}

#[test]
fn a_diverged_primary_is_rewound_and_its_own_log_is_kept() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let old = before.primary;
    let standbys = cluster.standbys(before);
    for standby in standbys {
        cluster.cut_off(standby, old);
    }
    write_alone(&cluster.servers[old], 1000);
    cluster.servers[old].crash();
    for standby in standbys {
        cluster.servers[standby].resume();
    }
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
    let other = standbys[0];
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

    let after = cluster.end_whole_after(before, writers);
    for server in &cluster.servers {
        assert_eq!(
            server.value("SELECT count(*) FROM written WHERE id < 0"),
            "0"
        );
    }
    assert_ne!(after.primary, old);
}
