#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! A node that is voter and agent of two PostgreSQL servers: what its settings say, it does, and it shows it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use sentinel_daemon::api::{InstanceJson, ServiceJson, StatusJson};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion};
use sentinel_tests::sentinel_node::SentinelNode;
use sentinel_tests::{binary, wait};
use serde::Deserialize;
use tempfile::TempDir;

fn settings(servers: &[&PostgresServer]) -> String {
    let instances: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{}\"", server.instance()))
        .collect();
    let agents: String = servers
        .iter()
        .map(|server| {
            format!(
                "[[agent]]\nservice = \"ledger\"\ninstance = \"{}\"\ndata_dir = \"{}\"\nbin_dir = \"{}\"\n\
                 restart_after = \"300ms\"\n",
                server.instance(),
                server.data_dir().display(),
                server.bin_dir().display(),
            )
        })
        .collect();
    format!(
        r#"[node]
cluster = "test"
name = "s1"
data_dir = "data"
[listen]
peer = "127.0.0.1:0"
resp = "127.0.0.1:0"
http = "127.0.0.1:0"
[voters]
s1 = "127.0.0.1:1"
[[service]]
name = "ledger"
engine = "postgres"
instances = [{}]
down_after = "3s"
refused_after = "3s"
{agents}"#,
        instances.join(", ")
    )
}

#[derive(Deserialize)]
struct Status {
    node: StatusJson,
    services: Vec<ServiceJson>,
}

fn sentinel(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary::sentinel())
        .args(arguments)
        .current_dir(folder)
        .env_remove("SENTINEL_NODE")
        .output()
        .unwrap()
}

fn status(node: &SentinelNode) -> Option<ServiceJson> {
    let address = node.address("http").to_string();
    let output = sentinel(
        Path::new("/"),
        &["status", "--json", "--node", &format!("http://{address}")],
    );
    let status: Status = serde_json::from_slice(&output.stdout).ok()?;
    assert_eq!(status.node.node.as_str(), "s1");
    status.services.into_iter().next()
}

fn of<'a>(service: &'a ServiceJson, server: &PostgresServer) -> Option<&'a InstanceJson> {
    let mut instances = service.instances.iter();
    instances.find(|found| found.instance == server.instance())
}

fn runs(service: &ServiceJson, server: &PostgresServer) -> Option<bool> {
    of(service, server)?.agent.as_ref()?.runs
}

/// Waits until the primary has its standby in the write quorum, and both agents see their server run.
fn wait_whole(node: &SentinelNode, primary: &PostgresServer, standby: &PostgresServer) {
    let mut last = None;
    let whole = wait::within(wait::BOUND_CLUSTER, || {
        let service = status(node)?;
        let whole = service.primary == Some(primary.instance())
            && service.stage == "steady"
            && service.write_quorum.contains(&standby.instance())
            && runs(&service, primary) == Some(true)
            && runs(&service, standby) == Some(true);
        last = Some(service);
        whole.then_some(())
    });
    assert!(whole.is_some(), "{last:#?}\n{}", node.log());
}

#[test]
fn a_node_guards_and_minds_the_servers_of_its_host() {
    let mut primary = PostgresServer::primary(&PostgresVersion::any());
    let mut standby = PostgresServer::standby_of(&primary);
    primary.wait_for_standby(&standby);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("s1.toml");
    fs::write(&file, settings(&[&primary, &standby])).unwrap();

    let check = sentinel(
        folder.path(),
        &["check", "--config", "s1.toml", "--connect"],
    );
    let errors = String::from_utf8(check.stderr).unwrap();
    assert_eq!(check.status.code(), Some(0), "{errors}");
    let lines = String::from_utf8(check.stdout).unwrap();
    let line = format!("agent of {} of ledger: data in ", primary.instance());
    assert!(lines.contains(&line), "{lines}");

    let node = SentinelNode::start(&file);
    wait_whole(&node, &primary, &standby);

    // Each comes back by its agent alone, the primary in its place: nobody was there to be promoted in time.
    standby.kill();
    node.wait_for_log("the server ended");
    wait_whole(&node, &primary, &standby);
    primary.kill();
    wait_whole(&node, &primary, &standby);
    assert!(node.stop().success());
    primary.execute("SELECT 1");
}
