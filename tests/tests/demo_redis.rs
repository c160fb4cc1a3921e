#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The demonstration, judged from outside: its exit code, its object, and the servers themselves.
//!
//! Runs the real binary. Counts what was lost with a client of its own, and looks for what was left behind.
//! Times are not judged here; they are `make demo-check`'s business.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::demonstration::{
    self, Staying, assert_nothing_left, assert_replaced, folder, object, processes_of,
};
use serde_json::Value;

fn demo(folder: &Path, arguments: &[&str]) -> Command {
    demonstration::command(folder, &[&["redis"], arguments].concat())
}

fn run(arguments: &[&str], code: i32) -> Value {
    demonstration::run(&[&["redis"], arguments].concat(), code)
}

fn staying(folder: &Path, arguments: &[&str]) -> Staying {
    Staying::start(folder, &[&["redis"], arguments].concat())
}

#[test]
fn a_kill_together_with_the_leader() {
    let object = run(&["--fault", "kill", "--with-leader"], 0);
    assert_replaced(&object, "redis", "kill");
    assert_eq!(object["with_leader"], true);
}

#[test]
fn a_switchover() {
    let object = run(&["--fault", "switchover"], 0);
    assert_replaced(&object, "redis", "switchover");
    assert!(object["detected_ms"].is_null(), "{object}");
}

#[test]
fn a_hang() {
    assert_replaced(&run(&["--fault", "hang"], 0), "redis", "hang");
}

fn connect(address: &str) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{address}/")).unwrap();
    client.get_connection().unwrap()
}

/// Keys that at least one of the servers does not have.
fn missing(servers: &[String], keys: &[String]) -> BTreeSet<String> {
    let mut missing = BTreeSet::new();
    for server in servers {
        let mut connection = connect(server);
        for batch in keys.chunks(500) {
            let mut pipeline = redis::pipe();
            for key in batch {
                pipeline.exists(key);
            }
            let found: Vec<bool> = pipeline.query(&mut connection).unwrap();
            let lacking = batch.iter().zip(found).filter(|(_, found)| !found);
            missing.extend(lacking.map(|(key, _)| key.clone()));
        }
    }
    missing
}

/// The demonstration does not judge itself.
#[test]
fn a_client_of_its_own_agrees() {
    let folder = folder();
    let mut staying = staying(folder.path(), &["--fault", "kill"]);
    let servers = staying.servers("demo");
    assert_eq!(servers.len(), 3);
    assert_eq!(staying.object["new_primary"], servers[0]);
    let keys = staying.acknowledged();
    let distinct: BTreeSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "every write has its own key");
    assert_eq!(staying.object["writes_acked"], keys.len());
    assert!(keys.len() > 500);
    let missing = missing(&servers, &keys);
    assert_eq!(staying.object["writes_lost"], missing.len());
    assert!(missing.is_empty());
    assert_eq!(
        staying.object["endpoints"]["http"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    staying.signal(Signal::TERM);
    assert_eq!(staying.wait(), Some(0));
    assert_nothing_left(folder.path());
}

/// The control: with the seal skipped, a replica is promoted while the cut-off primary still acknowledges writes, which
/// are wiped when it comes back. A client of this test's own finds the same loss.
#[test]
fn without_the_seal_writes_are_lost() {
    let folder = folder();
    let mut staying = staying(folder.path(), &["--isolate", "--plant", "skip-seal"]);
    let lost = staying.object["writes_lost"].as_u64().unwrap();
    assert!(lost > 0, "{}", staying.object);
    assert!(!staying.object["new_primary"].is_null());
    let missing = missing(&staying.servers("demo"), &staying.acknowledged());
    assert_eq!(missing.len() as u64, lost);
    staying.signal(Signal::TERM);
    assert_eq!(staying.wait(), Some(5));
    assert_nothing_left(folder.path());
}

/// The same cut with the seal: nobody is promoted, and the side of the old primary goes on.
#[test]
fn with_the_seal_nothing_is_lost() {
    let object = run(&["--isolate"], 4);
    assert_eq!(object["writes_lost"], 0);
    assert_eq!(object["epoch"], 1);
    for field in ["new_primary", "decided_ms", "promoted_ms", "first_write_ms"] {
        assert!(object[field].is_null(), "{field} in {object}");
    }
    assert!(!object["detected_ms"].is_null(), "{object}");
}

#[test]
fn nothing_outlives_a_killed_demonstration() {
    let folder = folder();
    let mut process = demo(folder.path(), &[])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let notes = BufReader::new(process.stderr.take().unwrap()).lines();
    let fault = notes
        .map(Result::unwrap)
        .find(|line| line.contains("fault"));
    assert!(fault.is_some(), "the demonstration ended before its fault");
    assert!(processes_of(folder.path()).len() >= 6);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_nothing_left(folder.path());
}

#[test]
fn an_interrupt_in_the_middle_cleans_up() {
    let folder = folder();
    let mut process = demo(folder.path(), &["--fault", "hang"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(notes.any(|line| line.contains("fault")));
    let pid = Pid::from_raw(process.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(notes.any(|line| line.starts_with("error: interrupted")));
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        object(&output)["error"]
            .as_str()
            .unwrap()
            .starts_with("interrupted")
    );
    assert_nothing_left(folder.path());
}

#[test]
fn without_redis_server_the_remedy_is_named() {
    let folder = folder();
    let output = demo(folder.path(), &[])
        .env("PATH", folder.path())
        .output()
        .unwrap();
    let notes = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{notes}");
    let last: Vec<&str> = notes.lines().rev().take(2).collect();
    assert_eq!(
        last[1],
        "error: redis-server is not installed, so there is nothing to guard"
    );
    assert!(last[0].starts_with("hint: install it: sudo apt-get install redis-server"));
    assert!(!object(&output)["error"].is_null());
    assert_nothing_left(folder.path());
}
