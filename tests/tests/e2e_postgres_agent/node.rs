//! A real node, in a process of its own, that is the one voter and the agent of one server.
//!
//! Kills it, starts it again on its data, reads its journal, and asks it what it shows. Knows nothing of what a test wants.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sentinel_core::id::InstanceId;
use sentinel_daemon::api::{AgentJson, ServiceJson};
use sentinel_tests::binary;
use sentinel_tests::postgres_server::PostgresServer;
use sentinel_tests::sentinel_node::SentinelNode;
use serde::Deserialize;
use tempfile::TempDir;

/// A node that runs or is dead.
pub(crate) struct AgentNode {
    folder: TempDir,
    instance: InstanceId,
    path: OsString,
    process: Option<SentinelNode>,
}

#[derive(Deserialize)]
struct Status {
    services: Vec<ServiceJson>,
}

impl AgentNode {
    /// Settings for the agent of this server, in a service with these others; nothing runs yet.
    pub(crate) fn of(own: &PostgresServer, others: &[InstanceId], lines: &str) -> Self {
        let folder = TempDir::with_prefix("agent-node-test-").unwrap();
        let mut instances = vec![own.instance()];
        instances.extend(others.iter().cloned());
        let instances: Vec<String> = instances.iter().map(|one| format!("\"{one}\"")).collect();
        let user = match rustix::process::geteuid().is_root() {
            true => "user = \"nobody\"\n",
            false => "",
        };
        let text = format!(
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
[[agent]]
service = "ledger"
instance = "{}"
data_dir = "{}"
bin_dir = "{}"
restart_after = "100ms"
{user}{lines}
"#,
            instances.join(", "),
            own.instance(),
            own.data_dir().display(),
            own.bin_dir().display(),
        );
        fs::write(folder.path().join("s1.toml"), text).unwrap();
        Self {
            folder,
            instance: own.instance(),
            path: std::env::var_os("PATH").unwrap_or_default(),
            process: None,
        }
    }

    /// Programs of this folder come before those of the host.
    pub(crate) fn programs_first_in(&mut self, folder: &Path) {
        let mut path = folder.as_os_str().to_owned();
        path.push(":");
        path.push(&self.path);
        self.path = path;
    }

    /// Starts it, and does not wait.
    pub(crate) fn spawn(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let settings = self.folder.path().join("s1.toml");
        self.process = Some(SentinelNode::spawn_with_path(&settings, &self.path));
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.spawn();
        let process = self.process.take().expect("it was just started");
        self.process = Some(process.ready().unwrap());
    }

    /// Kills it (SIGKILL). What it had started goes on.
    pub(crate) fn kill9(&mut self) {
        self.process.take().expect("the node runs").kill9();
    }

    /// What it has logged in this life.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("s1.log")).unwrap_or_default()
    }

    /// The journal of its agent, as it is on disk at this moment.
    pub(crate) fn journal(&self) -> Option<serde_json::Value> {
        let text = fs::read(self.state_dir().join("job.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The step that the journal names.
    pub(crate) fn step(&self) -> Option<String> {
        let step = self.journal()?.get("step")?.clone();
        let named = step
            .as_object()
            .and_then(|step| step.keys().next().cloned());
        named.or_else(|| step.as_str().map(str::to_owned))
    }

    /// Where the log that only its server had is kept.
    pub(crate) fn diverged(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(
            self.folder
                .path()
                .join("data/diverged")
                .join(self.subject()),
        );
        let entries = entries.into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// What `sentinel status` prints for people.
    pub(crate) fn status_text(&self) -> String {
        String::from_utf8(self.status(&[]).stdout).unwrap()
    }

    /// What `sentinel status --json` says of its agent.
    pub(crate) fn agent(&self) -> Option<AgentJson> {
        let printed = self.status(&["--json"]).stdout;
        let status: Status = serde_json::from_slice(&printed).ok()?;
        let service = status.services.into_iter().next()?;
        let mut instances = service.instances.into_iter();
        instances.find(|one| one.instance == self.instance)?.agent
    }

    fn status(&self, arguments: &[&str]) -> Output {
        let node = self.process.as_ref().expect("the node runs");
        Command::new(binary::sentinel())
            .args(["status", "--node", &node.address("http").to_string()])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.path().join("data/agent").join(self.subject())
    }

    fn subject(&self) -> String {
        format!("ledger-{}-{}", self.instance.host(), self.instance.port())
    }
}
