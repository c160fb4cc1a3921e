//! What a server keeps: the write quorum, its role, and where it can keep nothing.

use sentinel_core::action::ActionKind;
use sentinel_core::observation::{Persistable, RestartGuard, Role};
use sentinel_redis::{Credentials, RedisService, Secret};
use sentinel_tests::redis_server::{ConfigFile, Options, RedisServer};

use crate::node::{Node, diverged, quorum};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_quorum_is_seen_by_others_and_kept() {
    let node = Node::new();
    let mut server = RedisServer::start();
    assert_eq!(node.facts(&server).await.write_quorum, None);
    let (a, b) = (RedisServer::start(), RedisServer::start());
    for quorum in [quorum(1, &[&a, &b]), quorum(1, &[]), quorum(2, &[&a])] {
        let configure = ActionKind::Configure {
            quorum: quorum.clone(),
        };
        assert_eq!(
            node.done(&server, configure).await.write_quorum.as_ref(),
            Some(&quorum)
        );
        let other = Node::new();
        assert_eq!(
            other.facts(&server).await.write_quorum,
            Some(quorum.clone())
        );
        assert!(
            server.try_cli(&["SET", "a", "1"]).is_err(),
            "no replica acknowledges"
        );
        server.restart();
        let facts = node.facts(&server).await;
        assert_eq!(facts.write_quorum, Some(quorum));
        assert_eq!(facts.restart_guard, RestartGuard::Delay(5000));
    }
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(node.facts(&server).await.write_quorum.unwrap().k, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_quorum_is_kept_in_a_users_file() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users.acl");
    std::fs::write(&users, "").unwrap();
    let node = Node::new();
    let mut server =
        RedisServer::with(Options::default().line(format!("aclfile {}", users.display())));
    let quorum = quorum(1, &[&server]);
    let configure = ActionKind::Configure {
        quorum: quorum.clone(),
    };
    node.done(&server, configure).await;
    server.restart();
    assert_eq!(node.facts(&server).await.write_quorum, Some(quorum));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_configuration_file_takes_no_orders() {
    let node = Node::new();
    let server = RedisServer::with(Options::default().config_file(ConfigFile::Absent));
    let persistable = node.facts(&server).await.persistable;
    assert!(matches!(persistable, Persistable::No(_)), "{persistable:?}");
    let text = node.refused(&server, ActionKind::Freeze).await;
    assert!(text.contains("configuration file"), "{text}");
    assert_eq!(node.facts(&server).await.role, Role::Primary);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_in_the_decision_record_suffice() {
    let text = include_str!("../../../docs/adr/0005-write-quorum-record.md");
    let rules = text
        .lines()
        .find(|line| line.trim().starts_with("+ping "))
        .unwrap();
    let old = RedisServer::start();
    let new = RedisServer::replica_of(&old);
    for server in [&old, &new] {
        let mut user = vec!["ACL", "SETUSER", "sentinel", "on", ">secret"];
        user.extend(rules.split_whitespace());
        server.cli(&user);
    }
    let folder = tempfile::tempdir().unwrap();
    let node = Node::with(RedisService {
        credentials: Some(Credentials {
            username: Some("sentinel".into()),
            password: Secret::new("secret"),
        }),
        copies: Some(folder.path().to_owned()),
        ..RedisService::default()
    });
    // Freeze, promote, demote with a copy, configure: every command that the adapter sends.
    diverged(&node, &old, &new).await;
    let demote = ActionKind::Demote {
        primary: new.instance(),
    };
    node.done(&old, demote).await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let configure = ActionKind::Configure {
        quorum: quorum(1, &[&old]),
    };
    node.done(&new, configure).await;
    new.cli(&["ACL", "SETUSER", "sentinel", "-replicaof"]);
    let text = node.refused(&new, ActionKind::Freeze).await;
    assert!(text.contains("NOPERM"), "{text}");
    assert_eq!(node.facts(&new).await.role, Role::Primary);
}
