//! Whole and torn copies: replicas in a sync, and what a demoted primary alone has.

use std::time::Duration;

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::observation::{Link, Role};
use sentinel_redis::RedisService;
use sentinel_tests::redis_server::{Options, RedisServer};
use sentinel_tests::wait;

use crate::node::{Node, diverged, promotion, quorum};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_in_its_first_sync_is_not_synced_before_and_after_a_freeze() {
    let node = Node::new();
    for from_configuration in [true, false] {
        let slow = [
            "rdb-key-save-delay 1000",
            "repl-diskless-sync no",
            "enable-debug-command yes",
        ];
        let primary = RedisServer::with(slow.into_iter().fold(Options::default(), Options::line));
        primary.cli(&["DEBUG", "POPULATE", "100000"]);
        let replica = if from_configuration {
            RedisServer::replica_of(&primary)
        } else {
            let replica = RedisServer::start();
            let repoint = ActionKind::Repoint {
                primary: primary.instance(),
            };
            node.done(&replica, repoint).await;
            replica
        };
        let syncing = wait::until_async("the first sync has begun", || async {
            let facts = node.facts(&replica).await;
            assert!(!facts.synced, "{facts:?}");
            matches!(
                facts.role,
                Role::Replica {
                    link: Link::Syncing,
                    ..
                }
            )
            .then_some(facts)
        })
        .await;
        assert!(!syncing.holds_data);
        let frozen = node.done(&replica, ActionKind::Freeze).await;
        assert!(!frozen.synced && !frozen.holds_data, "{frozen:?}");
        let at = node.facts(&primary).await.position;
        if let Some(position) = &frozen.position {
            assert_ne!(position.lineage, at.unwrap().lineage);
            let promote = promotion(&replica, &frozen, quorum(1, &[]));
            node.refused(&replica, promote).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_given_up_its_data_is_nowhere_until_it_has_the_new_ones() {
    let node = Node::new();
    let old = RedisServer::with(Options::default().line("enable-debug-command yes"));
    old.cli(&["DEBUG", "POPULATE", "2000"]);
    let replica = RedisServer::replica_of(&old);
    node.caught_up(&replica, &old).await;
    // 2 000 keys at 2 ms each, and a look at the connections after every few of them.
    replica.cli(&["CONFIG", "SET", "key-load-delay", "2000"]);
    replica.cli(&[
        "CONFIG",
        "SET",
        "loading-process-events-interval-bytes",
        "1024",
    ]);
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    replica.cli(&["SET", "diverged", "1"]);
    replica.cli(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    wait::until("the load has begun", || {
        (replica.info("loading")? == "1").then_some(())
    });
    let facts = node.facts(&replica).await;
    assert!(!facts.synced && facts.position.is_none(), "{facts:?}");
    let text = node.refused(&replica, ActionKind::Freeze).await;
    assert!(text.contains("LOADING"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_demoted_primary_has_is_saved_first() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with(RedisService {
        copies: Some(folder.path().join("copies")),
        restart_delay: Duration::from_secs(1),
        ..RedisService::default()
    });
    let old = RedisServer::start();
    let new = RedisServer::replica_of(&old);
    diverged(&node, &old, &new).await;
    let demote = ActionKind::Demote {
        primary: new.instance(),
    };
    // The first attempts may end while the copy is still under way, as with a real deadline.
    wait::until_async("the old primary is demoted", || async {
        let outcome = node
            .act_within(&old, demote.clone(), Duration::from_millis(300))
            .await;
        matches!(outcome, Outcome::Done(_)).then_some(())
    })
    .await;
    let copies: Vec<_> = std::fs::read_dir(folder.path().join("copies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [copy] = &copies[..] else {
        panic!("one copy, not {copies:?}");
    };
    let mut reader = RedisServer::start();
    reader.kill9();
    std::fs::copy(copy, reader.dir().join("dump.rdb")).unwrap();
    reader.restart();
    let only_here = redis::Value::BulkString("only-here".into());
    assert_eq!(reader.cli(&["GET", "diverged"]), only_here);
    node.caught_up(&old, &new).await;
    assert_eq!(old.cli(&["GET", "diverged"]), redis::Value::Nil);
    assert_eq!(
        old.cli(&["GET", "shared"]),
        redis::Value::BulkString("1".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_primary_with_nothing_of_its_own_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with(RedisService {
        copies: Some(folder.path().join("copies")),
        ..RedisService::default()
    });
    let old = RedisServer::start();
    let new = RedisServer::replica_of(&old);
    old.cli(&["SET", "a", "1"]);
    node.caught_up(&new, &old).await;
    let frozen = node.done(&new, ActionKind::Freeze).await;
    node.done(&new, promotion(&new, &frozen, quorum(0, &[])))
        .await;
    let demote = ActionKind::Demote {
        primary: new.instance(),
    };
    node.done(&old, demote).await;
    assert!(!folder.path().join("copies").exists());
    let facts = node.caught_up(&old, &new).await;
    assert!(facts.synced);
    assert_eq!(new.info("sync_full").as_deref(), Some("0"));
}

/// Rule S15: without the delay that `Configure` sets, the replica is wiped within milliseconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_outlives_the_empty_restart_of_its_primary_until_it_is_frozen() {
    let node = Node::new();
    let mut primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    node.follows(&replica, &primary).await;
    let configure = ActionKind::Configure {
        quorum: quorum(1, &[&replica]),
    };
    node.done(&primary, configure).await;
    node.follows(&replica, &primary).await;
    wait::until("a write is taken", || {
        primary.try_cli(&["SET", "a", "1"]).ok()
    });
    let before = node.caught_up(&replica, &primary).await;
    primary.restart_empty();
    wait::until("the replica asks the empty primary for its data", || {
        primary.log().contains("Delay next BGSAVE").then_some(())
    });
    let frozen = node.done(&replica, ActionKind::Freeze).await;
    assert!(frozen.synced && frozen.holds_data, "{frozen:?}");
    assert_eq!(frozen.incarnation, before.incarnation);
    let (now, then) = (frozen.position.unwrap(), before.position.unwrap());
    assert_eq!(now.lineage, then.lineage);
    assert!(now.offset >= then.offset);
}
