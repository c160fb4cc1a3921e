//! Freeze and promote: what they keep, whom they cut off, and when they refuse.

use std::io::Read;

use sentinel_core::action::ActionKind;
use sentinel_core::id::InstanceId;
use sentinel_core::observation::{Link, Role, Upstream};
use sentinel_tests::redis_server::{Options, RedisServer};

use crate::node::{IN_TIME, Node, frozen, promotion, quorum};

#[tokio::test(flavor = "multi_thread")]
async fn freeze_keeps_lineage_and_position_and_survives_a_restart() {
    let node = Node::new();
    let primary = RedisServer::start();
    let mut replica = RedisServer::replica_of(&primary);
    node.follows(&replica, &primary).await;
    primary.cli(&["SET", "a", "1"]);
    let before = node.caught_up(&replica, &primary).await;
    let after = node.done(&replica, ActionKind::Freeze).await;
    assert_eq!(after.role, frozen());
    assert_eq!((&after.position, after.synced), (&before.position, true));
    assert_eq!(after.incarnation, before.incarnation);
    primary.cli(&["SET", "b", "1"]);
    let again = node.done(&replica, ActionKind::Freeze).await;
    assert_eq!(again.position, before.position);
    assert_eq!(primary.info("connected_slaves").as_deref(), Some("0"));
    replica.restart();
    let restarted = node.facts(&replica).await;
    assert_eq!(restarted.role, frozen());
    assert_ne!(restarted.incarnation, before.incarnation);
    // Without persistence its data are gone, and it says so.
    assert!(!restarted.synced && !restarted.holds_data);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_replica_resyncs_partially_from_the_promoted_one() {
    let node = Node::new();
    let primary = RedisServer::start();
    let (first, second) = (
        RedisServer::replica_of(&primary),
        RedisServer::replica_of(&primary),
    );
    node.follows(&first, &primary).await;
    node.follows(&second, &primary).await;
    primary.cli(&["SET", "a", "1"]);
    node.caught_up(&second, &primary).await;
    node.caught_up(&first, &primary).await;
    let second_frozen = node.done(&second, ActionKind::Freeze).await;
    let first_frozen = node.done(&first, ActionKind::Freeze).await;
    let quorum = quorum(1, &[&second]);
    let promote = promotion(&first, &first_frozen, quorum.clone());
    let promoted = node.done(&first, promote.clone()).await;
    assert_eq!(promoted.role, Role::Primary);
    assert_eq!(promoted.fork, first_frozen.position);
    assert_eq!(promoted.write_quorum, Some(quorum.clone()));
    assert_ne!(
        promoted.position.unwrap().lineage,
        first_frozen.position.clone().unwrap().lineage
    );
    assert!(
        first.try_cli(&["SET", "b", "1"]).is_err(),
        "nobody follows yet"
    );
    // The same order again: done, and nothing changes.
    let again = node.done(&first, promote).await;
    assert_eq!(
        (again.fork, again.write_quorum),
        (first_frozen.position, Some(quorum))
    );
    assert!(second_frozen.position.is_some());
    let repoint = ActionKind::Repoint {
        primary: first.instance(),
    };
    let repointed = node.done(&second, repoint).await;
    assert!(matches!(
        repointed.role,
        Role::Replica {
            upstream: Upstream::Instance(_),
            ..
        }
    ));
    let following = node.caught_up(&second, &first).await;
    assert!(following.holds_data && following.synced);
    assert_eq!(first.info("sync_full").as_deref(), Some("0"));
    assert_eq!(first.info("sync_partial_ok").as_deref(), Some("1"));
    first.cli(&["SET", "b", "1"]);
    let seen = node.facts(&first).await.replicas;
    assert_eq!((seen.len(), seen[0].link), (1, Link::Streaming));
    assert_eq!(seen[0].instance, second.instance());
}

#[tokio::test(flavor = "multi_thread")]
async fn promote_refuses_whatever_has_changed() {
    let node = Node::new();
    let primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    let streaming = node.caught_up(&replica, &primary).await;
    let text = node
        .refused(&replica, promotion(&replica, &streaming, quorum(1, &[])))
        .await;
    assert!(text.contains("not frozen"), "{text}");
    let facts = node.done(&replica, ActionKind::Freeze).await;
    let mut restarted = facts.clone();
    restarted.incarnation = "0123".into();
    let text = node
        .refused(&replica, promotion(&replica, &restarted, quorum(1, &[])))
        .await;
    assert!(text.contains("restarted"), "{text}");
    let mut moved = facts.clone();
    moved.position.as_mut().unwrap().offset.0 += 1;
    let text = node
        .refused(&replica, promotion(&replica, &moved, quorum(1, &[])))
        .await;
    assert!(text.contains("decided upon was"), "{text}");
    let text = node
        .refused(
            &primary,
            promotion(&primary, &node.facts(&primary).await, quorum(1, &[])),
        )
        .await;
    assert!(text.contains("primary already"), "{text}");
    assert_eq!(node.facts(&replica).await, facts);
}

#[tokio::test(flavor = "multi_thread")]
async fn freeze_cuts_clients_and_probes_reconnect() {
    let node = Node::new();
    let mut other = Node::new();
    let server = RedisServer::start();
    other.facts(&server).await;
    let mut client = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    client.set_read_timeout(Some(IN_TIME)).unwrap();
    // Answered, so that the server surely knows the client.
    std::io::Write::write_all(&mut client, b"PING\r\n").unwrap();
    let mut pong = [0; 7];
    client.read_exact(&mut pong).unwrap();
    let facts = node.done(&server, ActionKind::Freeze).await;
    assert_eq!(facts.role, frozen(), "a primary can be frozen too");
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "closed");
    let hint = tokio::time::timeout(IN_TIME, other.disconnects.recv()).await;
    assert_eq!(hint.unwrap().unwrap().1, server.instance());
    assert_eq!(other.facts(&server).await.role, frozen());
    // The action's own connection was spared, and serves the next one.
    let unfreeze = ActionKind::Unfreeze {
        primary: InstanceId::new("127.0.0.1", 7),
    };
    node.done(&server, unfreeze).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_action_is_no_disconnect() {
    let mut node = Node::new();
    let server = RedisServer::start();
    for _ in 0..5 {
        node.facts(&server).await;
        node.done(&server, ActionKind::Freeze).await;
    }
    node.facts(&server).await;
    assert!(node.disconnects.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_that_serves_no_stale_data_gives_facts() {
    let primary = RedisServer::start();
    let options = Options::default().line("replica-serve-stale-data no");
    let replica = RedisServer::with(options.replica_of(&primary));
    let node = Node::new();
    node.follows(&replica, &primary).await;
    node.done(&replica, ActionKind::Freeze).await;
    assert!(replica.try_cli(&["GET", "a"]).is_err(), "MASTERDOWN");
    let facts = Node::new().facts(&replica).await;
    assert_eq!(facts.role, frozen());
    node.done(&replica, promotion(&replica, &facts, quorum(0, &[])))
        .await;
}
