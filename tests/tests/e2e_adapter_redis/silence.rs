//! Servers that hang, die, or turn us away, and orders that come too late.

use std::time::{Duration, Instant};

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, Term};
use sentinel_core::observation::{Observation, ProbeFailure, Role};
use sentinel_core::runtime::{Adapter, Clock};
use sentinel_tests::redis_server::{Options, RedisServer};
use sentinel_tests::wait;

use crate::node::{IN_TIME, Node, SERVICE, token};

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
    let mut node = Node::new();
    let server = RedisServer::with(Options::default().line("maxclients 1"));
    // The connection that looked whether the server is up may not be gone yet.
    let _client = wait::until("the one place is ours", || server.connect().ok());
    let observation = node.look(&server, IN_TIME).await;
    assert!(
        matches!(&observation, Observation::Failure(ProbeFailure::Rejected(text)) if text.contains("maxclients")),
        "{observation:?}"
    );
    assert!(
        node.disconnects.try_recv().is_err(),
        "a hint would bring the next probe at once"
    );
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
