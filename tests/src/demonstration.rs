//! Runs `sentinel demo` as a user does, and looks at what it said and at what it left behind.
//!
//! Knows the fields of its object. Does not know engines: how servers are read is the test's own business.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{binary, wait};

/// Every field that a script may rely on.
pub const FIELDS: [&str; 16] = [
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

/// A folder of the test's own, in which the demonstration makes its own.
///
/// # Panics
/// When it cannot be made.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::TempDir::with_prefix("demo-test-").expect("a folder can be made");
    // As root the demonstration runs PostgreSQL as somebody else, who has to come through.
    let open = fs::set_permissions(folder.path(), Permissions::from_mode(0o711));
    open.expect("our folder can be changed");
    folder
}

/// A demonstration that makes its own folder in this one. What to show comes first among the arguments.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary::sentinel());
    command
        .args(["demo", "--json"])
        .args(arguments)
        .env("TMPDIR", folder)
        .env_remove("SENTINEL_POSTGRES_BIN")
        .stdin(Stdio::null());
    command
}

/// The object on the last line.
///
/// # Panics
/// When it is none.
pub fn object(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let notes = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last:?}\n{notes}"))
}

/// Processes that name this folder on their command line, or work in it, as the servers do.
///
/// # Panics
/// When the kernel does not show its processes.
pub fn processes_of(folder: &Path) -> Vec<PathBuf> {
    let name = folder.to_str().expect("a name of ours");
    let belongs = |process: &PathBuf| {
        let named =
            fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains(name));
        named || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    let entries = fs::read_dir("/proc").expect("the kernel shows its processes");
    let processes = entries.flatten().map(|entry| entry.path());
    processes.filter(belongs).collect()
}

/// Waits until no process and no file is left.
///
/// # Panics
/// When that does not happen.
pub fn assert_nothing_left(folder: &Path) {
    wait::until("no process and no file is left", || {
        let files = fs::read_dir(folder).expect("it is still ours").count();
        (processes_of(folder).is_empty() && files == 0).then_some(())
    });
}

/// Runs it to its end and says what it said, after a look at what all runs have in common.
///
/// # Panics
/// When it ends with another code, or leaves something behind.
#[track_caller]
pub fn run(arguments: &[&str], code: i32) -> Value {
    let folder = folder();
    let output = command(folder.path(), arguments).output();
    let output = output.expect("it was built");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{notes}");
    assert_nothing_left(folder.path());
    object(&output)
}

/// What the report of a run says in which the primary was replaced and nothing was lost.
///
/// # Panics
/// When it says something else.
#[track_caller]
pub fn assert_replaced(object: &Value, engine: &str, fault: &str) {
    // A primary that stops by order may be noted as down on the way, at any moment, or not.
    let ordered = fault == "switchover";
    let looked_at = |field: &&&str| !ordered || **field != "detected_ms";
    for field in FIELDS.iter().filter(looked_at) {
        assert!(!object[field].is_null(), "{field} in {object}");
    }
    assert_eq!(object["fault"], fault);
    assert_eq!(object["engine"], engine);
    assert_eq!(object["durability"], "quorum");
    assert_eq!(object["writes_lost"], 0);
    // One epoch for the first primary, and one for each failover: a machine that stands still may bring about another.
    assert!(object["epoch"].as_u64() >= Some(2), "{object}");
    assert_ne!(object["old_primary"], object["new_primary"]);
    let times = ["detected_ms", "decided_ms", "promoted_ms", "first_write_ms"];
    let times: Vec<f64> = (times.iter().filter(looked_at))
        .filter_map(|field| object[field].as_f64())
        .collect();
    assert!(times.is_sorted(), "{object}");
    assert!(object["write_gap_ms"].as_f64() > Some(0.0), "{object}");
    // Five seconds of 1000 writes each; a busy machine manages fewer.
    assert!(object["writes_acked"].as_u64() > Some(500), "{object}");
    assert!(object.get("error").is_none(), "{object}");
    assert!(object.get("endpoints").is_none(), "{object}");
}

/// A demonstration that stays up. Dropping it ends it.
#[derive(Debug)]
pub struct Staying {
    process: Child,
    /// What it reported before it began to wait.
    pub object: Value,
}

impl Staying {
    /// Runs it until it has reported.
    ///
    /// # Panics
    /// When it ends before it does.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = command(folder, arguments)
            .arg("--stay")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it was built");
        // The object comes before the wait for the end: reading one line must suffice.
        let stdout = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let object = read.map_err(|error| error.to_string());
        let object = object.and_then(|_| serde_json::from_str(&line).map_err(|e| e.to_string()));
        let object = object.unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { process, object }
    }

    /// The names of the acknowledged writes of the only service.
    ///
    /// # Panics
    /// When they are not there.
    pub fn acknowledged(&self) -> Vec<String> {
        let path = self.object["acknowledged"].as_str().expect("it stays");
        let text = fs::read_to_string(path).expect("it was written before the report");
        text.lines().map(str::to_owned).collect()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).expect("no pid is 0");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on.
    pub fn wait(&mut self) -> Option<i32> {
        let ended = wait::until("the demonstration ends", || {
            self.process.try_wait().ok().flatten()
        });
        ended.code()
    }

    /// The primary of a service and its replicas, as the Sentinel protocol names them.
    ///
    /// # Panics
    /// When the first voter does not answer.
    pub fn servers(&self, service: &str) -> Vec<String> {
        let endpoint = self.object["endpoints"]["resp"][0].as_str();
        let client = redis::Client::open(format!("redis://{}/", endpoint.expect("it stays")));
        let connection = client.and_then(|client| client.get_connection());
        let mut sentinel = connection.expect("the voter answers");
        let (host, port): (String, String) = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(service)
            .query(&mut sentinel)
            .expect("there is a primary");
        let replicas: Vec<std::collections::BTreeMap<String, String>> = redis::cmd("SENTINEL")
            .arg("REPLICAS")
            .arg(service)
            .query(&mut sentinel)
            .expect("the service is known");
        let mut servers = vec![format!("{host}:{port}")];
        servers.extend(replicas.iter().map(|replica| replica["name"].clone()));
        servers
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // It has ended, unless the test failed; its own leash ends the rest.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
