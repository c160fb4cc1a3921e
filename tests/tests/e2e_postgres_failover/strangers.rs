//! A server of somebody else's at an address in the settings: it never counts, and nothing is done to it.

use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Writers};
use sentinel_tests::postgres_server::{FirstStart, Options, PostgresServer, PostgresVersion, Role};
use sentinel_tests::wait;

/// What somebody could have changed of it.
const STATE: &str = "SELECT pg_is_in_recovery()::text || ' ' || system_identifier || ' ' \
    || (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
        ('primary_conninfo', 'synchronous_standby_names', 'default_transaction_read_only', 'primary_slot_name')) \
    FROM pg_control_system()";

/// Its settings as somebody could have altered them, and everything else of [`STATE`].
fn state(server: &PostgresServer) -> String {
    let altered = std::fs::read_to_string(server.data_dir().join("postgresql.auto.conf"));
    format!("{} {}", server.value(STATE), altered.unwrap_or_default())
}

/// Another cluster's primary and its standby come up at listed addresses where nobody was.
#[test]
fn servers_of_another_cluster_are_neither_counted_nor_touched() {
    let version = PostgresVersion::any();
    let mut primary = PostgresServer::primary(&version);
    let later = Options::default().first_start(FirstStart::Later);
    let mut standby = PostgresServer::standby_with(&primary, later);
    primary.stop(sentinel_tests::postgres_server::StopMode::Fast);
    let mut cluster = PostgresCluster::shaped(&Shape {
        version,
        strangers: vec![primary.instance(), standby.instance()],
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    primary.start();
    standby.start();
    primary.wait_for_standby(&standby);
    let session = primary.value("SELECT pg_postmaster_start_time()");
    let were = [state(&primary), state(&standby)];

    let names = [
        primary.instance().to_string(),
        standby.instance().to_string(),
    ];
    cluster.until("the reason is told", || {
        let output = cluster.cli(cluster.try_leader()?, &["explain", "db"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let told = |name: &String| {
            let mut lines = text.lines();
            lines.any(|line| line.contains(name) && line.contains("system identifier"))
        };
        names.iter().all(told).then_some(())
    });
    // Neither in good times nor in a failover.
    let period = std::time::Duration::from_secs(3);
    wait::throughout(period, || {
        let quorum = cluster.service().write_quorum;
        assert!(
            !quorum.contains(&primary.instance()) && !quorum.contains(&standby.instance()),
            "{quorum:?}"
        );
    });
    cluster.servers[before.primary].kill();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.end_whole_after(before, writers);
    assert_eq!([state(&primary), state(&standby)], were);
    primary
        .try_query(Role::App, "CREATE TABLE theirs (id int)")
        .unwrap();
    assert_eq!(primary.value("SELECT pg_postmaster_start_time()"), session);
    primary.wait_for_standby(&standby);
}
