//! A standby whose upstream has removed the log that it needs, and such that only look like one.

use std::time::Duration;

use sentinel_core::observation::{Link, Role};
use sentinel_tests::postgres_server::{Options, PostgresServer, PostgresVersion, StopMode};
use sentinel_tests::wait;

use crate::node::Node;

const REPLAYED: &str = "SELECT pg_last_wal_replay_lsn()";

async fn link(node: &Node, server: &PostgresServer) -> Link {
    match node.facts(server).await.role {
        Role::Replica { link, .. } => link,
        Role::Primary => panic!("a standby"),
    }
}

async fn becomes(node: &Node, server: &PostgresServer, wanted: Link) {
    wait::until_async("its link is as it is", || async {
        (link(node, server).await == wanted).then_some(())
    })
    .await;
}

fn pair(version: &PostgresVersion) -> (PostgresServer, PostgresServer) {
    let options = Options::default().line("wal_keep_size = 0");
    let primary = PostgresServer::primary_with(version, options);
    let standby = PostgresServer::standby_of(&primary);
    primary.wait_for_standby(&standby);
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_stranded_when_its_upstream_has_removed_what_it_needs() {
    for version in PostgresVersion::all_present() {
        let (primary, mut standby) = pair(&version);
        let node = Node::new();
        node.follows(&standby, &primary).await;
        let position = standby.value(REPLAYED);
        standby.stop(StopMode::Fast);
        primary.remove_log_needed_from(&position, &[]);
        standby.start();
        becomes(&node, &standby, Link::Stranded).await;
        let facts = node.facts(&standby).await;
        assert!(facts.position.is_some(), "what it holds counts: {facts:?}");
        // It asks its upstream every five seconds, and looks for a moment as if it received.
        wait::throughout_async(Duration::from_secs(6), || async {
            assert_eq!(link(&node, &standby).await, Link::Stranded);
        })
        .await;
    }
}

/// Neither has any log been removed, nor can anybody be asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_without_its_upstream_or_its_slot_is_not_stranded() {
    let (mut primary, standby) = pair(&PostgresVersion::any());
    let node = Node::new();
    node.follows(&standby, &primary).await;
    standby.execute("ALTER SYSTEM SET primary_slot_name = 'of_nobody'");
    standby.execute("SELECT pg_reload_conf()");
    let broken = || async {
        assert_ne!(link(&node, &standby).await, Link::Stranded);
    };
    wait::throughout_async(Duration::from_secs(8), broken).await;
    primary.stop(StopMode::Immediate);
    wait::throughout_async(Duration::from_secs(4), broken).await;
}
