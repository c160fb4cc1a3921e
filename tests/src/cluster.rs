//! A whole cluster on real processes: a primary and its replicas, and the nodes that guard them.
//!
//! Starts it, breaks parts of it, asks every node over both protocols, and waits until it is whole again. When the test
//! fails, what the nodes say and logged is printed before everything is killed. Knows nothing of what a test wants to show.

pub(crate) mod http;
pub(crate) mod node;
mod writers;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Output;

use sentinel_core::id::InstanceId;
use sentinel_daemon::api::{ExplainJson, PrimaryJson, ServiceJson};
use tempfile::TempDir;

use crate::redis_server::{Options, RedisServer};
use crate::wait;

pub use node::{Node, Role, TOKEN};
pub use writers::{Source, Writers, Written};

/// Name of the one service.
pub const SERVICE: &str = "orders";

const VOTERS: usize = 3;

/// Who leads the service: what every node and every server agrees on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// Index of the primary among the servers.
    pub primary: usize,
    /// Epoch in which it became primary.
    pub epoch: u64,
}

/// The servers and the nodes. Dropping it kills them all and removes their folders.
#[derive(Debug)]
pub struct Cluster {
    /// The first one is the primary at first.
    pub servers: Vec<RedisServer>,
    /// Three voters, and any observers behind them.
    pub nodes: Vec<Node>,
    dir: TempDir,
}

impl Cluster {
    /// A primary with `replicas` replicas, and three voters, all of it whole.
    ///
    /// # Panics
    /// When it does not become whole.
    pub fn start(replicas: usize) -> Self {
        let primary = RedisServer::start();
        let mut servers = vec![primary];
        for _ in 0..replicas {
            servers.push(RedisServer::replica_of(&servers[0]));
        }
        let cluster = Self::guarding(servers);
        cluster.wait_whole();
        cluster
    }

    /// Three voters that know the first of these servers, and have to find the others. Does not wait.
    ///
    /// # Panics
    /// When a voter does not start.
    pub fn guarding(servers: Vec<RedisServer>) -> Self {
        let seed = servers[0].instance();
        for _ in 0..20 {
            let dir =
                TempDir::with_prefix("cluster-test-").expect("a temporary folder can be made");
            match start_voters(&dir, &seed) {
                Ok(nodes) => {
                    return Self {
                        servers,
                        nodes,
                        dir,
                    };
                }
                // Somebody else took a port between the look and the start, and every voter was told of it.
                Err(log) if log.contains("is in use") => {}
                Err(log) => panic!("a voter did not start:\n{log}"),
            }
        }
        panic!("no free ports found in 20 attempts")
    }

    /// Adds a node that only answers, and returns its index.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_observer(&mut self) -> usize {
        let plans: Vec<_> = self.nodes.iter().map(|node| node.plan().clone()).collect();
        let own = node::Plan::named("watcher");
        let seed = self.servers[0].instance();
        let node = Node::start(self.dir.path(), &own, &plans, &seed, Role::Observer);
        self.nodes
            .push(node.unwrap_or_else(|log| panic!("the observer did not start:\n{log}")));
        self.nodes.len() - 1
    }

    /// Adds a server that receives from another one, and returns its index. Nobody is told of it.
    pub fn add_replica_of(&mut self, upstream: usize) -> usize {
        let options = Options::default().replica_of(&self.servers[upstream]);
        self.servers.push(RedisServer::with(options));
        self.servers.len() - 1
    }

    /// Waits until it is whole with all its servers; see [`Self::whole`].
    ///
    /// # Panics
    /// When the bound runs out, with what is missing.
    #[track_caller]
    pub fn wait_whole(&self) -> Steady {
        let mut missing = String::new();
        let found = wait::within(wait::BOUND_CLUSTER, || match self.whole() {
            Ok(steady) => Some(steady),
            Err(why) => {
                missing = why;
                None
            }
        });
        found.unwrap_or_else(|| panic!("the cluster is not whole: {missing}"))
    }

    /// Waits until it is whole in a later epoch than this one.
    ///
    /// # Panics
    /// When the bound runs out, or the primary is still the same.
    #[track_caller]
    pub fn wait_whole_after(&self, before: Steady) -> Steady {
        self.wait_new_primary(before);
        let after = self.wait_whole();
        assert!(after.epoch > before.epoch, "{after:?} after {before:?}");
        after
    }

    /// Waits until a node names another primary than before, in a later epoch, and returns its index.
    ///
    /// # Panics
    /// When the bound runs out.
    #[track_caller]
    pub fn wait_new_primary(&self, before: Steady) -> usize {
        let old = self.servers[before.primary].instance();
        self.until("another primary", || {
            let answer = self.answering().find_map(|node| {
                let answer = node.primary()?;
                (answer.primary != old && answer.epoch > before.epoch).then_some(answer)
            })?;
            self.index_of(&answer.primary)
        })
    }

    /// Whether everything is as it should be in good times: every running node names the same primary and epoch over
    /// both protocols and is not stale, exactly that server is a primary, every other one streams from it and is in the
    /// write quorum, and the leader has nothing left to do.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn whole(&self) -> Result<Steady, String> {
        let leader = self.try_leader().ok_or("the voters have no leader")?;
        let service = self.nodes[leader]
            .service()
            .ok_or("the leader does not answer")?;
        let (primary, epoch) = (service.primary.clone().ok_or("no primary")?, service.epoch);
        if service.stage != "steady" {
            return Err(format!("stage {}", service.stage));
        }
        for node in self.answering() {
            node.agrees(&primary, epoch)?;
        }
        let others: BTreeSet<InstanceId> = self
            .servers
            .iter()
            .map(RedisServer::instance)
            .filter(|instance| *instance != primary)
            .collect();
        if service.write_quorum != others {
            return Err(format!("the write quorum is {:?}", service.write_quorum));
        }
        for server in &self.servers {
            follows(server, &primary)?;
        }
        let primary = self.index_of(&primary).ok_or("the primary is a stranger")?;
        Ok(Steady { primary, epoch })
    }

    /// Index of the voter that leads, if those that run agree on one.
    pub fn try_leader(&self) -> Option<usize> {
        node::leader_of(&self.nodes)
    }

    /// Index of the voter that leads.
    ///
    /// # Panics
    /// When those that run do not agree on one within the bound.
    #[track_caller]
    pub fn leader(&self) -> usize {
        self.until("a leader", || self.try_leader())
    }

    /// Index of a running voter that does not lead.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        let other = |index: &usize| *index != leader && self.nodes[*index].answers();
        (0..VOTERS).find(other).expect("a voter besides the leader")
    }

    /// What the leader knows of the service.
    ///
    /// # Panics
    /// When it does not answer within the bound.
    #[track_caller]
    pub fn service(&self) -> ServiceJson {
        self.until("the leader answers", || {
            self.nodes[self.try_leader()?].service()
        })
    }

    /// Why the leader does what it does.
    ///
    /// # Panics
    /// When it does not answer within the bound.
    #[track_caller]
    pub fn explain(&self) -> ExplainJson {
        self.until("the leader explains", || {
            self.nodes[self.try_leader()?].explain()
        })
    }

    /// Every answer of the running nodes to the question for the primary.
    pub fn answers(&self) -> Vec<PrimaryJson> {
        self.answering().filter_map(Node::primary).collect()
    }

    /// Runs the command line, which asks one node.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn cli(&self, node: usize, arguments: &[&str]) -> Output {
        std::process::Command::new(crate::binary::sentinel())
            .args(arguments)
            .args([
                "--node",
                &self.nodes[node].plan().http_address().to_string(),
            ])
            .current_dir(self.dir.path())
            .output()
            .expect("the binary starts")
    }

    /// What orders are given with.
    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// The file that holds it.
    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join(node::TOKEN_FILE)
    }

    /// The nodes that run and are not paused.
    pub fn answering(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.answers())
    }

    /// Index of the server with this address.
    pub fn index_of(&self, instance: &InstanceId) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.instance() == *instance)
    }

    /// Waits for a condition as long as a slow machine may need for a failover.
    ///
    /// # Panics
    /// When the bound runs out.
    #[track_caller]
    pub fn until<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        let found = wait::within(wait::BOUND_CLUSTER, probe);
        found.unwrap_or_else(|| panic!("waited {:?} in vain: {what}", wait::BOUND_CLUSTER))
    }

    /// Everything that helps to understand a failure.
    fn evidence(&self) -> String {
        let mut text = String::new();
        for server in &self.servers {
            text += &format!(
                "\n== server {}: role {:?}, upstream {:?}, link {:?}\n{}",
                server.instance(),
                server.info("role"),
                server.info("master_port"),
                server.info("master_link_status"),
                tail(&server.log())
            );
        }
        for node in &self.nodes {
            text += &format!(
                "\n== node {}: {:#?}\n{:#?}\n{}",
                node.name(),
                node.service(),
                node.explain(),
                tail(&node.log())
            );
        }
        text
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A paused process would keep its own answers to itself.
            for node in &mut self.nodes {
                node.resume_if_paused();
            }
            eprintln!("{}", self.evidence());
        }
    }
}

/// The error is the log of one that did not start; the others are killed.
fn start_voters(dir: &TempDir, seed: &InstanceId) -> Result<Vec<Node>, String> {
    let plans = node::plan(VOTERS);
    let start = |plan| Node::start(dir.path(), plan, &plans, seed, Role::Voter);
    plans.iter().map(start).collect()
}

fn follows(server: &RedisServer, primary: &InstanceId) -> Result<(), String> {
    let own = server.instance();
    let info = server.all_info().ok_or(format!("{own} does not answer"))?;
    let field = |name: &str| info.get(name).map_or("", String::as_str);
    let right = if own == *primary {
        field("role") == "master"
    } else {
        field("role") == "slave"
            && field("master_port") == primary.port().to_string()
            && field("master_link_status") == "up"
    };
    if right {
        return Ok(());
    }
    Err(format!(
        "{own} is {} of {} with its link {}",
        field("role"),
        field("master_port"),
        field("master_link_status")
    ))
}

fn tail(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
