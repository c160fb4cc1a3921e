//! Servers that do not answer as they should: what is refusal, what is silence, what is neither.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sentinel_core::observation::{Observation, ProbeFailure};
use sentinel_tests::postgres_server::{
    self, FirstStart, Options, PASSWORD, Paused, PostgresServer, PostgresVersion,
};
use sentinel_tests::redis_server::RedisServer;
use sentinel_tests::wait;

use crate::node::{IN_TIME, Node};

const SHORT: Duration = Duration::from_millis(300);

fn rejected(observation: Observation) -> String {
    match observation {
        Observation::Failure(ProbeFailure::Rejected(text)) => text,
        Observation::Failure(
            failure @ (ProbeFailure::Reset | ProbeFailure::Refused | ProbeFailure::TimedOut),
        ) => panic!("{failure:?}"),
        Observation::Facts(facts) => panic!("{facts:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let scram = postgres_server::Role::SentinelScram;
    for (password, wanted) in [(Some("hunter2"), "password_file"), (None, "password_file")] {
        let node = Node::as_role(scram, password);
        let text = rejected(node.look(&server, IN_TIME).await);
        assert!(text.contains(wanted) && !text.contains("hunter2"), "{text}");
    }
    let node = Node::as_role(postgres_server::Role::App, Some(PASSWORD));
    let text = rejected(node.look(&server, IN_TIME).await);
    assert!(text.contains("sentinel postgres grants"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_engine_is_named() {
    let redis = RedisServer::start();
    let node = Node::new();
    let text = rejected(node.look_at(&redis.instance(), IN_TIME).await);
    assert!(text.contains("not in PostgreSQL's protocol"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_told_at_once_and_then_refuses() {
    let mut server = PostgresServer::primary(&PostgresVersion::any());
    let mut node = Node::new();
    node.facts(&server).await;
    server.kill();
    let hint = tokio::time::timeout(IN_TIME, node.disconnects.recv()).await;
    assert_eq!(hint.unwrap().unwrap().1, server.instance());
    let refused = Observation::Failure(ProbeFailure::Refused);
    assert_eq!(node.look(&server, IN_TIME).await, refused);
    assert!(node.disconnects.try_recv().is_err(), "one hint is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_silent_and_comes_back() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    node.facts(&server).await;
    server.pause(Paused::Everything);
    let silent = Observation::Failure(ProbeFailure::TimedOut);
    for _ in 0..5 {
        assert_eq!(node.look(&server, SHORT).await, silent);
    }
    server.resume();
    wait::until_async("it answers again", || async {
        matches!(node.look(&server, SHORT).await, Observation::Facts(_)).then_some(())
    })
    .await;
}

/// Between crash and consistency: it listens, and turns everybody away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_is_neither_dead_nor_alive() {
    let version = PostgresVersion::any();
    let primary = PostgresServer::primary(&version);
    let mut standby = PostgresServer::standby_with(
        &primary,
        Options::default()
            .line("hot_standby = off")
            .first_start(FirstStart::Later),
    );
    let node = Node::new();
    standby.spawn();
    let text = wait::until_async("it listens", || async {
        match node.look(&standby, IN_TIME).await {
            Observation::Failure(ProbeFailure::Rejected(text)) => Some(text),
            Observation::Failure(ProbeFailure::Refused) => None,
            other @ (Observation::Facts(_)
            | Observation::Failure(ProbeFailure::Reset | ProbeFailure::TimedOut)) => {
                panic!("{other:?}")
            }
        }
    })
    .await;
    assert!(text.contains("the database system"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_somebody_ends_is_replaced_within_the_probe() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    node.facts(&server).await;
    for _ in 0..5 {
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sentinel-probe'");
        node.facts(&server).await;
    }
}

/// Sessions that stand work on; nobody else is let in.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_nobody_in_is_silent() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    node.facts(&server).await;
    server.pause(Paused::Postmaster);
    let silent = Observation::Failure(ProbeFailure::TimedOut);
    wait::until_async("nobody is let in", || async {
        (node.look(&server, SHORT).await == silent).then_some(())
    })
    .await;
    for _ in 0..5 {
        assert_eq!(node.look(&server, SHORT).await, silent);
    }
    server.resume();
    wait::until_async("it answers again", || async {
        matches!(node.look(&server, SHORT).await, Observation::Facts(_)).then_some(())
    })
    .await;
    assert!(!server.log_text().contains("startup packet"));
}

/// Sessions answer, and no commit would: what writes the log to disk stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_does_not_write_is_silent() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let node = Node::new();
    node.facts(&server).await;
    let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let writer = Pid::from_raw(server.value(writer).parse().unwrap()).unwrap();
    kill_process(writer, Signal::STOP).unwrap();
    let silent = Observation::Failure(ProbeFailure::TimedOut);
    wait::until_async("its disk is missed", || async {
        (node.look(&server, SHORT).await == silent).then_some(())
    })
    .await;
    // A new connection does not take it for a server that works.
    assert_eq!(node.look(&server, SHORT).await, silent);
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sentinel-probe'");
    assert_eq!(node.look(&server, SHORT).await, silent);
    kill_process(writer, Signal::CONT).unwrap();
    wait::until_async("it answers again", || async {
        matches!(node.look(&server, SHORT).await, Observation::Facts(_)).then_some(())
    })
    .await;
}
