#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The Redis adapter against real servers, through the contract alone.
//!
//! Each test shows one promise of the adapter; none knows the coordinator.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, Epoch, InstanceId, Member, ProbeId, ServiceName, Term, Token};
use sentinel_core::observation::{
    Facts, Link, Observation, Persistable, ProbeFailure, ProbeRequest, RestartGuard, Role,
    Upstream, WriteQuorum,
};
use sentinel_core::runtime::{Adapter, AdapterContext, Clock};
use sentinel_redis::{Credentials, RedisAdapter, RedisService, Secret};
use sentinel_tests::redis_server::{ConfigFile, Options, RedisServer};
use sentinel_tests::wait;
use tokio::sync::mpsc;

const SERVICE: &str = "orders";
const IN_TIME: Duration = Duration::from_secs(5);

struct Node {
    adapter: RedisAdapter,
    disconnects: mpsc::Receiver<(ServiceName, InstanceId)>,
}

impl Node {
    fn new() -> Self {
        Self::with(RedisService::default())
    }

    fn with(service: RedisService) -> Self {
        let (sender, disconnects) = mpsc::channel(16);
        let context = AdapterContext {
            clock: Clock::new(),
            disconnects: sender,
        };
        let services = BTreeMap::from([(ServiceName::from(SERVICE), service)]);
        Self {
            adapter: RedisAdapter::new(services, context),
            disconnects,
        }
    }

    fn with_password(password: &str) -> Self {
        Self::with(RedisService {
            credentials: Some(Credentials {
                username: None,
                password: Secret::new(password),
            }),
            ..RedisService::default()
        })
    }

    async fn look(&self, server: &RedisServer, patience: Duration) -> Observation {
        let request = ProbeRequest {
            id: ProbeId(1),
            service: SERVICE.into(),
            instance: server.instance(),
            deadline: Clock::new().now() + patience,
        };
        self.adapter.probe(request).await
    }

    async fn facts(&self, server: &RedisServer) -> Facts {
        match self.look(server, IN_TIME).await {
            Observation::Facts(facts) => *facts,
            Observation::Failure(failure) => panic!("{failure:?}"),
        }
    }

    async fn act_within(
        &self,
        server: &RedisServer,
        kind: ActionKind,
        patience: Duration,
    ) -> Outcome {
        let action = Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: SERVICE.into(),
            instance: server.instance(),
            token: token(1),
            deadline: Clock::new().now() + patience,
            kind,
        };
        self.adapter.act(action).await
    }

    async fn act(&self, server: &RedisServer, kind: ActionKind) -> Outcome {
        self.act_within(server, kind, IN_TIME).await
    }

    async fn done(&self, server: &RedisServer, kind: ActionKind) -> Facts {
        match self.act(server, kind).await {
            Outcome::Done(facts) => *facts,
            Outcome::Refused(text) | Outcome::Unknown(text) => panic!("{text}"),
        }
    }

    async fn refused(&self, server: &RedisServer, kind: ActionKind) -> String {
        match self.act(server, kind).await {
            Outcome::Refused(text) => text,
            outcome @ (Outcome::Done(_) | Outcome::Unknown(_)) => panic!("{outcome:?}"),
        }
    }

    /// Waits until a replica streams, from this upstream.
    async fn follows(&self, replica: &RedisServer, primary: &RedisServer) -> Facts {
        let wanted = Role::Replica {
            upstream: Upstream::Instance(primary.instance()),
            link: Link::Streaming,
        };
        wait::until_async("the replica streams", || async {
            let facts = self.facts(replica).await;
            (facts.role == wanted).then_some(facts)
        })
        .await
    }

    /// Waits until a replica is where its primary is.
    async fn caught_up(&self, replica: &RedisServer, primary: &RedisServer) -> Facts {
        self.follows(replica, primary).await;
        wait::until_async("the replica has everything", || async {
            let (ahead, behind) = (self.facts(primary).await, self.facts(replica).await);
            (ahead.position == behind.position).then_some(behind)
        })
        .await
    }
}

fn token(step: u64) -> Token {
    Token {
        epoch: Epoch(1),
        step,
    }
}

fn quorum(k: u32, members: &[&RedisServer]) -> WriteQuorum {
    WriteQuorum {
        version: token(7),
        k,
        members: members.iter().map(|server| server.instance()).collect(),
    }
}

fn promotion(server: &RedisServer, facts: &Facts, quorum: WriteQuorum) -> ActionKind {
    ActionKind::Promote {
        expect: Member {
            instance: server.instance(),
            incarnation: facts.incarnation.clone(),
        },
        position: facts.position.clone().unwrap(),
        quorum,
    }
}

fn frozen() -> Role {
    Role::Replica {
        upstream: Upstream::Frozen,
        link: Link::Broken,
    }
}

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
async fn an_expired_deadline_sends_nothing() {
    let node = Node::new();
    let server = RedisServer::start();
    let before = node.facts(&server).await;
    let outcome = node
        .act_within(&server, ActionKind::Freeze, Duration::ZERO)
        .await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    // It passes while the server does not answer: the connection does not stand, so nothing is sent.
    server.pause();
    let outcome = node
        .act_within(&server, ActionKind::Freeze, Duration::from_millis(50))
        .await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    server.resume();
    assert_eq!(node.facts(&server).await.role, before.role);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_token_is_refused() {
    let node = Node::new();
    let server = RedisServer::start();
    node.done(&server, ActionKind::Freeze).await;
    let late = Action {
        id: ActionId {
            term: Term(1),
            sequence: 2,
        },
        service: SERVICE.into(),
        instance: server.instance(),
        token: token(0),
        deadline: Clock::new().now() + IN_TIME,
        kind: ActionKind::Freeze,
    };
    let outcome = node.adapter.act(late).await;
    assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_rejected_with_the_remedy() {
    let server = RedisServer::with(Options::default().password("correct"));
    for (node, wanted) in [
        (Node::with_password("hunter2"), "WRONGPASS"),
        (Node::new(), "NOAUTH"),
    ] {
        let Observation::Failure(ProbeFailure::Rejected(text)) = node.look(&server, IN_TIME).await
        else {
            panic!("not rejected");
        };
        assert!(
            text.contains(wanted) && text.contains("password_file"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        let text = node.refused(&server, ActionKind::Freeze).await;
        assert!(text.contains(wanted) && !text.contains("hunter2"), "{text}");
    }
    let node = Node::with_password("correct");
    assert_eq!(node.facts(&server).await.role, Role::Primary);
    node.done(&server, ActionKind::Freeze).await;
    let server = RedisServer::start();
    let observation = node.look(&server, IN_TIME).await;
    assert!(
        matches!(&observation, Observation::Failure(ProbeFailure::Rejected(text)) if text.contains("has no password")),
        "{observation:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_rejected_and_not_reset() {
    let node = Node::new();
    let server = RedisServer::with(Options::default().line("maxclients 1"));
    let _client = server.connect().unwrap();
    let observation = node.look(&server, IN_TIME).await;
    assert!(
        matches!(&observation, Observation::Failure(ProbeFailure::Rejected(text)) if text.contains("maxclients")),
        "{observation:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_configuration_file_takes_no_orders() {
    let node = Node::new();
    let server = RedisServer::with(Options::default().config_file(ConfigFile::Absent));
    assert_eq!(node.facts(&server).await.persistable, Persistable::No);
    let text = node.refused(&server, ActionKind::Freeze).await;
    assert!(text.contains("configuration file"), "{text}");
    assert_eq!(node.facts(&server).await.role, Role::Primary);
}

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
async fn a_hung_server_times_out_and_answers_again() {
    let node = Node::new();
    let server = RedisServer::start();
    node.facts(&server).await;
    server.pause();
    for _ in 0..3 {
        let observation = node.look(&server, Duration::from_millis(30)).await;
        assert_eq!(observation, Observation::Failure(ProbeFailure::TimedOut));
    }
    server.resume();
    assert_eq!(node.facts(&server).await.role, Role::Primary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_hinted_at_once_and_then_refuses() {
    let mut node = Node::new();
    let mut server = RedisServer::start();
    let before = node.facts(&server).await;
    let start = Instant::now();
    server.kill9();
    let hint = tokio::time::timeout(Duration::from_secs(2), node.disconnects.recv()).await;
    println!(
        "disconnect hint after {:?}, the kill included",
        start.elapsed()
    );
    assert_eq!(hint.unwrap().unwrap(), (SERVICE.into(), server.instance()));
    let observation = node.look(&server, IN_TIME).await;
    assert_eq!(observation, Observation::Failure(ProbeFailure::Refused));
    let text = node.refused(&server, ActionKind::Freeze).await;
    assert!(text.contains("refused"), "{text}");
    server.restart_empty();
    let after = node.facts(&server).await;
    assert_ne!(after.incarnation, before.incarnation);
    assert!(!after.holds_data);
}

/// Fails over from one server to the other, leaving `old` a primary that took one write too many.
async fn diverged(node: &Node, old: &RedisServer, new: &RedisServer) -> Facts {
    node.follows(new, old).await;
    old.cli(&["SET", "shared", "1"]);
    node.caught_up(new, old).await;
    let frozen = node.done(new, ActionKind::Freeze).await;
    old.cli(&["SET", "diverged", "only-here"]);
    node.done(new, promotion(new, &frozen, quorum(0, &[])))
        .await
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
async fn the_permissions_in_the_decision_record_suffice() {
    let text = include_str!("../../docs/adr/0005-write-quorum-record.md");
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
