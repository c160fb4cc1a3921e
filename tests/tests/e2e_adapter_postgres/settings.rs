//! Write quorum, refusing writes, and the rights of the role.

use std::time::Duration;

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::observation::{Link, Role, Writes};
use sentinel_postgres::{Credentials, PostgresService, Secret, grants};
use sentinel_tests::postgres_server::{self, PASSWORD, PostgresVersion};

use crate::node::{Node, Trio, promotion, quorum, repoint, token};

fn configure(k: u32, members: &[&postgres_server::PostgresServer]) -> ActionKind {
    ActionKind::Configure {
        quorum: quorum(k, members),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_quorum_is_in_force_when_it_is_read_back() {
    for version in PostgresVersion::all_servers() {
        let trio = Trio::new(&version);
        trio.primary.execute("CREATE TABLE t (n int)");
        let node = Node::new();
        node.follows(&trio.left, &trio.primary).await;
        node.follows(&trio.right, &trio.primary).await;
        let facts = node
            .done(&trio.primary, configure(1, &[&trio.left, &trio.right]))
            .await;
        assert_eq!(
            facts.write_quorum,
            Some(quorum(1, &[&trio.left, &trio.right])),
            "{version}"
        );
        trio.primary.execute("INSERT INTO t VALUES (1)");
        // One standby has gone, the other one is enough.
        node.done(&trio.left, ActionKind::Freeze).await;
        trio.primary.execute("INSERT INTO t VALUES (2)");
        // A smaller quorum of the frozen one alone cannot be fulfilled by the other.
        node.done(&trio.primary, configure(1, &[&trio.left])).await;
        let stuck = std::thread::scope(|writers| {
            let writer = writers.spawn(|| {
                let insert = "INSERT INTO t VALUES (3)";
                trio.primary
                    .try_query(postgres_server::Role::Superuser, insert)
            });
            // No timeout of the server's ends this wait.
            let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            let count = format!("SELECT count(*) {waits}");
            trio.primary.wait_for(&count, "1");
            trio.primary
                .execute(&format!("SELECT pg_terminate_backend(pid) {waits}"));
            writer.join().unwrap()
        });
        assert!(
            stuck.is_err(),
            "{version}: acknowledged by a standby that is no member"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_nobody_acknowledges_nothing() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.follows(&trio.left, &trio.primary).await;
    let facts = node.done(&trio.primary, configure(1, &[])).await;
    assert_eq!(facts.write_quorum, Some(quorum(1, &[])));
    let setting = trio.primary.value("SHOW synchronous_standby_names");
    assert_eq!(setting, "ANY 1 (\"sentinel:1.7\")");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_and_accepted() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    let refused = node.done(&trio.primary, ActionKind::RefuseWrites).await;
    assert_eq!(refused.writes, Writes::Refused);
    let app = postgres_server::Role::App;
    let error = trio.primary.try_query(app, "CREATE TABLE t (n int)");
    assert!(error.is_err_and(|text| text.contains("read-only")));
    let accepted = node.done(&trio.primary, ActionKind::AcceptWrites).await;
    assert_eq!(accepted.writes, Writes::Taken);
    trio.primary
        .try_query(app, "CREATE TABLE t (n int)")
        .unwrap();
}

/// From 15 on everything goes without a superuser; before, the grants make the role one.
#[tokio::test(flavor = "multi_thread")]
async fn the_grants_that_we_print_are_enough() {
    for version in PostgresVersion::all_servers() {
        let mut trio = Trio::new(&version);
        for _ in 0..2 {
            trio.primary.execute(&grants("coordinator's \"role\""));
        }
        let password = format!("ALTER ROLE \"coordinator's \"\"role\"\"\" PASSWORD '{PASSWORD}'");
        trio.primary.execute(&password);
        trio.primary.wait_for_standby(&trio.left);
        trio.primary.wait_for_standby(&trio.right);
        let node = Node::with(PostgresService {
            credentials: Credentials {
                username: "coordinator's \"role\"".into(),
                password: Some(Secret::new(PASSWORD)),
            },
            ..PostgresService::default()
        });
        if version.major() >= 15 {
            let superuser = "SELECT rolsuper FROM pg_roles WHERE rolname LIKE 'coord%'";
            assert_eq!(trio.primary.value(superuser), "f");
        }
        node.follows(&trio.left, &trio.primary).await;
        node.follows(&trio.right, &trio.primary).await;
        node.done(&trio.primary, configure(1, &[&trio.left, &trio.right]))
            .await;
        node.done(&trio.primary, ActionKind::RefuseWrites).await;
        node.done(&trio.primary, ActionKind::AcceptWrites).await;
        trio.primary.kill_everything();
        let frozen = node.done(&trio.left, ActionKind::Freeze).await;
        node.done(&trio.right, ActionKind::Freeze).await;
        let kind = promotion(&trio.left, &frozen, quorum(1, &[&trio.right]));
        node.done(&trio.left, kind).await;
        node.done(&trio.right, repoint(&trio.left)).await;
        node.follows(&trio.right, &trio.left).await;
        let facts = node.facts(&trio.left).await;
        assert!(facts.replicas.iter().all(|r| r.link == Link::Streaming));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_there_is_used() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.follows(&trio.left, &trio.primary).await;
    let slot = format!("sentinel_127_0_0_1_{}", trio.left.port());
    trio.primary.execute(&format!(
        "SELECT pg_create_physical_replication_slot('{slot}')"
    ));
    node.done(&trio.left, repoint(&trio.primary)).await;
    assert_eq!(trio.left.value("SHOW primary_slot_name"), slot);
    let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{slot}'");
    trio.primary.wait_for(&active, "t");
    node.done(&trio.right, repoint(&trio.primary)).await;
    assert_eq!(trio.right.value("SHOW primary_slot_name"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_forget_is_told_nothing() {
    let version = PostgresVersion::any();
    let options = postgres_server::Options::default().line("fsync = off");
    let server = postgres_server::PostgresServer::primary_with(&version, options);
    let node = Node::new();
    let text = node.refused(&server, configure(1, &[])).await;
    assert!(text.contains("fsync"), "{text}");
    assert_eq!(server.value("SHOW synchronous_standby_names"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_comes_too_late_is_not_begun() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    let late = node
        .act_with(&trio.left, ActionKind::Freeze, (token(1), Duration::ZERO))
        .await;
    assert!(matches!(&late, Outcome::Refused(text) if text.contains("deadline")));
    let facts = node.follows(&trio.left, &trio.primary).await;
    assert!(matches!(facts.role, Role::Replica { .. }));
}
