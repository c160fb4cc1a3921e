#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The demonstration, judged from outside: its exit code, its object, and the servers themselves.
//!
//! Runs the real binary. Counts what was lost with a client of its own, and looks for what was left behind.
//! Times are not judged here; they are `make demo-check`'s business.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::{binary, wait};
use serde_json::Value;

/// Every field that a script may rely on.
const FIELDS: [&str; 16] = [
    "service",
    "engine",
    "fault",
    "old_primary",
    "new_primary",
    "epoch",
    "detected_ms",
    "decided_ms",
    "promoted_ms",
    "first_write_ms",
    "write_gap_ms",
    "writes_acked",
    "writes_lost",
    "writes_sent",
    "durability",
    "with_leader",
];

/// A folder of this test's own, in which the demonstration makes its own.
fn folder() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("demo-test-").unwrap()
}

fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::sentinel());
    command
        .args(["demo", "redis", "--json"])
        .args(arguments)
        .env("TMPDIR", folder)
        .stdin(Stdio::null());
    command
}

fn object(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let notes = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last:?}\n{notes}"))
}

/// Processes that name this folder on their command line, or work in it, as the servers do.
fn processes_of(folder: &Path) -> Vec<PathBuf> {
    let name = folder.to_str().unwrap();
    let belongs = |process: &PathBuf| {
        let named =
            fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains(name));
        named || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.map(|entry| entry.path()).filter(belongs).collect()
}

fn assert_nothing_left(folder: &Path) {
    wait::until("no process and no file is left", || {
        let files = fs::read_dir(folder).unwrap().count();
        (processes_of(folder).is_empty() && files == 0).then_some(())
    });
}

/// Runs it to its end and says what it said, after a look at what all runs have in common.
fn run(arguments: &[&str], code: i32) -> Value {
    let folder = folder();
    let output = demo(folder.path(), arguments).output().unwrap();
    let notes = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{notes}");
    assert_nothing_left(folder.path());
    object(&output)
}

/// A run in which the primary was replaced and nothing was lost.
fn assert_failover(object: &Value, fault: &str) {
    for field in FIELDS {
        assert!(!object[field].is_null(), "{field} in {object}");
    }
    assert_eq!(object["fault"], fault);
    assert_eq!(object["engine"], "redis");
    assert_eq!(object["durability"], "quorum");
    assert_eq!(object["writes_lost"], 0);
    assert_eq!(object["epoch"], 2);
    assert_ne!(object["old_primary"], object["new_primary"]);
    let times = ["detected_ms", "decided_ms", "promoted_ms", "first_write_ms"];
    let times = times.map(|field| object[field].as_f64().unwrap());
    assert!(times.is_sorted(), "{object}");
    assert!(object["write_gap_ms"].as_f64() > Some(0.0), "{object}");
    // Five seconds of 1000 writes each; a busy machine manages fewer.
    assert!(object["writes_acked"].as_u64() > Some(500), "{object}");
    assert!(object.get("error").is_none(), "{object}");
    assert!(object.get("endpoints").is_none(), "{object}");
}

#[test]
fn a_kill_together_with_the_leader() {
    let object = run(&["--fault", "kill", "--with-leader"], 0);
    assert_failover(&object, "kill");
    assert_eq!(object["with_leader"], true);
}

#[test]
fn a_hang() {
    assert_failover(&run(&["--fault", "hang"], 0), "hang");
}

/// A demonstration that stays up.
struct Staying {
    process: Child,
    object: Value,
}

impl Staying {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = demo(folder, arguments)
            .arg("--stay")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The object comes before the wait for the end: reading one line must suffice.
        let stdout = process.stdout.take().unwrap();
        let line = BufReader::new(stdout).lines().next().unwrap().unwrap();
        let object = serde_json::from_str(&line).unwrap();
        Self { process, object }
    }

    fn acknowledged(&self) -> Vec<String> {
        let path = PathBuf::from(self.object["acknowledged"].as_str().unwrap());
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        let ended = wait::until("the demonstration ends", || {
            self.process.try_wait().unwrap()
        });
        ended.code()
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // It has ended, unless the test failed; its own leash ends the rest.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn connect(address: &str) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{address}/")).unwrap();
    client.get_connection().unwrap()
}

/// The primary and its replicas, as the Sentinel protocol names them.
fn servers(object: &Value) -> Vec<String> {
    let mut sentinel = connect(object["endpoints"]["resp"][0].as_str().unwrap());
    let (host, port): (String, String) = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg("demo")
        .query(&mut sentinel)
        .unwrap();
    let replicas: Vec<std::collections::BTreeMap<String, String>> = redis::cmd("SENTINEL")
        .arg("REPLICAS")
        .arg("demo")
        .query(&mut sentinel)
        .unwrap();
    let mut servers = vec![format!("{host}:{port}")];
    servers.extend(replicas.iter().map(|replica| replica["name"].clone()));
    servers
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
    let mut staying = Staying::start(folder.path(), &["--fault", "kill"]);
    let servers = servers(&staying.object);
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
    let mut staying = Staying::start(folder.path(), &["--isolate", "--plant", "skip-seal"]);
    let lost = staying.object["writes_lost"].as_u64().unwrap();
    assert!(lost > 0, "{}", staying.object);
    assert!(!staying.object["new_primary"].is_null());
    let missing = missing(&servers(&staying.object), &staying.acknowledged());
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
