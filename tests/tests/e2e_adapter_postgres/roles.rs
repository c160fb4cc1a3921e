//! Freeze, promote, repoint: what each does to real servers, and how fast.

use std::time::{Duration, Instant};

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::observation::{Link, Role, Upstream, Writes};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, StopMode};
use sentinel_tests::wait;
use tokio_postgres::error::SqlState;

use crate::node::{IN_TIME, Node, Trio, frozen, promotion, quorum, replayed, repoint, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_on_every_version() {
    for version in PostgresVersion::all_servers() {
        let mut trio = Trio::new(&version);
        trio.primary.execute("CREATE TABLE t (n int)");
        let node = Node::new();
        node.caught_up(&trio.left, &trio.primary).await;
        node.caught_up(&trio.right, &trio.primary).await;
        trio.primary.kill_everything();
        let left = node.done(&trio.left, ActionKind::Freeze).await;
        let right = node.done(&trio.right, ActionKind::Freeze).await;
        assert_eq!(left.role, frozen());
        assert_eq!(left.position, right.position);
        let kind = promotion(&trio.left, &left, quorum(1, &[&trio.right]));
        let promoted = node.done(&trio.left, kind.clone()).await;
        assert_eq!(promoted.role, Role::Primary);
        assert_eq!(promoted.write_quorum, Some(quorum(1, &[&trio.right])));
        assert_eq!(promoted.incarnation, left.incarnation);
        let (fork, old) = (promoted.fork.unwrap(), left.position.unwrap());
        assert_eq!(fork.lineage, old.lineage);
        assert!(fork.offset <= old.offset, "{fork} {old}");
        let lineage = promoted.position.unwrap().lineage;
        assert_ne!(lineage, old.lineage);
        // An order that comes twice is found done.
        let again = node.done(&trio.left, kind).await;
        assert_eq!(again.position.unwrap().lineage, lineage);
        let pointed = node.done(&trio.right, repoint(&trio.left)).await;
        assert!(
            matches!(&pointed.role, Role::Replica { upstream: Upstream::Instance(to), .. } if *to == trio.left.instance())
        );
        let follows = node.follows(&trio.right, &trio.left).await;
        assert_eq!(follows.position.unwrap().lineage, lineage);
        trio.left.execute("INSERT INTO t VALUES (1)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn freezing_and_promoting_take_milliseconds() {
    let mut trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    trio.primary.kill_everything();
    node.facts(&trio.left).await;
    let start = Instant::now();
    let frozen = node.done(&trio.left, ActionKind::Freeze).await;
    let froze = start.elapsed();
    let start = Instant::now();
    node.promoted(&trio.left, &frozen).await;
    let promoted = start.elapsed();
    println!("frozen after {froze:?}, promoted after {promoted:?}");
    // The bounds are those of a machine that is busy with other tests.
    assert!(froze < Duration::from_secs(1), "{froze:?}");
    assert!(promoted < Duration::from_secs(1), "{promoted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_standby_receives_nothing_and_goes_back_when_it_is_told() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    let before = node.done(&trio.left, ActionKind::Freeze).await;
    trio.primary.execute("CREATE TABLE t (n int)");
    let ahead = node.caught_up(&trio.right, &trio.primary).await;
    let after = node.facts(&trio.left).await;
    assert_eq!(after.role, frozen());
    assert_eq!(after.position, before.position);
    assert!(ahead.position.unwrap().offset > after.position.unwrap().offset);
    let unfreeze = ActionKind::Unfreeze {
        primary: trio.primary.instance(),
    };
    node.done(&trio.left, unfreeze).await;
    let start = Instant::now();
    node.caught_up(&trio.left, &trio.primary).await;
    // It does not sleep through its wal_retrieve_retry_interval of five seconds.
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

/// A server that was fenced in an earlier life as a primary takes writes when it is promoted again.
#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_server_takes_writes_whatever_it_was_told_before() {
    let trio = Trio::new(&PostgresVersion::any());
    trio.left
        .execute("ALTER SYSTEM SET default_transaction_read_only = on");
    trio.left.execute("SELECT pg_reload_conf()");
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    let frozen = node.done(&trio.left, ActionKind::Freeze).await;
    let promoted = node.promoted(&trio.left, &frozen).await;
    assert_eq!(promoted.writes, Writes::Taken);
    assert_eq!(trio.left.value("SHOW default_transaction_read_only"), "off");
}

/// A freeze outlives the server's own restart (invariant 7).
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_survives_a_restart() {
    let mut trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    let before = node.done(&trio.left, ActionKind::Freeze).await;
    let replayed = replayed(&trio.left);
    trio.left.restart();
    trio.primary.execute("CREATE TABLE t (n int)");
    let after = wait::until_async("its replay rests", || async {
        let facts = node.facts(&trio.left).await;
        assert_eq!(facts.role, frozen());
        facts.position
    })
    .await;
    // A piece of a record at the end is given up; whole records are not.
    let before = before.position.unwrap();
    assert!(
        after.offset <= before.offset && after.offset >= replayed,
        "{after} {before}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_for_one_place_in_one_life() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    let streaming = node.caught_up(&trio.left, &trio.primary).await;
    let text = node
        .refused(
            &trio.left,
            promotion(&trio.left, &streaming, quorum(1, &[])),
        )
        .await;
    assert!(text.contains("not frozen"), "{text}");
    let frozen = node.done(&trio.left, ActionKind::Freeze).await;
    let mut moved = frozen.clone();
    moved.position.as_mut().unwrap().offset.0 += 8;
    let text = node
        .refused(&trio.left, promotion(&trio.left, &moved, quorum(1, &[])))
        .await;
    assert!(text.contains("decided upon"), "{text}");
    let mut other = frozen;
    other.incarnation = "another".into();
    let text = node
        .refused(&trio.left, promotion(&trio.left, &other, quorum(1, &[])))
        .await;
    assert!(text.contains("replaced"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_order_of_the_same_node_is_refused() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.follows(&trio.left, &trio.primary).await;
    let newer = node
        .act_with(&trio.left, ActionKind::Freeze, (token(5), IN_TIME))
        .await;
    assert!(matches!(newer, Outcome::Done(_)), "{newer:?}");
    let unfreeze = ActionKind::Unfreeze {
        primary: trio.primary.instance(),
    };
    let older = node
        .act_with(&trio.left, unfreeze, (token(4), IN_TIME))
        .await;
    assert!(
        matches!(&older, Outcome::Refused(text) if text.contains("older")),
        "{older:?}"
    );
}

/// Rule S6: whoever acts ends the acting sessions of all other nodes first.
#[tokio::test(flavor = "multi_thread")]
async fn acting_ends_the_sessions_of_other_nodes() {
    let trio = Trio::new(&PostgresVersion::any());
    let (mine, other) = (Node::new(), Node::new());
    mine.follows(&trio.left, &trio.primary).await;
    mine.done(&trio.left, ActionKind::Freeze).await;
    let pid = "SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE application_name = 'sentinel-act'";
    let before = trio.left.value(pid);
    other.done(&trio.left, ActionKind::Freeze).await;
    let after = trio.left.value(pid);
    assert_ne!(before, after);
    assert!(!after.contains(','), "{after}");
    // And the first node opens another when it acts again.
    mine.done(&trio.left, ActionKind::Freeze).await;
    assert!(!trio.left.value(pid).contains(&after));
}

/// Two siblings promoted from one place have equal timeline numbers (rule S12).
#[tokio::test(flavor = "multi_thread")]
async fn siblings_do_not_follow_each_other() {
    let mut trio = Trio::new(&PostgresVersion::any());
    trio.primary.execute("CREATE TABLE t (n int)");
    let node = Node::new();
    node.caught_up(&trio.right, &trio.primary).await;
    let right = node.done(&trio.right, ActionKind::Freeze).await;
    trio.primary.execute("INSERT INTO t VALUES (1)");
    node.caught_up(&trio.left, &trio.primary).await;
    let left = node.done(&trio.left, ActionKind::Freeze).await;
    trio.primary.stop(StopMode::Immediate);
    let left = node.promoted(&trio.left, &left).await;
    let right = node.promoted(&trio.right, &right).await;
    let (left, right) = (left.position.unwrap(), right.position.unwrap());
    assert_ne!(left.lineage, right.lineage);
    // Made a standby by hand, without a rewind.
    trio.right.stop(StopMode::Fast);
    trio.right.follow(&trio.left);
    trio.right.start();
    let text = node.refused(&trio.right, repoint(&trio.left)).await;
    assert!(text.contains("rewound or rebuilt"), "{text}");
    let link = match node.facts(&trio.right).await.role {
        Role::Replica { link, .. } => link,
        Role::Primary => panic!("a standby"),
    };
    assert_eq!(link, Link::Broken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_went_on_with_the_old_primary_has_diverged() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    let left = node.done(&trio.left, ActionKind::Freeze).await;
    trio.primary.execute("CREATE TABLE t (n int)");
    node.caught_up(&trio.right, &trio.primary).await;
    trio.primary.wait_for_standby(&trio.right);
    node.promoted(&trio.left, &left).await;
    let text = node.refused(&trio.right, repoint(&trio.left)).await;
    assert!(text.contains("rewound or rebuilt"), "{text}");
    // It follows whom it followed.
    node.follows(&trio.right, &trio.primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_never_followed() {
    let version = PostgresVersion::any();
    let trio = Trio::new(&version);
    let stranger = PostgresServer::primary(&version);
    let node = Node::new();
    node.follows(&trio.left, &trio.primary).await;
    let text = node.refused(&trio.left, repoint(&stranger)).await;
    assert!(text.contains("another database"), "{text}");
}

/// Without an agent a deposed primary is fenced, and stays one.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_primary_is_fenced() {
    let trio = Trio::new(&PostgresVersion::any());
    trio.primary.execute("CREATE TABLE t (n int)");
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    let left = node.done(&trio.left, ActionKind::Freeze).await;
    node.promoted(&trio.left, &left).await;
    let session = held_session(&trio.primary).await;
    let demote = ActionKind::Demote {
        primary: trio.left.instance(),
    };
    let text = node.refused(&trio.primary, demote.clone()).await;
    assert!(text.contains("fenced"), "{text}");
    let ended = tokio::time::timeout(IN_TIME, session.connection).await;
    let ended = ended.expect("a client's session is ended").unwrap();
    let error = ended.expect_err("the server ends it, not the client");
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN), "{error}");
    let facts = node.facts(&trio.primary).await;
    assert_eq!((facts.role, facts.writes), (Role::Primary, Writes::Refused));
    assert_eq!(facts.write_quorum.unwrap().members.len(), 0);
    let error = trio.primary.try_query(
        sentinel_tests::postgres_server::Role::App,
        "CREATE TABLE u (n int)",
    );
    assert!(error.is_err_and(|text| text.contains("read-only")));
    node.refused(&trio.primary, demote).await;
}

/// An order to promote has reached it, and goes on: frozen, it would count as a replica and become a primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_on_its_way_to_be_primary_is_not_frozen() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    trio.left
        .execute("ALTER SYSTEM SET recovery_end_command = 'sleep 2'");
    let left = node.done(&trio.left, ActionKind::Freeze).await;
    let promotion = promotion(&trio.left, &left, quorum(1, &[]));
    let soon = Duration::from_millis(500);
    let begun = node.act_with(&trio.left, promotion, (token(2), soon)).await;
    assert!(matches!(begun, Outcome::UnderWay(_)), "{begun:?}");
    let frozen = node
        .act_with(&trio.left, ActionKind::Freeze, (token(3), soon))
        .await;
    let Outcome::Unknown(text) = frozen else {
        panic!("{frozen:?}");
    };
    assert!(text.contains("promotion"), "{text}");
    wait::until_async("it is primary", || async {
        (node.facts(&trio.left).await.role == Role::Primary).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_host_is_refused() {
    let trio = Trio::new(&PostgresVersion::any());
    let node = Node::new();
    let primary = trio.primary.instance();
    let limit = Duration::from_secs(1);
    for (server, kind) in [
        (&trio.primary, ActionKind::Freeze),
        (&trio.primary, repoint(&trio.left)),
        (&trio.primary, ActionKind::Pause { limit }),
        (&trio.primary, ActionKind::Resume),
        (
            &trio.left,
            ActionKind::Rebuild {
                primary,
                life: "its life".into(),
            },
        ),
    ] {
        let text = node.refused(server, kind).await;
        assert!(text.contains("agent"), "{text}");
    }
    node.follows(&trio.left, &trio.primary).await;
}

/// A client's session that asks for nothing.
struct HeldSession {
    /// Without it the connection would end by itself.
    _client: tokio_postgres::Client,
    connection: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

async fn held_session(server: &PostgresServer) -> HeldSession {
    let user = sentinel_tests::postgres_server::Role::App.name();
    let port = server.port();
    let conninfo = format!("host=127.0.0.1 port={port} user={user} dbname=postgres");
    let opened = tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await;
    let (client, connection) = opened.unwrap();
    let connection = tokio::spawn(connection);
    let row = client.query_one("SELECT 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    HeldSession {
        _client: client,
        connection,
    }
}

/// A standby that restarted cannot say how far it received: safe standbys go first, then it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_in_doubt_waits_for_the_others() {
    let mut trio = Trio::new(&PostgresVersion::any());
    trio.primary.execute("CREATE TABLE t (n int)");
    let node = Node::new();
    node.caught_up(&trio.left, &trio.primary).await;
    node.caught_up(&trio.right, &trio.primary).await;
    trio.primary.kill_everything();
    let left = node.done(&trio.left, ActionKind::Freeze).await;
    node.done(&trio.right, ActionKind::Freeze).await;
    trio.right.restart();
    let kind = promotion(&trio.left, &left, quorum(1, &[&trio.right]));
    node.done(&trio.left, kind).await;
    let start = Instant::now();
    let text = node.refused(&trio.right, repoint(&trio.left)).await;
    assert!(text.contains("safe standbys go first"), "{text}");
    wait::until_async("it is pointed there all the same", || async {
        matches!(
            node.act(&trio.right, repoint(&trio.left)).await,
            Outcome::Done(_)
        )
        .then_some(())
    })
    .await;
    assert!(start.elapsed() >= Duration::from_millis(500));
    trio.left.execute("INSERT INTO t VALUES (1)");
    node.caught_up(&trio.right, &trio.left).await;
}
