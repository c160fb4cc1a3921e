//! What a probe says of a server that answers.

use sentinel_core::observation::{Link, Persistable, RestartGuard, Role, Writes};
use sentinel_tests::postgres_server::{
    self, Options, PASSWORD, PostgresServer, PostgresVersion, StopMode,
};
use sentinel_tests::wait;

use crate::node::{Node, Trio, replayed};

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_and_its_standbys_on_every_version() {
    for version in PostgresVersion::all_servers() {
        let trio = Trio::new(&version);
        let node = Node::new();
        let left = node.follows(&trio.left, &trio.primary).await;
        let right = node.follows(&trio.right, &trio.primary).await;
        let primary = node.facts(&trio.primary).await;
        assert_eq!(primary.role, Role::Primary, "{version}");
        assert_eq!(primary.fork, None);
        assert_eq!(primary.persistable, Persistable::Yes);
        assert_eq!(primary.restart_guard, RestartGuard::Unneeded);
        assert_eq!(primary.writes, Writes::Taken);
        assert_eq!(primary.write_quorum, None);
        assert_eq!(primary.priority, 100);
        let mut named: Vec<_> = primary
            .replicas
            .iter()
            .map(|r| r.instance.clone())
            .collect();
        let mut wanted = vec![trio.left.instance(), trio.right.instance()];
        named.sort();
        wanted.sort();
        assert_eq!(named, wanted);
        assert!(primary.replicas.iter().all(|r| r.link == Link::Streaming));
        let lineage = &primary.position.unwrap().lineage;
        assert!(lineage.as_str().ends_with("/1@0/0"), "{lineage}");
        for standby in [&left, &right] {
            assert_eq!(&standby.position.as_ref().unwrap().lineage, lineage);
        }
        assert_ne!(left.server, right.server);
        assert_ne!(left.server, primary.server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_proving_a_password() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    for role in [
        postgres_server::Role::SentinelScram,
        postgres_server::Role::SentinelMd5,
        postgres_server::Role::SentinelPassword,
    ] {
        let facts = Node::as_role(role, Some(PASSWORD)).facts(&server).await;
        assert_eq!(facts.role, Role::Primary, "{role:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replication_protocol_takes_every_password_too() {
    let version = PostgresVersion::any();
    let primary = PostgresServer::primary(&version);
    let standby = PostgresServer::standby_of(&primary);
    let node = Node::new();
    node.follows(&standby, &primary).await;
    node.done(&standby, sentinel_core::action::ActionKind::Freeze)
        .await;
    for role in [
        postgres_server::Role::SentinelScram,
        postgres_server::Role::SentinelMd5,
        postgres_server::Role::SentinelPassword,
    ] {
        // The timeline of a frozen standby is asked for in that protocol.
        let facts = Node::as_role(role, Some(PASSWORD)).facts(&standby).await;
        assert!(facts.position.is_some(), "{role:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_incarnation_and_changes_the_server() {
    let mut server = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    let before = node.facts(&server).await;
    server.restart();
    let after = node.facts(&server).await;
    assert_eq!(before.incarnation, after.incarnation);
    assert_ne!(before.server, after.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_an_incarnation_of_its_own() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    let first = node.facts(&primary).await;
    let copied = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let made = copied();
    wait::until("the next second", || (copied() > made).then_some(()));
    let standby = PostgresServer::standby_of(&primary);
    assert_ne!(node.facts(&standby).await.incarnation, first.incarnation);
}

/// Rule S16: a position that is known is never below what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_restarted_is_never_behind_what_it_held() {
    let version = PostgresVersion::any();
    let mut primary = PostgresServer::primary(&version);
    let mut standby = PostgresServer::standby_of(&primary);
    primary.execute("CREATE TABLE t (n int)");
    let node = Node::new();
    node.caught_up(&standby, &primary).await;
    primary.stop(StopMode::Immediate);
    let before = node.facts(&standby).await.position.unwrap();
    let replayed = replayed(&standby);
    standby.restart();
    let after = wait::until_async("its position is known", || async {
        node.facts(&standby).await.position
    })
    .await;
    // A piece of a record at the end is given up; whole records are not.
    assert_eq!(after.lineage, before.lineage);
    assert!(after.offset >= replayed, "{after} {replayed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_pauses_its_replay_is_where_it_received() {
    let version = PostgresVersion::any();
    let primary = PostgresServer::primary(&version);
    let standby = PostgresServer::standby_of(&primary);
    let node = Node::new();
    node.caught_up(&standby, &primary).await;
    standby.execute("SELECT pg_wal_replay_pause()");
    primary.execute("CREATE TABLE t (n int)");
    let facts = node.caught_up(&standby, &primary).await;
    let replayed = standby.value("SELECT pg_last_wal_replay_lsn() < pg_last_wal_receive_lsn()");
    assert_eq!(replayed, "t");
    // Whoever reads from it reads older data than it holds, and the primary is told so too.
    let held = facts.position.as_ref().unwrap().offset;
    assert!(facts.applied.unwrap() < held, "{facts:?}");
    let seen = node.facts(&primary).await.replicas;
    assert_eq!(seen[0].instance, standby.instance());
    assert!(seen[0].applied.unwrap() < seen[0].acknowledged, "{seen:?}");
    // Frozen it replays what it has, and is where it was.
    let frozen = node
        .done(&standby, sentinel_core::action::ActionKind::Freeze)
        .await;
    let [was, is] = [facts, frozen].map(|facts| facts.position.unwrap());
    assert_eq!(is.lineage, was.lineage);
    // The primary logs something now and then by itself.
    assert!(is.offset >= was.offset, "{is} after {was}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_a_delay_has_no_position_after_its_restart() {
    let version = PostgresVersion::any();
    let mut primary = PostgresServer::primary(&version);
    let delayed = Options::default().line("recovery_min_apply_delay = '10min'");
    let mut standby = PostgresServer::standby_with(&primary, delayed);
    let node = Node::new();
    node.follows(&standby, &primary).await;
    primary.execute("CREATE TABLE t (n int)");
    node.caught_up(&standby, &primary).await;
    primary.stop(StopMode::Immediate);
    standby.restart();
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(1500) {
        assert_eq!(node.facts(&standby).await.position, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_would_forget_is_told() {
    for line in ["fsync = off", "synchronous_commit = local"] {
        let version = PostgresVersion::any();
        let options = Options::default().line(line);
        let server = PostgresServer::primary_with(&version, options);
        let facts = Node::new().facts(&server).await;
        assert!(matches!(facts.persistable, Persistable::No(_)), "{line}");
    }
}

/// The write-acceptance probe: one small record a second, and none on a server that is busy anyway.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_primary_is_asked_to_write() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    let start = node.facts(&server).await.position.unwrap().offset;
    wait::until_async("its log moves", || async {
        let offset = node.facts(&server).await.position.unwrap().offset;
        (offset > start).then_some(())
    })
    .await;
}
