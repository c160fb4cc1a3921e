//! Turns a settings file into [`Settings`]: typed, with defaults filled in, relations checked.
//!
//! Reads the file, and none of those that it names. Binds nothing and connects to nothing.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sentinel_core::config::{NodeRole, NodeSettings, Timing};
use sentinel_core::id::{ClusterName, InstanceId, NodeName};
use sentinel_core::planted::Bugs;

use super::agent::{self, AgentEntry};
use super::error::{SettingsFailure, SettingsProblem, from_toml};
use super::place::Places;
use super::relations;
use super::service::{self, GuardedService};
use super::shape::{FileShape, ListenShape, NodeShape, TimingShape};
use super::values::{DurationText, InstanceText, ListenText};
use crate::source::StaleAnswers;

/// Where peers connect unless the file says otherwise.
pub(super) const PEER_DEFAULT: &str = "127.0.0.1:26380";
/// Where clients of the Sentinel protocol connect unless the file says otherwise.
pub(super) const RESP_DEFAULT: &str = "127.0.0.1:26379";
/// Where HTTP is answered unless the file says otherwise.
pub(super) const HTTP_DEFAULT: &str = "127.0.0.1:26381";

/// Everything that a node's settings file says.
#[derive(Debug)]
pub struct Settings {
    /// The file itself, as the user named it.
    pub file: PathBuf,
    /// What the core needs. Its seed is 0 until `run` draws one.
    pub node: NodeSettings,
    /// Where the node keeps what it must not forget.
    pub data_dir: PathBuf,
    /// What it answers when it has lost the leader.
    pub stale_answers: StaleAnswers,
    /// Where it listens.
    pub listen: Listen,
    /// Where clients reach it, when that differs from where it listens.
    pub announce: Announce,
    /// Every voter's peer address.
    pub voters: BTreeMap<NodeName, InstanceId>,
    /// Files that hold keys and passwords.
    pub security: Security,
    /// The services that seed an empty data folder.
    pub services: Vec<GuardedService>,
    /// Servers of this host that the node is the agent of.
    pub agents: Vec<AgentEntry>,
    /// What works, and is probably not meant.
    pub warnings: Vec<String>,
    pub(super) places: Places,
}

/// Addresses to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For the other nodes.
    pub peer: SocketAddr,
    /// For clients of the Sentinel protocol.
    pub resp: SocketAddr,
    /// For HTTP.
    pub http: SocketAddr,
}

/// Addresses to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Of the Sentinel protocol.
    pub resp: Option<InstanceId>,
    /// Of HTTP.
    pub http: Option<InstanceId>,
}

/// Files that hold what a peer or client must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// The key that peers prove to each other.
    pub cluster_key_file: Option<PathBuf>,
    /// The password that clients of the Sentinel protocol give.
    pub resp_password_file: Option<PathBuf>,
    /// What whoever changes something over HTTP gives; without it nobody can.
    pub admin_token_file: Option<PathBuf>,
}

impl Settings {
    /// Reads a settings file and checks every relation in it.
    pub fn load(file: &Path) -> Result<Self, SettingsFailure> {
        let text = fs::read_to_string(file).map_err(|source| SettingsFailure {
            file: file.to_owned(),
            line: None,
            problem: Box::new(SettingsProblem::Unreadable { source }),
        })?;
        Self::parse(file, &text)
    }

    /// The same of a text; `file` is what errors name, and the folder of relative paths.
    pub fn parse(file: &Path, text: &str) -> Result<Self, SettingsFailure> {
        let places = Places::new(text);
        let failure = |(line, problem)| SettingsFailure {
            file: file.to_owned(),
            line,
            problem: Box::new(problem),
        };
        let shape: FileShape =
            toml::from_str(text).map_err(|error| failure(from_toml(&error, &places)))?;
        relations::check_shape(&shape, &places)
            .map_err(|(path, problem)| failure((places.line_of(&path), problem)))?;
        let mut settings = assemble(file, shape, places);
        relations::check(&settings).map_err(|(path, problem)| settings.failure(&path, problem))?;
        settings.warnings = relations::warnings(&settings);
        Ok(settings)
    }

    /// A problem at the line where `path` stands.
    pub fn failure(&self, path: &str, problem: SettingsProblem) -> SettingsFailure {
        SettingsFailure {
            file: self.file.clone(),
            line: self.places.line_of(path),
            problem: Box::new(problem),
        }
    }
}

fn assemble(file: &Path, shape: FileShape, places: Places) -> Settings {
    let folder = file.parent().unwrap_or(Path::new(""));
    let voters: BTreeMap<NodeName, InstanceId> = shape
        .voters
        .into_iter()
        .map(|(name, address)| (NodeName::new(name.0), address.0))
        .collect();
    let agents: Vec<AgentEntry> = (shape.agent.0.into_iter())
        .map(|agent| agent::entry(agent, folder))
        .collect();
    let node = NodeSettings {
        cluster: ClusterName::new(shape.node.cluster.0.as_str()),
        agent_of: agents
            .iter()
            .map(|agent| (agent.service.clone(), agent.instance.clone()))
            .collect(),
        name: NodeName::new(shape.node.name.0.as_str()),
        role: shape.node.role.unwrap_or(NodeRole::Voter),
        voters: voters.keys().cloned().collect(),
        seed: 0,
        timing: timing(&shape.node, &shape.timing),
        bugs: Bugs::none(),
    };
    Settings {
        file: file.to_owned(),
        node,
        data_dir: folder.join(shape.node.data_dir),
        stale_answers: shape.node.stale_answers.unwrap_or(StaleAnswers::Serve),
        listen: listen(&shape.listen),
        announce: Announce {
            resp: shape
                .node
                .announce_resp
                .map(|InstanceText(address)| address),
            http: shape
                .node
                .announce_http
                .map(|InstanceText(address)| address),
        },
        voters,
        security: Security {
            cluster_key_file: shape
                .security
                .cluster_key_file
                .map(|path| folder.join(path)),
            resp_password_file: shape
                .security
                .resp_password_file
                .map(|path| folder.join(path)),
            admin_token_file: shape
                .security
                .admin_token_file
                .map(|path| folder.join(path)),
        },
        services: shape
            .service
            .into_iter()
            .map(|service| service::guarded(service, folder))
            .collect(),
        agents,
        warnings: Vec::new(),
        places,
    }
}

/// Where HTTP is answered unless the file says otherwise.
pub fn http_default() -> SocketAddr {
    listen(&ListenShape::default()).http
}

fn listen(shape: &ListenShape) -> Listen {
    let address = |given: &Option<ListenText>, default: &str| match given {
        Some(ListenText(address)) => *address,
        None => default
            .parse()
            .expect("the defaults are addresses, as a test shows"),
    };
    Listen {
        peer: address(&shape.peer, PEER_DEFAULT),
        resp: address(&shape.resp, RESP_DEFAULT),
        http: address(&shape.http, HTTP_DEFAULT),
    }
}

fn timing(node: &NodeShape, shape: &TimingShape) -> Timing {
    let default = Timing::default();
    let duration = |given: Option<DurationText>, default| given.map_or(default, |text| text.0);
    Timing {
        raft_tick: duration(shape.raft_tick, default.raft_tick),
        heartbeat_ticks: shape.heartbeat_ticks.unwrap_or(default.heartbeat_ticks),
        election_ticks_min: shape
            .election_ticks_min
            .unwrap_or(default.election_ticks_min),
        election_ticks_max: shape
            .election_ticks_max
            .unwrap_or(default.election_ticks_max),
        contact_fresh: duration(shape.contact_fresh, default.contact_fresh),
        stale_after: duration(node.stale_after, default.stale_after),
        pause_after: duration(shape.pause_after, default.pause_after),
    }
}
