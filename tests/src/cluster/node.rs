//! One node of a cluster: a real `sentinel run` process with its settings, its ports and its data folder.
//!
//! Kills, pauses, continues, stops and restarts it on the same ports and data, and asks it over both protocols. Knows
//! nothing of the servers beyond those that its settings name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use sentinel_core::id::InstanceId;
use sentinel_daemon::api::{ExplainJson, PrimaryJson, ServiceJson, StatusJson};

use super::{SERVICE, http};
use crate::port::free_port;
use crate::sentinel_node::SentinelNode;

/// What a node does in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It votes.
    Voter,
    /// It follows and answers only.
    Observer,
}

/// A node's name and ports. They stay over its restarts, so that clients find it again.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    peer: u16,
    resp: u16,
    http: u16,
}

impl Plan {
    pub(crate) fn named(name: &str) -> Self {
        let mut ports = BTreeSet::new();
        while ports.len() < 3 {
            ports.insert(free_port());
        }
        let mut ports = ports.into_iter();
        let mut port = || ports.next().expect("there are three");
        Self {
            name: name.to_owned(),
            peer: port(),
            resp: port(),
            http: port(),
        }
    }

    /// Where it answers the Sentinel protocol.
    pub fn resp_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.resp))
    }

    /// Where it answers HTTP.
    pub fn http_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http))
    }

    /// The part of its settings that says who and where it and the voters are.
    pub(crate) fn place(&self, voters: &[Self], role: Role) -> String {
        let role = match role {
            Role::Voter => "voter",
            Role::Observer => "observer",
        };
        let mut table = String::new();
        for voter in voters {
            writeln!(table, "{} = \"127.0.0.1:{}\"", voter.name, voter.peer)
                .expect("writing to a string cannot fail");
        }
        let Self {
            name,
            peer,
            resp,
            http,
        } = self;
        format!(
            r#"[node]
cluster = "test"
name = "{name}"
role = "{role}"
data_dir = "{name}"
[listen]
peer = "127.0.0.1:{peer}"
resp = "127.0.0.1:{resp}"
http = "127.0.0.1:{http}"
[security]
admin_token_file = "{TOKEN_FILE}"
[voters]
{table}"#
        )
    }
}

/// Names and ports of so many voters.
pub(crate) fn plan(voters: usize) -> Vec<Plan> {
    (1..=voters)
        .map(|number| Plan::named(&format!("s{number}")))
        .collect()
}

/// A node that runs, is paused, or is dead. Dropping it kills the process; the folder is the cluster's.
#[derive(Debug)]
pub struct Node {
    plan: Plan,
    service: &'static str,
    settings: PathBuf,
    process: Option<SentinelNode>,
    paused: bool,
    /// What earlier processes logged.
    earlier: String,
}

impl Node {
    /// The error is the log of a node that did not start.
    pub(super) fn start(
        dir: &Path,
        plan: &Plan,
        voters: &[Plan],
        seed: &InstanceId,
        role: Role,
    ) -> Result<Self, String> {
        let text = settings_text(plan, voters, seed, role);
        Self::with_settings(dir, plan, SERVICE, &text)
    }

    /// A node with these settings, which is asked about this service. The error is the log of one that did not start.
    pub(crate) fn with_settings(
        dir: &Path,
        plan: &Plan,
        service: &'static str,
        text: &str,
    ) -> Result<Self, String> {
        let settings = dir.join(format!("{}.toml", plan.name));
        fs::write(&settings, text).expect("the temporary folder is writable");
        write_token(&dir.join(TOKEN_FILE));
        let process = SentinelNode::try_start(&settings)?;
        Ok(Self {
            plan: plan.clone(),
            service,
            settings,
            process: Some(process),
            paused: false,
            earlier: String::new(),
        })
    }

    /// Its name and ports.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Whether it runs and is not paused.
    pub fn answers(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// Kills it (SIGKILL).
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        self.keep_log();
        self.paused = false;
        self.process.take().expect("the node runs").kill9();
    }

    /// Asks it to stop (SIGTERM), and waits for its end.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub fn stop(&mut self) -> ExitStatus {
        let status = self.process.take().expect("the node runs").stop();
        self.keep_log();
        status
    }

    /// Stops it in place (SIGSTOP).
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&mut self) {
        self.process
            .as_ref()
            .expect("the node runs")
            .signal(Signal::STOP);
        self.paused = true;
    }

    /// Continues it (SIGCONT).
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&mut self) {
        self.process
            .as_ref()
            .expect("the node runs")
            .signal(Signal::CONT);
        self.paused = false;
    }

    pub(crate) fn resume_if_paused(&mut self) {
        if self.paused {
            self.resume();
        }
    }

    /// Starts it again on its ports and its data, and waits until it is ready.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "{} runs", self.name());
        self.process = Some(SentinelNode::start(&self.settings));
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.settings.with_extension("")
    }

    /// Starts it in vain, and returns the first line that says why.
    ///
    /// # Panics
    /// When it runs, or starts.
    pub fn refuses_to_start(&mut self) -> String {
        assert!(self.process.is_none(), "{} runs", self.name());
        let log = SentinelNode::try_start(&self.settings).expect_err("it must not start");
        let errors = log.lines().find(|line| line.starts_with("error: "));
        errors.unwrap_or_default().to_owned()
    }

    /// Everything that it has logged, in all its lives.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.settings.with_extension("log")).unwrap_or_default();
        match self.process {
            Some(_) => format!("{}{log}", self.earlier),
            None => self.earlier.clone(),
        }
    }

    fn keep_log(&mut self) {
        let log = fs::read_to_string(self.settings.with_extension("log")).unwrap_or_default();
        writeln!(self.earlier, "{log}-- ended").expect("writing to a string cannot fail");
    }

    /// `GET /v1/services/{service}/primary`; `None` where it names none or does not answer.
    pub fn primary(&self) -> Option<PrimaryJson> {
        self.get(&format!("/v1/services/{}/primary", self.service))
    }

    /// `GET /v1/services/{service}`.
    pub fn service(&self) -> Option<ServiceJson> {
        self.get(&format!("/v1/services/{}", self.service))
    }

    /// `GET /v1/services/{service}/explain`.
    pub fn explain(&self) -> Option<ExplainJson> {
        self.get(&format!("/v1/services/{}/explain", self.service))
    }

    /// `GET /v1/status`.
    pub fn status(&self) -> Option<StatusJson> {
        self.get("/v1/status")
    }

    /// `SENTINEL GET-MASTER-ADDR-BY-NAME` and the `config-epoch` of `SENTINEL MASTER`.
    pub fn resp_primary(&self) -> Option<(InstanceId, u64)> {
        let mut connection = self.connect()?;
        let sentinel = |verb: &str| {
            let mut command = redis::cmd("SENTINEL");
            command.arg(verb).arg(self.service);
            command
        };
        let (host, port): (String, u16) = sentinel("GET-MASTER-ADDR-BY-NAME")
            .query(&mut connection)
            .ok()?;
        let fields: BTreeMap<String, String> = sentinel("MASTER").query(&mut connection).ok()?;
        let epoch = fields.get("config-epoch")?.parse().ok()?;
        Some((InstanceId::new(host, port), epoch))
    }

    /// One field of the Sentinel section of `INFO`.
    pub fn resp_info(&self, field: &str) -> Option<String> {
        let text: String = redis::cmd("INFO")
            .arg("sentinel")
            .query(&mut self.connect()?)
            .ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .map(str::to_owned)
    }

    /// Whether it names this primary and epoch over both protocols, as a fresh answer.
    pub(crate) fn agrees(&self, primary: &InstanceId, epoch: u64) -> Result<(), String> {
        let name = self.name();
        let answer = self.primary().ok_or(format!("{name} names no primary"))?;
        if answer.freshness.stale {
            return Err(format!("{name} is stale"));
        }
        if (&answer.primary, answer.epoch) != (primary, epoch) {
            return Err(format!("{name} answers {answer:?} over HTTP"));
        }
        let answer = self.resp_primary();
        if answer.as_ref() != Some(&(primary.clone(), epoch)) {
            return Err(format!("{name} answers {answer:?} over RESP"));
        }
        Ok(())
    }

    /// Status and body of the answer to an order, given with this token. It may take as long as a switchover.
    ///
    /// # Panics
    /// When the node does not answer.
    pub fn order(&self, path: &str, token: &str, body: &str) -> (u16, serde_json::Value) {
        http::post(self.plan.http_address(), path, token, body)
    }

    fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Option<T> {
        if !self.answers() {
            return None;
        }
        http::get(self.plan.http_address(), path)
    }

    fn connect(&self) -> Option<redis::Connection> {
        const TIMEOUT: Duration = Duration::from_secs(2);
        let client = redis::Client::open(format!("redis://{}/", self.plan.resp_address())).ok()?;
        let connection = client.get_connection_with_timeout(TIMEOUT).ok()?;
        connection.set_read_timeout(Some(TIMEOUT)).ok()?;
        Some(connection)
    }
}

/// Index of the voter that leads, if those that run agree on one.
pub(crate) fn leader_of(nodes: &[Node]) -> Option<usize> {
    let mut leaders = BTreeSet::new();
    for node in nodes.iter().filter(|node| node.answers()) {
        leaders.insert(node.status()?.leader?);
    }
    let [leader] = leaders.into_iter().collect::<Vec<_>>().try_into().ok()?;
    nodes
        .iter()
        .position(|node| node.answers() && leader.as_str() == node.name())
}

/// What orders are given with, in the file of `TOKEN_FILE`.
pub const TOKEN: &str = "a token for tests";
/// Name of that file, in the folder of the settings.
pub(crate) const TOKEN_FILE: &str = "admin.token";

fn write_token(path: &Path) {
    fs::write(path, TOKEN).expect("the temporary folder is writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

/// Shorter than the defaults where that makes a test faster; the rest as shipped.
fn settings_text(plan: &Plan, voters: &[Plan], seed: &InstanceId, role: Role) -> String {
    let place = plan.place(voters, role);
    format!(
        r#"{place}[[service]]
name = "{SERVICE}"
engine = "redis"
instances = ["{seed}"]
down_after = "1s"
exclude_after = "2s"
restart_delay = "1s"
"#
    )
}
