//! A whole cluster of PostgreSQL on real processes: a primary and its standbys, and for each server a node that is voter
//! and agent of it.
//!
//! Starts it, breaks parts of it, asks every node over both protocols, and waits until it is whole again. When the test
//! fails, what the servers and nodes say and logged is printed before everything is killed. Knows nothing of what a test
//! wants to show.

mod session;
mod settings;
mod wholeness;
mod writers;

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_daemon::api::ServiceJson;
use tempfile::TempDir;

pub use crate::cluster::Steady;
use crate::cluster::node::{self, Node, Plan};
use crate::postgres_server::{FirstStart, Options, Paused, PostgresServer, PostgresVersion, Role};
use crate::wait;

pub use writers::{Source, Writers, Written};

/// Name of the one service.
pub const SERVICE: &str = "db";

/// Generous for a failover with a rewind and a copy, on a machine that does two of them.
pub const BOUND: Duration = Duration::from_secs(60);

const SERVERS: usize = 3;

/// What differs from the usual cluster.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Of the servers.
    pub version: PostgresVersion,
    /// How many standbys must hold a row before it is acknowledged.
    pub min_replicas: u32,
    /// How long an agent waits with a server that ended by itself; long enough that a slow machine fails over first.
    pub restart_after: &'static str,
    /// How long a silence is tolerated.
    pub down_after: &'static str,
    /// Further addresses in the settings, of servers that are none of the cluster's.
    pub strangers: Vec<InstanceId>,
    /// Further lines of the service's settings.
    pub service_lines: Vec<String>,
    /// Further lines of each agent's settings.
    pub agent_lines: Vec<String>,
    /// Further lines of each server's configuration.
    pub server_lines: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            version: PostgresVersion::any(),
            min_replicas: 1,
            restart_after: "15s",
            down_after: "1s",
            strangers: Vec::new(),
            service_lines: Vec::new(),
            agent_lines: Vec::new(),
            server_lines: Vec::new(),
        }
    }
}

/// The servers and the nodes. Dropping it kills them all and removes their folders.
#[derive(Debug)]
pub struct PostgresCluster {
    // The nodes go first: an agent would start its server again.
    /// Voters; each is the agent of the server with the same index.
    pub nodes: Vec<Node>,
    /// The first one is the primary at first.
    pub servers: Vec<PostgresServer>,
    dir: TempDir,
}

impl PostgresCluster {
    /// A primary with two standbys, and three nodes, all of it whole.
    ///
    /// # Panics
    /// When it does not become whole.
    pub fn start() -> Self {
        Self::shaped(&Shape::default())
    }

    /// The same in another shape. There is a table for the writers.
    ///
    /// # Panics
    /// When it does not become whole.
    pub fn shaped(shape: &Shape) -> Self {
        let options = || {
            let lines = shape.server_lines.iter();
            lines.fold(Options::default(), Options::line)
        };
        let primary = PostgresServer::primary_with(&shape.version, options());
        let table = "CREATE TABLE written (id bigint PRIMARY KEY)";
        let made = primary.try_query(Role::App, table);
        made.expect("the application may make a table");
        let mut servers = vec![primary];
        while servers.len() < SERVERS {
            // Its agent starts it.
            let options = options().first_start(FirstStart::Later);
            servers.push(PostgresServer::standby_with(&servers[0], options));
        }
        let cluster = Self::guarding(servers, shape);
        cluster.wait_whole();
        cluster
    }

    /// A node for each of these servers. Does not wait.
    ///
    /// # Panics
    /// When a node does not start.
    pub fn guarding(servers: Vec<PostgresServer>, shape: &Shape) -> Self {
        for _ in 0..20 {
            let dir = TempDir::with_prefix("postgres-cluster-test-")
                .expect("a temporary folder can be made");
            match start_nodes(&dir, &servers, shape) {
                Ok(nodes) => {
                    return Self {
                        nodes,
                        servers,
                        dir,
                    };
                }
                // Somebody else took a port between the look and the start, and every voter was told of it.
                Err(log) if log.contains("is in use") => {}
                Err(log) => panic!("a node did not start:\n{log}"),
            }
        }
        panic!("no free ports found in 20 attempts")
    }

    /// Waits until it is whole with all its servers; see [`Self::whole`].
    ///
    /// # Panics
    /// When the bound runs out, with what is missing.
    #[track_caller]
    pub fn wait_whole(&self) -> Steady {
        let mut missing = String::new();
        let found = wait::within(BOUND, || match self.whole() {
            Ok(steady) => Some(steady),
            Err(why) => {
                missing = why;
                None
            }
        });
        found.unwrap_or_else(|| panic!("the cluster is not whole: {missing}"))
    }

    /// Whether everything is as it should be in good times: every running node names the same primary and epoch over
    /// both protocols and is not stale, its agent sees its server run, exactly that server is a primary, every other one
    /// streams its timeline and is in the write quorum, by the nodes and by the primary's own setting.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn whole(&self) -> Result<Steady, String> {
        wholeness::judge(self)
    }

    /// How every case ends: the cluster is whole without a hand, takes more rows, and every acknowledged row is on every
    /// server; nothing else that one of them holds is missing on another.
    ///
    /// # Panics
    /// When it is not so within the bound.
    #[track_caller]
    pub fn end_whole(&self, writers: Writers) -> Steady {
        let steady = self.wait_whole();
        writers.wait_for_more(self, 20);
        let steady_then = self.wait_whole();
        assert_eq!(steady_then, steady, "it was whole and did not stay so");
        self.verify_all(&writers.stop(), steady);
        steady
    }

    /// The same in a later epoch and with another primary than before.
    ///
    /// # Panics
    /// When it is not so within the bound.
    #[track_caller]
    pub fn end_whole_after(&self, before: Steady, writers: Writers) -> Steady {
        self.wait_new_primary(before);
        let after = self.end_whole(writers);
        assert!(after.epoch > before.epoch, "{after:?} after {before:?}");
        after
    }

    /// Every row is on the primary, and on every standby as soon as it has caught up, and then all hold the same rows.
    ///
    /// # Panics
    /// When it is not so.
    #[track_caller]
    pub fn verify_all(&self, written: &Written, steady: Steady) {
        let primary = &self.servers[steady.primary];
        let sent = written.count();
        let lost = written.lost_on(primary);
        assert_eq!(
            lost,
            Ok(None),
            "of {sent} acknowledged rows some are lost on {} (the first, how many)",
            primary.instance()
        );
        for server in &self.servers {
            let mut found = Ok(None);
            let caught_up = wait::within(BOUND, || {
                found = written.lost_on(server);
                (found == Ok(None) && rows(server)? == rows(primary)?).then_some(())
            });
            assert!(
                caught_up.is_some(),
                "of {sent} acknowledged rows {} lacks (the first, how many) {found:?}; it holds {:?}, the primary {:?}",
                server.instance(),
                rows(server),
                rows(primary)
            );
        }
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

    /// Indices of the standbys.
    pub fn standbys(&self, steady: Steady) -> [usize; SERVERS - 1] {
        let others: Vec<usize> = (0..SERVERS)
            .filter(|index| *index != steady.primary)
            .collect();
        others.try_into().expect("one of them is the primary")
    }

    /// Index of the voter that leads, if those that run agree on one.
    pub fn try_leader(&self) -> Option<usize> {
        node::leader_of(&self.nodes)
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
        node::TOKEN
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
        let mut servers = self.servers.iter();
        servers.position(|server| server.instance() == *instance)
    }

    /// Cuts a standby off where it is: all its processes stand still, and what its primary still sends does not come.
    ///
    /// # Panics
    /// When the two do not run.
    pub fn cut_off(&self, standby: usize, primary: usize) {
        self.servers[standby].pause(Paused::Everything);
        self.servers[primary].execute(&format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_replication WHERE application_name = '{}'",
            self.servers[standby].instance()
        ));
    }

    /// Waits for a condition as long as a slow machine may need for a failover.
    ///
    /// # Panics
    /// When the bound runs out.
    #[track_caller]
    pub fn until<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        let found = wait::within(BOUND, probe);
        found.unwrap_or_else(|| panic!("waited {BOUND:?} in vain: {what}"))
    }

    /// The folder of the nodes: `s1.toml`, `s1.log`, and the data folder `s1` of the first, and so on.
    pub fn folder(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Everything that helps to understand a failure.
    fn evidence(&self) -> String {
        let mut text = format!("== whole: {:?}", self.whole());
        for server in &self.servers {
            text += &format!(
                "\n== server {}: recovery, conninfo, names {:?}\n{}",
                server.instance(),
                server.try_query(
                    Role::Superuser,
                    "SELECT pg_is_in_recovery(), current_setting('primary_conninfo'), current_setting('synchronous_standby_names')"
                ),
                tail(&server.log_text())
            );
        }
        for node in &self.nodes {
            text += &format!(
                "\n== node {}: {:#?}\n{}",
                node.name(),
                node.service().map(|service| (
                    service.stage,
                    service.primary,
                    service.epoch,
                    service.instances
                )),
                tail(&node.log())
            );
        }
        let leader = self.try_leader();
        let report = leader.and_then(|leader| self.nodes[leader].explain());
        text + &format!("\n== the leader {leader:?}: {report:#?}")
    }
}

impl Drop for PostgresCluster {
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
fn start_nodes(
    dir: &TempDir,
    servers: &[PostgresServer],
    shape: &Shape,
) -> Result<Vec<Node>, String> {
    let plans: Vec<Plan> = node::plan(servers.len());
    let start = |(plan, own): (&Plan, &PostgresServer)| {
        let text = settings::text(plan, &plans, servers, own, shape);
        Node::with_settings(dir.path(), plan, SERVICE, &text)
    };
    plans.iter().zip(servers).map(start).collect()
}

/// How many rows a server holds, and a digest of them.
fn rows(server: &PostgresServer) -> Option<String> {
    let sql = "SELECT count(*) || ' ' || coalesce(md5(string_agg(id::text, ',' ORDER BY id)), '') FROM written";
    let rows = server.try_query(Role::Superuser, sql).ok()?;
    rows.into_iter().flatten().next()
}

fn tail(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
