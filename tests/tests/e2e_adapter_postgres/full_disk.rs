//! A server whose data disk is full, while its log lies elsewhere.

use sentinel_core::observation::Role;
use sentinel_tests::postgres_server::{
    self, FirstStart, Options, PostgresServer, PostgresVersion, StopMode, fill,
};
use sentinel_tests::{skipped, wait};

use crate::node::Node;

const MEGABYTES: u32 = 96;

/// As PostgreSQL says it to a client.
const FULL: &str = "No space left on device";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_data_disk_is_named_until_there_is_room() {
    let mut primary = PostgresServer::primary(&PostgresVersion::any());
    primary.stop(StopMode::Fast);
    if let Err(reason) = primary.move_data_to_small_disk(MEGABYTES) {
        skipped::note(&format!("no small disk can be mounted here: {reason}"));
        return;
    }
    primary.start();
    let app = postgres_server::Role::App;
    primary
        .try_query(app, "CREATE TABLE t (text text)")
        .unwrap();
    let node = Node::new();
    assert_eq!(node.facts(&primary).await.trouble, None);

    let filler = fill(&primary.data_dir());
    let insert = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
    let refused = primary.try_query(app, insert).unwrap_err();
    assert!(refused.contains(FULL), "{refused}");
    let found = wait::until_async("a probe says so", || async {
        node.facts(&primary).await.trouble
    })
    .await;
    assert!(
        found.contains("the disk that holds its data is full")
            && found.contains(FULL)
            && found.contains("make room"),
        "{found}"
    );
    // It stays said between two tries, also by a node that has just begun to look, and all else is as ever.
    assert_eq!(node.facts(&primary).await.trouble, Some(found));
    let facts = Node::new().facts(&primary).await;
    assert!(facts.trouble.is_some());
    assert_eq!(facts.role, Role::Primary);
    // A try that is under way has a file there for a moment.
    wait::until("the tries leave nothing behind", || {
        let left = std::fs::read_dir(primary.data_dir().join("base/pgsql_tmp")).ok()?;
        (left.count() == 0).then_some(())
    });

    std::fs::remove_file(filler).unwrap();
    wait::until_async("a probe finds room", || async {
        let trouble = node.facts(&primary).await.trouble;
        trouble.is_none().then_some(())
    })
    .await;
    primary.try_query(app, insert).unwrap();
}

/// The role has no right beyond `sentinel postgres grants`, and a standby takes no writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_standbys_full_data_disk_is_named_on_every_version() {
    for version in PostgresVersion::all_servers() {
        let primary = PostgresServer::primary(&version);
        let later = Options::default().first_start(FirstStart::Later);
        let mut standby = PostgresServer::standby_with(&primary, later);
        if let Err(reason) = standby.move_data_to_small_disk(MEGABYTES) {
            skipped::note(&format!("no small disk can be mounted here: {reason}"));
            return;
        }
        standby.start();
        let node = Node::new();
        let facts = node.facts(&standby).await;
        assert!(matches!(facts.role, Role::Replica { .. }), "{version}");
        assert_eq!(facts.trouble, None, "{version}");
        let filler = fill(&standby.data_dir());
        let found = Node::new().facts(&standby).await.trouble;
        assert!(found.is_some_and(|found| found.contains(FULL)), "{version}");
        std::fs::remove_file(filler).unwrap();
    }
}
