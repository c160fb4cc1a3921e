#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Switchovers of a real Redis cluster, ordered over HTTP and on the command line, with writers that go on.
//!
//! Each test ends with the cluster whole and with every acknowledged write on every server.

mod command;
mod http;

use sentinel_core::id::InstanceId;
use sentinel_tests::cluster::{Cluster, SERVICE, Steady};
use serde_json::Value;

/// The path to order one.
fn path() -> String {
    format!("/v1/services/{SERVICE}/switchover")
}

/// The body that names a target.
fn to(instance: &InstanceId) -> String {
    format!("{{\"to\": \"{instance}\"}}")
}

/// Orders one of the leader, again while a replica is just being admitted or another voter begins to lead.
fn order(cluster: &Cluster, body: &str) -> (u16, Value) {
    cluster.until("an order that is not too early", || {
        let leader = &cluster.nodes[cluster.leader()];
        let (status, answer) = leader.order(&path(), cluster.token(), body);
        (!is_early(&answer)).then_some((status, answer))
    })
}

/// Whether it may be granted in a moment.
fn is_early(answer: &Value) -> bool {
    answer["reasons"][0]["code"] == "not_steady"
        || answer["code"] == "moved_on"
        || answer["code"] == "not_leader"
}

/// Index of some server that is not the primary.
fn other_than(cluster: &Cluster, steady: Steady) -> usize {
    let others = 0..cluster.servers.len();
    others
        .into_iter()
        .find(|index| *index != steady.primary)
        .unwrap()
}
