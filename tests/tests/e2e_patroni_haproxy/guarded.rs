//! A PostgreSQL service with its standbys, each with a node beside it that votes and is its agent, as on three database hosts.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use sentinel_tests::haproxy::Behind;
use sentinel_tests::port::free_port;
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, Role};
use sentinel_tests::sentinel_node::SentinelNode;
use tempfile::TempDir;

const NODES: usize = 3;

/// The servers and their nodes. Dropping it ends all of them.
pub(crate) struct Guarded {
    // Before the servers: an agent must not start again what is being ended.
    nodes: Vec<SentinelNode>,
    pub(crate) servers: Vec<PostgresServer>,
    _folder: TempDir,
}

impl Guarded {
    /// The first server is the primary at first.
    pub(crate) fn start(version: &PostgresVersion) -> Self {
        let mut servers = vec![PostgresServer::primary(version)];
        for _ in 1..NODES {
            servers.push(PostgresServer::standby_of(&servers[0]));
        }
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = servers.iter().map(|_| free_port()).collect();
        let names = (1..).map(|n| format!("s{n}"));
        let mut common = "[voters]\n".to_owned();
        for (name, port) in names.clone().zip(&ports) {
            writeln!(common, "{name} = \"127.0.0.1:{port}\"").unwrap();
        }
        let instances: Vec<String> = servers
            .iter()
            .map(|server| format!("\"{}\"", server.instance()))
            .collect();
        let user = Role::Sentinel.name();
        writeln!(
            common,
            "[[service]]\nname = \"orders\"\nengine = \"postgres\"\ndown_after = \"1s\"\nusername = \"{user}\"\n\
             instances = [{}]",
            instances.join(", ")
        )
        .unwrap();
        let mut nodes = Vec::new();
        for ((name, port), server) in names.zip(&ports).zip(&servers) {
            let text = format!(
                "[node]\ncluster = \"main\"\nname = \"{name}\"\ndata_dir = \"{name}\"\n\
                 [listen]\npeer = \"127.0.0.1:{port}\"\nresp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n{common}\
                 [agent]\nservice = \"orders\"\ninstance = \"{}\"\ndata_dir = \"{}\"\nbin_dir = \"{}\"\n",
                server.instance(),
                server.data_dir().display(),
                server.bin_dir().display()
            );
            let file = folder.path().join(format!("{name}.toml"));
            fs::write(&file, text).unwrap();
            nodes.push(SentinelNode::spawn(&file));
        }
        Self {
            nodes,
            servers,
            _folder: folder,
        }
    }

    /// What HAProxy is told of them: each server, and the node beside it.
    pub(crate) fn behind(&self) -> Vec<Behind> {
        let pairs = self.servers.iter().zip(&self.nodes);
        pairs
            .map(|(server, node)| {
                node.wait_for_log(" ready ");
                Behind {
                    server: address(server),
                    check: node.address("http"),
                }
            })
            .collect()
    }

    fn logs(&self) -> String {
        let logs = self.nodes.iter().zip(1..);
        logs.map(|(node, n)| format!("--- s{n}\n{}\n", node.log()))
            .collect()
    }
}

impl Drop for Guarded {
    #[expect(clippy::print_stderr, reason = "a failed test says what the nodes did")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Where clients reach a server.
pub(crate) fn address(server: &PostgresServer) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port()))
}
