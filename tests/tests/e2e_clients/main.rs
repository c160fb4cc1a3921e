#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Clients of Redis Sentinel, unmodified, against a real cluster, before and after a failover.
//!
//! What each answer looks like is tested elsewhere; here counts that an application finds its data.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use redis::sentinel::{SentinelClient, SentinelServerType};
use sentinel_tests::cluster::{Cluster, SERVICE, Steady};
use serde_json::{Value, json};

/// A running redis-py; killed when dropped.
struct RedisPy {
    process: Child,
    tells: Lines<BufReader<ChildStdout>>,
}

impl RedisPy {
    fn start(cluster: &Cluster) -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = root.join(".venv/bin/python");
        assert!(
            python.exists(),
            "redis-py is not installed: run scripts/install-clients, or make test"
        );
        let ports = cluster
            .nodes
            .iter()
            .map(|node| node.plan().resp_address().port().to_string());
        let mut process = Command::new(python)
            .arg(root.join("tests/clients/redis_py_failover.py"))
            .arg(SERVICE)
            .args(ports)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let tells = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, tells }
    }

    fn tells(&mut self) -> Value {
        let line = self.tells.next().expect("the client's error is above");
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    fn go_on(&mut self) {
        self.process.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
}

impl Drop for RedisPy {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn port(cluster: &Cluster, server: usize) -> Value {
    json!(["127.0.0.1", cluster.servers[server].port()])
}

/// The replicas that answer, as redis-py sorts them.
fn replicas(cluster: &Cluster, primary: usize, dead: Option<usize>) -> Vec<Value> {
    let mut ports: Vec<u16> = (0..cluster.servers.len())
        .filter(|server| *server != primary && Some(*server) != dead)
        .map(|server| cluster.servers[server].port())
        .collect();
    ports.sort_unstable();
    ports
        .into_iter()
        .map(|port| json!(["127.0.0.1", port]))
        .collect()
}

fn redis_py_is_told_before(client: &mut RedisPy, cluster: &Cluster, before: Steady) {
    let wanted = json!({
        "primary": port(cluster, before.primary),
        "replicas": replicas(cluster, before.primary, None),
        "on_primary": "written",
        "on_replica": "written",
    });
    assert_eq!(client.tells(), wanted);
}

fn redis_py_is_told_after(client: &mut RedisPy, cluster: &Cluster, before: Steady) {
    client.go_on();
    let told = client.tells();
    let new = cluster.wait_new_primary(before);
    let wanted = json!({
        "primary": port(cluster, new),
        "replicas": replicas(cluster, new, Some(before.primary)),
        "on_primary": "written",
        "on_replica": "written",
        "kept": "written",
    });
    assert_eq!(told, wanted);
    assert!(client.process.wait().unwrap().success());
}

#[test]
fn redis_py_writes_and_reads_before_and_after_a_failover() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let mut client = RedisPy::start(&cluster);
    redis_py_is_told_before(&mut client, &cluster, before);
    cluster.servers[before.primary].kill9();
    redis_py_is_told_after(&mut client, &cluster, before);
    cluster.servers[before.primary].restart();
    cluster.wait_whole_after(before);
}

/// The node that redis-py asks first dies with the primary, so it has to turn to the next one.
#[test]
fn redis_py_follows_a_failover_with_the_first_of_its_nodes_dead() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let mut client = RedisPy::start(&cluster);
    redis_py_is_told_before(&mut client, &cluster, before);
    cluster.nodes[0].kill9();
    cluster.servers[before.primary].kill9();
    redis_py_is_told_after(&mut client, &cluster, before);
    cluster.nodes[0].restart();
    cluster.servers[before.primary].restart();
    cluster.wait_whole_after(before);
}

#[test]
fn redis_rs_writes_and_reads_before_and_after_a_failover() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let urls: Vec<String> = cluster
        .nodes
        .iter()
        .map(|node| format!("redis://{}", node.plan().resp_address()))
        .collect();
    let client =
        |kind| SentinelClient::build(urls.clone(), SERVICE.to_owned(), None, kind).unwrap();
    let mut primary = client(SentinelServerType::Master);
    let mut replica = client(SentinelServerType::Replica);
    let mut connection = primary.get_connection().unwrap();
    let set = |key: &str| redis::cmd("SET").arg(key).arg("written").to_owned();
    let get = |key: &str| redis::cmd("GET").arg(key).to_owned();
    set("before").exec(&mut connection).unwrap();
    // A plain client is acknowledged before any replica has the write; only what one has is kept.
    wait_for_replica(&cluster, &mut replica, "before");

    cluster.servers[before.primary].kill9();
    let mut connection = cluster.until("a write on the new primary", || {
        let mut connection = primary.get_connection().ok()?;
        set("after").exec(&mut connection).ok()?;
        Some(connection)
    });
    let kept: Option<String> = get("before").query(&mut connection).unwrap();
    assert_eq!(kept.as_deref(), Some("written"));
    wait_for_replica(&cluster, &mut replica, "after");
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    let value = cluster.servers[after.primary].cli(&["GET", "after"]);
    assert_eq!(value, redis::Value::BulkString(b"written".to_vec()));
}

fn wait_for_replica(cluster: &Cluster, replica: &mut SentinelClient, key: &str) {
    cluster.until("a replica has the key", || {
        let mut connection = replica.get_connection().ok()?;
        let value: Option<String> = redis::cmd("GET").arg(key).query(&mut connection).ok()?;
        (value.as_deref() == Some("written")).then_some(())
    });
}
