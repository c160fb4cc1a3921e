#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The command line against real nodes and real servers: what it prints, and the exit code that scripts rely on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sentinel_tests::port::free_port;
use sentinel_tests::redis_server::RedisServer;
use sentinel_tests::sentinel_node::SentinelNode;
use sentinel_tests::{binary, wait};
use tempfile::TempDir;

/// Voters and servers, and a second service whose instance does not exist.
struct Cluster {
    folder: TempDir,
    voters: String,
    services: String,
    servers: Vec<RedisServer>,
}

impl Cluster {
    fn new() -> Self {
        let primary = RedisServer::start();
        let replicas = [
            RedisServer::replica_of(&primary),
            RedisServer::replica_of(&primary),
        ];
        let voters = ["s1", "s2", "s3"]
            .map(|name| format!("{name} = \"127.0.0.1:{}\"\n", free_port()))
            .concat();
        let service = |name: &str, port: u16| {
            format!(
                "[[service]]\nname = \"{name}\"\nengine = \"redis\"\ninstances = [\"127.0.0.1:{port}\"]\n"
            )
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            voters,
            services: service("orders", primary.port()) + &service("ghost", free_port()),
            servers: std::iter::once(primary).chain(replicas).collect(),
        }
    }

    /// Writes a node's settings; an observer listens for peers on any port.
    fn settings(&self, name: &str, role: &str) -> PathBuf {
        let own = format!("{name} = ");
        let peer = self.voters.lines().find_map(|line| line.strip_prefix(&own));
        let file = self.folder.path().join(format!("{name}.toml"));
        let text = format!(
            "[node]\ncluster = \"main\"\nname = \"{name}\"\nrole = \"{role}\"\ndata_dir = \"{name}\"\n\
             [listen]\npeer = {}\nresp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:{}\"\n[voters]\n{}{}",
            peer.unwrap_or("\"127.0.0.1:0\""),
            free_port(),
            self.voters,
            self.services
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn start(&self, name: &str, role: &str) -> Node {
        let settings = self.settings(name, role);
        let process = SentinelNode::start(&settings);
        Node { settings, process }
    }

    fn primary(&self) -> String {
        self.servers[0].instance().to_string()
    }
}

struct Node {
    settings: PathBuf,
    process: SentinelNode,
}

impl Node {
    /// Runs a command with `--config`.
    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = sentinel(self.settings.parent().unwrap());
        command.args(arguments).arg("--config").arg(&self.settings);
        Said::from(command.output().unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.process.address("http"))
    }
}

fn sentinel(folder: &Path) -> Command {
    let mut command = Command::new(binary::sentinel());
    command.current_dir(folder).env_remove("SENTINEL_NODE");
    command
}

#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    fn first_line(&self) -> &str {
        self.out.lines().next().unwrap_or_default()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Runs a command until its result is as wanted.
fn until(node: &Node, arguments: &[&str], wanted: impl Fn(&Said) -> bool) -> Said {
    wait::until(&format!("{arguments:?} says so"), || {
        Some(node.run(arguments)).filter(&wanted)
    })
}

#[test]
fn a_healthy_cluster_is_shown_by_every_node_alike() {
    let cluster = Cluster::new();
    let nodes = ["s1", "s2", "s3"].map(|name| cluster.start(name, "voter"));
    let observer = cluster.start("o1", "observer");
    for node in nodes.iter().chain([&observer]) {
        let healthy = "healthy: 1 service, 3 voters";
        let said = until(node, &["status", "orders"], |said| {
            said.first_line() == healthy
        });
        assert_eq!(said.code, 0);
        assert!(said.out.contains(&cluster.primary()), "{}", said.out);

        let said = node.run(&["primary", "orders"]);
        assert_eq!((said.code, said.out.trim_end()), (0, &*cluster.primary()));
        assert_eq!(said.err, "");
        let answer = node.run(&["primary", "orders", "--json"]).json();
        assert_eq!(answer["primary"], cluster.primary());
        assert_eq!(answer["stale"], false);
    }
    // Whoever is asked, the report is the leader's.
    let leader = nodes[0].run(&["status", "--json"]).json()["node"]["leader"].clone();
    let leader = leader.as_str().unwrap();
    for node in &nodes {
        let said = node.run(&["explain", "orders"]);
        assert_eq!(
            (said.code, said.first_line()),
            (
                0,
                &*format!("orders: steady, leader {leader}, told by {leader}")
            ),
            "{said:?}"
        );
        assert!(said.out.contains(": adopt\n"), "{}", said.out);
    }
}

/// What would block a failover is known to the leader alone, so whoever is asked goes there.
#[test]
fn a_follower_shows_what_would_block_the_next_failover() {
    let mut cluster = Cluster::new();
    let nodes = ["s1", "s2", "s3"].map(|name| cluster.start(name, "voter"));
    let said = until(&nodes[0], &["status", "orders", "--json"], |said| {
        said.code == 0 && said.json()["services"][0]["write_quorum"][1].is_string()
    });
    let leader = said.json()["node"]["leader"].as_str().unwrap().to_owned();
    cluster.servers.truncate(1);
    let at_risk = "at risk: the next failover would block: orders";
    let (leading, followers): (Vec<Node>, Vec<Node>) = nodes
        .into_iter()
        .partition(|node| node.settings.ends_with(format!("{leader}.toml")));
    for follower in &followers {
        let said = until(follower, &["status", "orders"], |said| {
            said.first_line() == at_risk
        });
        let name = follower.settings.file_stem().unwrap().to_str().unwrap();
        let line = format!("cluster main, asked {name}, leader {leader}, told by {leader}, ");
        assert!(said.out.contains(&line), "{said:?}");
        assert!(said.out.contains("  the next failover would block: "));
    }

    // Alone, the asked node answers for itself, and says what it cannot know.
    let mut followers = followers.into_iter();
    let asked = followers.next().unwrap();
    for other in followers.chain(leading) {
        other.process.kill9();
    }
    let said = asked.run(&["status", "orders"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err
            .contains("what would block a failover is the leader's knowledge alone"),
        "{said:?}"
    );
}

/// A node that listens on loopback announces loopback, which is from another host somebody else.
#[test]
fn whoever_answers_at_the_leaders_address_is_not_taken_for_it() {
    let cluster = Cluster::new();
    let observer = cluster.start("o1", "observer");
    let announced = format!(
        "[node]\nannounce_http = \"{}\"",
        observer.process.address("http")
    );
    let _voters = ["s1", "s2", "s3"].map(|name| {
        let settings = cluster.settings(name, "voter");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, text.replacen("[node]", &announced, 1)).unwrap();
        SentinelNode::start(&settings)
    });
    for (command, missing) in [
        (
            "status",
            "; what follows is from o1, and what would block a failover is ",
        ),
        (
            "explain",
            "hint: the leader's report is missing, because leader s",
        ),
    ] {
        let found = ", where o1 answers: set node.announce_http on s";
        let said = until(&observer, &[command, "orders"], |said| {
            said.code == 0 && said.err.contains(found)
        });
        assert!(said.err.contains(missing), "{said:?}");
    }
}

/// The settings seed the committed table once; whoever edits them afterwards hears that nothing follows from it.
#[test]
fn an_edit_of_the_settings_is_told_to_be_without_effect() {
    let cluster = Cluster::new();
    let nodes = ["s1", "s2", "s3"].map(|name| cluster.start(name, "voter"));
    let node = &nodes[0];
    let said = until(node, &["status", "orders"], |said| said.code == 0);
    assert!(!said.err.contains("warning: "), "{said:?}");

    let text = fs::read_to_string(&node.settings).unwrap();
    let edited = text.replacen("[[service]]", "[[service]]\ndown_after = \"5s\"", 1);
    fs::write(&node.settings, edited).unwrap();
    let file = node.settings.display();
    let warning = format!("service `orders`: down_after stays 2s, and is 5s in {file}");
    let said = node.run(&["status", "orders"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains(&format!("warning: {warning}\n")),
        "{said:?}"
    );
    let said = node.run(&["status", "orders", "--json"]);
    assert_eq!(said.json()["warnings"][0], *warning);
    let said = node.run(&["check"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains(&warning), "{said:?}");
}

#[test]
fn exit_codes_tell_what_is_missing() {
    let cluster = Cluster::new();
    let nodes = ["s1", "s2", "s3"].map(|name| cluster.start(name, "voter"));
    let said = until(&nodes[0], &["status", "orders", "--json"], |said| {
        said.code == 0
    });
    // The leader is the one that stays: it has heard no other leader than itself.
    let leader = said.json()["node"]["leader"].as_str().unwrap().to_owned();
    let (leading, others): (Vec<Node>, Vec<Node>) = nodes
        .into_iter()
        .partition(|node| node.settings.ends_with(format!("{leader}.toml")));
    let node = &leading[0];

    let said = node.run(&["primary", "ghost"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(
        said.err.starts_with("error: ") && said.err.contains("\nhint: "),
        "{said:?}"
    );
    let said = node.run(&["status"]);
    assert_eq!(said.code, 4);
    assert_eq!(
        said.first_line(),
        "no primary: ghost; `sentinel explain SERVICE` says why"
    );
    let said = node.run(&["primary", "nobody"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.err.starts_with("error: ") && said.err.contains("\nhint: "),
        "{said:?}"
    );

    for other in others {
        other.process.kill9();
    }
    let said = until(node, &["status"], |said| said.code == 3);
    assert!(
        said.first_line()
            .starts_with(&format!("no quorum: {leader} has heard no leader for ")),
        "{said:?}"
    );
    // Discovery goes on, and says how old it is.
    let said = node.run(&["primary", "orders"]);
    assert_eq!((said.code, said.out.trim_end()), (0, &*cluster.primary()));
    assert!(said.err.starts_with("hint: stale: node "), "{said:?}");
    assert_eq!(node.run(&["explain", "orders"]).code, 3);
}

#[test]
fn the_node_to_ask_comes_from_the_option_then_the_environment_then_the_settings() {
    let cluster = Cluster::new();
    let node = cluster.start("o1", "observer");
    let asked = |command: &mut Command| {
        let said = Said::from(command.args(["status", "--json"]).output().unwrap());
        if said.code == 3 && said.out.is_empty() {
            return said.err.lines().next().unwrap_or_default().to_owned();
        }
        said.json()["node"]["node"].as_str().unwrap().to_owned()
    };
    let folder = cluster.folder.path();
    let nobody = "http://127.0.0.1:1";
    let unreachable = "error: node 127.0.0.1:1 cannot be reached (nothing listens there): start it, or name another one with --node";
    let url = node.url();
    let said = node.run(&["status", "--json"]);
    assert_eq!(said.json()["node"]["node"], "o1");
    assert_eq!(asked(sentinel(folder).env("SENTINEL_NODE", &url)), "o1");
    assert_eq!(
        asked(sentinel(folder).env("SENTINEL_NODE", nobody)),
        unreachable
    );
    assert_eq!(
        asked(
            sentinel(folder)
                .args(["--node", &url])
                .env("SENTINEL_NODE", nobody)
        ),
        "o1"
    );
    assert_eq!(
        asked(
            sentinel(folder)
                .args(["--node", nobody])
                .env("SENTINEL_NODE", &url)
        ),
        unreachable
    );
}
