//! What can be wrong with a settings file, one variant each, and how it is said: file, line, field, remedy.
//!
//! Turns the parser's errors into ours. Nothing was started and no port was bound when one of these is returned.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use sentinel_core::config::SettingsError;
use sentinel_core::runtime::transport::KeyError;

use super::place::{Line, Places};
use super::secret::SecretError;

/// A settings file that cannot be used.
#[derive(Debug)]
pub struct SettingsFailure {
    /// The file as the user named it.
    pub file: PathBuf,
    /// The offending line, where there is one.
    pub line: Option<Line>,
    /// What is wrong.
    pub problem: Box<SettingsProblem>,
}

impl fmt::Display for SettingsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = &self.line {
            write!(f, ":{}", line.number)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for SettingsFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// What is wrong; each text ends with what to do.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what its fields are"
)]
pub enum SettingsProblem {
    /// The file cannot be read; the user named a wrong one, or lacks the right.
    #[error("cannot read the settings: {source}: give an existing file with --config")]
    Unreadable { source: io::Error },
    /// The text is no TOML.
    #[error("not valid TOML: {message}: correct the line")]
    NotToml { message: String },
    /// A key that no version of this table has.
    #[error("unknown key `{key}` in {table}: {}", suggestion(nearest.as_deref()))]
    UnknownKey {
        key: String,
        table: String,
        nearest: Option<String>,
    },
    /// A key without a default is absent.
    #[error("`{key}` is missing in {table}: add it")]
    MissingKey { key: String, table: String },
    /// A value of the wrong type or form.
    #[error("`{field}`: {message}")]
    BadValue { field: String, message: String },
    /// The core refuses a relation.
    #[error(transparent)]
    Unworkable(#[from] SettingsError),
    /// Two services of one name.
    #[error("service `{name}` is defined twice, first in line {first}: rename one of them")]
    DuplicateService { name: String, first: usize },
    /// One instance in two services: their failovers would fight over it.
    #[error(
        "`instances` of service `{service}` names {instance}, which service `{other}` names too: take it off one of them"
    )]
    DuplicateInstance {
        instance: String,
        service: String,
        other: String,
    },
    /// Two voters at one address.
    #[error("`voters` gives `{first}` and `{second}` the same address {address}: correct one")]
    DuplicateVoter {
        first: String,
        second: String,
        address: String,
    },
    /// Two endpoints of this node at one port.
    #[error("`listen.{second}` is {address}, the same port as `listen.{first}`: use another port")]
    DuplicatePort {
        first: &'static str,
        second: &'static str,
        address: SocketAddr,
    },
    /// Peers could connect without proving anything.
    #[error(
        "`listen.peer` is {address}, and without a cluster key only loopback is allowed: set security.cluster_key_file, or listen on 127.0.0.1"
    )]
    OpenPeerPort { address: SocketAddr },
    /// No adapter has this name.
    #[error(
        "`engine` of service `{service}` is `{engine}`, which this build does not know: use {known}"
    )]
    UnknownEngine {
        service: String,
        engine: String,
        known: String,
    },
    /// Planned, and not there yet.
    #[error(
        "`durability` of service `{service}` is \"async\", which this version does not have yet: use \"quorum\""
    )]
    AsyncDurability { service: String },
    /// Two sources of one password.
    #[error("service `{service}` has both `{first}` and `{second}`: keep one of them")]
    TwoPasswords {
        service: String,
        first: &'static str,
        second: &'static str,
    },
    /// A key that the service's engine has no use for.
    #[error(
        "`{key}` of service `{service}` means nothing to engine `{engine}`, which {why}: take it out"
    )]
    NotOfEngine {
        key: &'static str,
        service: String,
        engine: String,
        why: &'static str,
    },
    /// The engine cuts off names that are longer.
    #[error(
        "`instances` of service `{service}` names {instance}, which has {length} bytes, and engine `{engine}` cuts a replica's name off after {length_max}: use a shorter host name, or its IP address"
    )]
    LongInstance {
        instance: String,
        service: String,
        engine: String,
        length: usize,
        length_max: usize,
    },
    /// A password without the name that it belongs to.
    #[error(
        "`{key}` of service `{service}` stands without replication_username, and replicas then log in as the coordinator does: add replication_username, or take it out"
    )]
    PasswordWithoutName { key: &'static str, service: String },
    /// The agent's service is not in the file.
    #[error(
        "`agent.service` is `{service}`, and no [[service]] has that name: add it, or correct the name"
    )]
    AgentOfNoService { service: String },
    /// The engine has no agent.
    #[error(
        "`agent.service` is `{service}`, whose engine `{engine}` has no agent: take the agent out; this engine needs none"
    )]
    AgentOfEngine { service: String, engine: String },
    /// The agent's instance is not one of the service's.
    #[error(
        "`agent.instance` is {instance}, which `instances` of service `{service}` does not name: use one of {known}"
    )]
    AgentOfNoInstance {
        instance: String,
        service: String,
        known: String,
    },
    /// Two agents would fight over one server.
    #[error("two agents have the same `{key}`, {value}: take one of them out")]
    TwoAgents { key: &'static str, value: String },
    /// A way to run the server, without what it needs.
    #[error(
        "`agent.run_by` is \"{run_by}\", and `agent.{key}` is missing: add it, for example {key} = \"{example}\""
    )]
    AgentLacks {
        run_by: &'static str,
        key: &'static str,
        example: &'static str,
    },
    /// A key that the way to run the server has no use for.
    #[error("`agent.{key}` belongs to run_by = \"{run_by}\": set that, or take it out")]
    AgentNeedsNot {
        run_by: &'static str,
        key: &'static str,
    },
    /// Of Debian's two words for a server.
    #[error(
        "`agent.cluster` is `{value}`: write version and name as pg_lsclusters shows them, for example 15/main"
    )]
    AgentCluster { value: String },
    /// What a rebuild replaces, it would destroy.
    #[error(
        "`{key}` is {path}, inside the server's data folder {folder}, which a rebuild replaces: put it elsewhere"
    )]
    InsideDataFolder {
        key: &'static str,
        path: String,
        folder: String,
    },
    /// A duration that would never pass, or pass at once.
    #[error("`{field}` is {value}: {remedy}")]
    Duration {
        field: String,
        value: String,
        remedy: &'static str,
    },
    /// There is no usable cluster key.
    #[error("`cluster_key_file`: {source}")]
    Key { source: KeyError },
    /// A secret cannot be had.
    #[error("`{field}`: {source}")]
    Secret { field: String, source: SecretError },
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "take it out; docs/configuration.md lists every key".to_owned(),
    }
}

/// Least similarity at which another key is suggested.
const SIMILARITY_MIN: f64 = 0.7;

/// Says in our words what the parser refused.
pub(super) fn from_toml(
    error: &toml::de::Error,
    places: &Places,
) -> (Option<Line>, SettingsProblem) {
    let message = error.message();
    let span = error.span();
    let line = span.as_ref().map(|span| places.line_at(span.start));
    let path = span.as_ref().and_then(|span| places.path_at(span));
    let named: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let problem = if places.is_empty() {
        SettingsProblem::NotToml {
            message: message.lines().collect::<Vec<_>>().join(", "),
        }
    } else if let (true, Some((key, known))) =
        (message.starts_with("unknown field"), named.split_first())
    {
        SettingsProblem::UnknownKey {
            key: (*key).to_owned(),
            table: table_name(
                path.and_then(|path| path.rsplit_once('.'))
                    .map(|(table, _)| table),
            ),
            nearest: nearest(key, known),
        }
    } else if let (true, Some(key)) = (message.starts_with("missing field"), named.first()) {
        SettingsProblem::MissingKey {
            key: (*key).to_owned(),
            table: table_name(path),
        }
    } else {
        SettingsProblem::BadValue {
            field: field_name(path.unwrap_or("file")),
            message: message.to_owned(),
        }
    };
    (line, problem)
}

fn nearest(key: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(key, known), *known))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

/// `service.0` is written `[[service]]` in the file, `node` is `[node]`.
fn table_name(path: Option<&str>) -> String {
    match path {
        None => "the top level".to_owned(),
        Some(path) => match path.split_once('.') {
            Some((table, index)) if is_index(index) => format!("[[{table}]]"),
            Some(_) | None => format!("[{path}]"),
        },
    }
}

/// `service.0.instances.1` is the field `instances`, `agent.0.unit` is `agent.unit`, `node.name` is `node.name`.
fn field_name(path: &str) -> String {
    let words: Vec<&str> = path.split('.').filter(|word| !is_index(word)).collect();
    match words[..] {
        ["service", ref rest @ ..] if !rest.is_empty() => rest.join("."),
        ref all => all.join("."),
    }
}

fn is_index(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}
