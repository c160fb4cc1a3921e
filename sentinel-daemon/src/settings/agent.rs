//! `[agent]`: a server on this host that the node starts, stops and rebuilds. Its typed form, and what it must relate to.
//!
//! Knows the file alone. Whether the folders and programs are there is the agent's own business at its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sentinel_core::id::{InstanceId, ServiceName};

use super::error::SettingsProblem;
use super::load::Settings;
use super::shape::{AgentShape, FileShape};
use super::values::{DurationText, RunBy};
use crate::engines;

/// How long a server that ended by itself waits for an order before it is started again.
pub(super) const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Until a started server answers.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);
/// How long clients may take to leave by themselves; zero leaves that step out.
pub(super) const SMART_LIMIT: Duration = Duration::ZERO;
/// How long a stop that ends the clients' sessions may take.
pub(super) const FAST_LIMIT: Duration = Duration::from_secs(30);
/// How long a stop without a checkpoint may take.
pub(super) const IMMEDIATE_LIMIT: Duration = Duration::from_secs(5);
/// How long the slot of an instance that nobody names any longer is kept.
pub(super) const SLOTS_KEPT: Duration = Duration::from_secs(600);

/// One server of this host. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEntry {
    /// The service to which it belongs.
    pub service: ServiceName,
    /// Its address, as the service names it.
    pub instance: InstanceId,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// Where its programs are; looked for when absent.
    pub bin_dir: Option<PathBuf>,
    /// Its main settings file, where that is not in the data folder.
    pub config_file: Option<PathBuf>,
    /// How it is started and stopped.
    pub run: RunSettings,
    /// As whom it runs when the node is root; the owner of the data folder when absent.
    pub user: Option<String>,
    /// Where its own output goes when the agent starts it.
    pub log_file: Option<PathBuf>,
    /// See the settings file.
    pub restart_after: Duration,
    /// See the settings file.
    pub limits: StopLimits,
    /// Where what only a deposed primary had is kept; in the node's data folder when absent.
    pub diverged_dir: Option<PathBuf>,
    /// See the settings file.
    pub slots_kept: Duration,
    /// Settings that a server made from nothing gets.
    pub first_settings: BTreeMap<String, String>,
}

/// How a server is started and stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunSettings {
    /// By the agent itself.
    Command,
    /// By the engine's own control program.
    PgCtl,
    /// By Debian's control program.
    PgCtlCluster {
        /// Major version.
        version: String,
        /// Name of the cluster.
        name: String,
    },
    /// By systemd.
    Systemd {
        /// The unit.
        unit: String,
    },
}

/// How long starting and each way of stopping may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopLimits {
    /// Until a started server answers.
    pub start: Duration,
    /// A stop that waits for the clients.
    pub smart: Duration,
    /// A stop that ends their sessions.
    pub fast: Duration,
    /// A stop without a checkpoint.
    pub immediate: Duration,
}

impl RunBy {
    fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::PgCtl => "pg_ctl",
            Self::PgCtlCluster => "pg_ctlcluster",
            Self::Systemd => "systemd",
        }
    }
}

/// A problem, and the path of the key to blame.
type Blamed = (String, SettingsProblem);

/// What the way to run a server needs, and what it has no use for.
pub(super) fn check_shape(shape: &FileShape) -> Result<(), Blamed> {
    for (index, agent) in shape.agent.0.iter().enumerate() {
        check_run(agent).map_err(|(key, problem)| (path(index, key), problem))?;
    }
    Ok(())
}

fn check_run(agent: &AgentShape) -> Result<(), (&'static str, SettingsProblem)> {
    let run_by = agent.run_by.unwrap_or(RunBy::Command);
    let keys = [
        ("cluster", &agent.cluster, RunBy::PgCtlCluster, "15/main"),
        (
            "unit",
            &agent.unit,
            RunBy::Systemd,
            "postgresql@15-main.service",
        ),
    ];
    for (key, value, owner, example) in keys {
        let problem = match (value, run_by == owner) {
            (None, true) => SettingsProblem::AgentLacks {
                run_by: owner.word(),
                key,
                example,
            },
            (Some(_), false) => SettingsProblem::AgentNeedsNot {
                run_by: owner.word(),
                key,
            },
            (None, false) | (Some(_), true) => continue,
        };
        return Err((key, problem));
    }
    match &agent.cluster {
        Some(value) if cluster(value).is_none() => Err((
            "cluster",
            SettingsProblem::AgentCluster {
                value: value.clone(),
            },
        )),
        Some(_) | None => Ok(()),
    }
}

/// `15/main`, as version and name.
fn cluster(text: &str) -> Option<(&str, &str)> {
    let (version, name) = text.split_once('/')?;
    let fits = version.bytes().all(|byte| byte.is_ascii_digit())
        && !version.is_empty()
        && !name.is_empty()
        && !name.contains('/');
    fits.then_some((version, name))
}

fn path(index: usize, key: &str) -> String {
    format!("agent.{index}.{key}")
}

/// The typed form, when the shape was found to be good.
pub(super) fn entry(shape: AgentShape, folder: &Path) -> AgentEntry {
    // Fails only without a current folder, and then nothing relative works anyway.
    let absolute = |path: PathBuf| {
        let joined = folder.join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    };
    let duration = |given: Option<DurationText>, default| given.map_or(default, |text| text.0);
    let run = match (shape.run_by, shape.cluster.as_deref().and_then(cluster)) {
        (Some(RunBy::PgCtl), _) => RunSettings::PgCtl,
        (Some(RunBy::PgCtlCluster), Some((version, name))) => RunSettings::PgCtlCluster {
            version: version.to_owned(),
            name: name.to_owned(),
        },
        (Some(RunBy::Systemd), _) => RunSettings::Systemd {
            unit: shape.unit.unwrap_or_default(),
        },
        (Some(RunBy::Command | RunBy::PgCtlCluster) | None, _) => RunSettings::Command,
    };
    AgentEntry {
        service: ServiceName::new(shape.service.0),
        instance: shape.instance.0,
        data_dir: absolute(shape.data_dir),
        bin_dir: shape.bin_dir.map(absolute),
        config_file: shape.config_file.map(absolute),
        run,
        user: shape.user,
        log_file: shape.log_file.map(absolute),
        restart_after: duration(shape.restart_after, RESTART_AFTER),
        limits: StopLimits {
            start: duration(shape.start_limit, START_LIMIT),
            smart: duration(shape.smart_limit, SMART_LIMIT),
            fast: duration(shape.fast_limit, FAST_LIMIT),
            immediate: duration(shape.immediate_limit, IMMEDIATE_LIMIT),
        },
        diverged_dir: shape.diverged_dir.map(absolute),
        slots_kept: duration(shape.slots_kept, SLOTS_KEPT),
        first_settings: shape.first_settings,
    }
}

/// Whom and what the agents look after.
pub(super) fn check(settings: &Settings) -> Result<(), Blamed> {
    for (index, agent) in settings.agents.iter().enumerate() {
        let others = &settings.agents[..index];
        let problem = (check_subject(settings, agent))
            .and_then(|()| check_alone(agent, others))
            .and_then(|()| check_folders(settings, agent));
        problem.map_err(|(key, problem)| (path(index, key), problem))?;
    }
    Ok(())
}

fn check_subject(
    settings: &Settings,
    agent: &AgentEntry,
) -> Result<(), (&'static str, SettingsProblem)> {
    let service = agent.service.to_string();
    let found = (settings.services.iter()).find(|other| other.settings.name == agent.service);
    let Some(found) = found else {
        return Err(("service", SettingsProblem::AgentOfNoService { service }));
    };
    if !engines::has_agents(&found.settings.engine) {
        let engine = found.settings.engine.to_string();
        return Err((
            "service",
            SettingsProblem::AgentOfEngine { service, engine },
        ));
    }
    let seeds = &found.settings.seeds;
    if !seeds.contains(&agent.instance) {
        let known: Vec<String> = seeds.iter().map(ToString::to_string).collect();
        let problem = SettingsProblem::AgentOfNoInstance {
            instance: agent.instance.to_string(),
            service,
            known: known.join(", "),
        };
        return Err(("instance", problem));
    }
    Ok(())
}

fn check_alone(
    agent: &AgentEntry,
    others: &[AgentEntry],
) -> Result<(), (&'static str, SettingsProblem)> {
    let twice = |key, value| Err((key, SettingsProblem::TwoAgents { key, value }));
    for other in others {
        if other.instance == agent.instance {
            return twice("instance", agent.instance.to_string());
        }
        if other.data_dir == agent.data_dir {
            return twice("data_dir", agent.data_dir.display().to_string());
        }
    }
    Ok(())
}

fn check_folders(
    settings: &Settings,
    agent: &AgentEntry,
) -> Result<(), (&'static str, SettingsProblem)> {
    let own = std::path::absolute(&settings.data_dir).unwrap_or(settings.data_dir.clone());
    let folders = [
        ("node.data_dir", "data_dir", Some(&own)),
        (
            "agent.diverged_dir",
            "diverged_dir",
            agent.diverged_dir.as_ref(),
        ),
        ("agent.log_file", "log_file", agent.log_file.as_ref()),
    ];
    for (key, blamed, path) in folders {
        if let Some(path) = path.filter(|path| path.starts_with(&agent.data_dir)) {
            let problem = SettingsProblem::InsideDataFolder {
                key,
                path: path.display().to_string(),
                folder: agent.data_dir.display().to_string(),
            };
            return Err((blamed, problem));
        }
    }
    Ok(())
}
