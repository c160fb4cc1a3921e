//! `sentinel check --config FILE`: reads the settings and every file that they name, and says what they mean.
//!
//! Starts nothing and binds nothing. A node that runs with the file already is asked how it differs from what is committed (`drift.rs`); with `--connect` also looks at the instances (`connect.rs`). The data folder is looked at, not opened: a running node holds it.

use std::path::Path;

use sentinel_core::config::NodeRole;
use sentinel_core::quorum;
use serde::Serialize;

use super::age::counted;
use super::args::Format;
use super::connect::{self, Findings, Seen};
use super::failure::Failure;
use super::{ask, drift, leader};
use crate::api::StatusJson;
use crate::client::ClientError;
use crate::exit::ExitCode;
use crate::output;
use crate::settings::{AgentEntry, GuardedService, PasswordSource, RunSettings, Settings};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    cluster: String,
    node: String,
    role: NodeRole,
    voters: usize,
    majority: usize,
    services: Vec<String>,
    /// Looked at with `--connect` only.
    instances: Vec<Seen>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// How far the check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The settings and the files that they name.
    Files,
    /// The instances of every service too.
    Instances,
}

pub(super) fn run(file: &Path, scope: Scope, format: Format) -> Result<ExitCode, Failure> {
    let settings = Settings::load(file)?;
    let secrets = settings.secrets()?;
    let mut warnings = settings.warnings.clone();
    warnings.extend(data_folder(&settings.data_dir)?);
    warnings.extend(committed(&settings));
    let findings = match scope {
        Scope::Files => Findings::default(),
        Scope::Instances => connect::look(&settings, &secrets).map_err(|error| {
            Failure::new(
                ExitCode::Failed,
                format!("cannot look at the instances: {error}"),
                "is there a limit on open files or threads?",
            )
        })?,
    };
    warnings.extend(findings.warnings);
    match format {
        Format::Text => {
            let seen = match scope {
                Scope::Files => Vec::new(),
                Scope::Instances => connect::lines(&findings.seen),
            };
            let lines = lines(&settings).into_iter().chain(seen);
            lines.for_each(|line| output::result(&line));
        }
        Format::Json => output::json(&Report {
            errors: findings.errors.clone(),
            warnings: warnings.clone(),
            instances: findings.seen,
            ..report(&settings)
        }),
    }
    for error in &findings.errors {
        output::note(&format!("error: {error}"));
    }
    for (index, warning) in warnings.iter().enumerate() {
        output::note(&format!("warning {}: {warning}", index + 1));
    }
    if findings.errors.is_empty() {
        return Ok(ExitCode::Done);
    }
    output::note(
        "hint: a node started with these settings runs, and cannot guard what is named above",
    );
    Ok(ExitCode::Failed)
}

/// Refuses a data folder into which nothing can be written; warns of one that is not there yet.
fn data_folder(folder: &Path) -> Result<Option<String>, Failure> {
    if !folder.exists() {
        return Ok(Some(format!(
            "`data_dir` {} does not exist yet; `sentinel run` makes it",
            folder.display()
        )));
    }
    match tempfile::tempfile_in(folder) {
        Ok(_removed_when_dropped) => Ok(None),
        Err(error) => Err(Failure::new(
            ExitCode::Usage,
            format!(
                "`data_dir` {}: nothing can be written into it: {error}",
                folder.display()
            ),
            "make it a folder that the user of `sentinel run` owns",
        )),
    }
}

/// Differences from what the running node of this file knows as committed; none when no node can be asked.
fn committed(settings: &Settings) -> Vec<String> {
    let Ok(client) = ask::client_of(None, Some(settings)) else {
        return Vec::new();
    };
    let compare = || -> Result<Vec<String>, ClientError> {
        let status: StatusJson = client.get("/v1/status")?;
        let services = leader::services(&client, None)?;
        Ok(drift::warnings(settings, None, &status, &services))
    };
    compare().unwrap_or_default()
}

fn report(settings: &Settings) -> Report {
    let voters = settings.voters.len();
    Report {
        file: settings.file.display().to_string(),
        cluster: settings.node.cluster.to_string(),
        node: settings.node.name.to_string(),
        role: settings.node.role,
        voters,
        majority: quorum::majority(voters),
        services: settings
            .services
            .iter()
            .map(|service| service.settings.name.to_string())
            .collect(),
        instances: Vec::new(),
        errors: Vec::new(),
        warnings: Vec::new(),
    }
}

fn lines(settings: &Settings) -> Vec<String> {
    let node = &settings.node;
    let voters = settings.voters.len();
    let role = match node.role {
        NodeRole::Voter => "voter",
        NodeRole::Observer => "observer",
    };
    let mut lines = vec![
        format!("{}: usable", settings.file.display()),
        format!(
            "  cluster {}, node {} ({role}); {}, {} decide, {} may fail",
            node.cluster,
            node.name,
            counted(voters, "voter"),
            quorum::majority(voters),
            quorum::failures_tolerated(voters)
        ),
        format!(
            "  peers on {}, Sentinel protocol on {}, HTTP on {}",
            settings.listen.peer, settings.listen.resp, settings.listen.http
        ),
        format!("  data in {}", settings.data_dir.display()),
        match &settings.security.cluster_key_file {
            Some(file) => format!("  peers prove the key in {}", file.display()),
            None => "  peers prove no key, so they are on this machine".to_owned(),
        },
    ];
    lines.extend(settings.services.iter().map(service_line));
    lines.extend(settings.agents.iter().map(agent_line));
    lines
}

fn agent_line(agent: &AgentEntry) -> String {
    let run = match &agent.run {
        RunSettings::Command => "run by the agent".to_owned(),
        RunSettings::PgCtl => "run by pg_ctl".to_owned(),
        RunSettings::PgCtlCluster { version, name } => {
            format!("run by pg_ctlcluster as {version}/{name}")
        }
        RunSettings::Systemd { unit } => format!("run by systemd as {unit}"),
    };
    format!(
        "  agent of {} of {}: data in {}, {run}",
        agent.instance,
        agent.service,
        agent.data_dir.display()
    )
}

fn service_line(service: &GuardedService) -> String {
    let settings = &service.settings;
    let seeds: Vec<String> = settings.seeds.iter().map(ToString::to_string).collect();
    let login = match (&service.username, &service.password) {
        (None, None) => "no password".to_owned(),
        (Some(user), None) => format!("{user}, no password"),
        (user, Some(source)) => {
            let user = user.as_deref().unwrap_or("the default user");
            match source {
                PasswordSource::File(file) => format!("{user}, password in {}", file.display()),
                PasswordSource::Environment(variable) => {
                    format!("{user}, password in ${variable}")
                }
                PasswordSource::Literal(_) => format!("{user}, password in the settings"),
            }
        }
    };
    format!(
        "  service {} ({}) at {}: a write needs {} of its replicas; down after {} of silence; {login}",
        settings.name,
        settings.engine,
        seeds.join(", "),
        settings.min_replicas,
        humantime::format_duration(settings.down_after),
    )
}
