//! Starts and stops the server of the data folder, each within its limits, and notices its end at once.
//!
//! A stop goes from the gentle way to the rough one. A server that was running before the agent is adopted as it is. The
//! agent's own end never ends a server: it has its own session and writes to a file. Decides nothing about roles.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::account::Account;
use super::postmaster::{self, Found, Postmaster};
use super::postmaster_file::Readiness;
use super::programs::{ProgramError, Programs};
use super::remnants::{self, Remains};
use super::settings::{AgentSettings, How};
use super::visitors::Visitors;

/// A server that runs, and the news of its end.
#[derive(Clone, Debug)]
pub(super) struct Running {
    postmaster: Postmaster,
    /// How it ended, if it was our child.
    status: Option<watch::Receiver<Option<String>>>,
}

impl Running {
    pub(super) fn pid(&self) -> i32 {
        self.postmaster.pid()
    }

    pub(super) fn is_alive(&self) -> bool {
        self.postmaster.is_alive()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.postmaster.signal(signal)
    }

    /// Waits for its end and says how it was.
    pub(super) async fn ended(&self) -> String {
        self.postmaster.ended().await;
        if let Some(status) = &self.status
            && let Ok(status) = status.clone().wait_for(Option::is_some).await
            && let Some(status) = &*status
        {
            return status.clone();
        }
        "it ended, and only its parent knows how".to_owned()
    }
}

/// How far a started server got within the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It answers queries: a consistent standby, or a primary that takes writes.
    Answering,
    /// It is still recovering, and goes on.
    Starting,
}

/// Why a server was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The process of `postmaster.pid` cannot be looked at, so a second server could be started over it.
    #[error("{0}")]
    Unclear(String),
    /// An earlier life still writes into the folder.
    #[error(transparent)]
    Remains(#[from] Remains),
    /// The program that starts it failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The server ended while it started.
    #[error("the server ended while it started ({status}): {log}")]
    Exited { status: String, log: String },
    /// Nobody wrote a `postmaster.pid` within the limit.
    #[error("no server appeared within {0:?}; look at its log and at its unit")]
    Absent(Duration),
    /// The server's log cannot be written.
    #[error("the server's log `{}` cannot be opened: {source}; make it writable for the agent", .path.display())]
    Log { path: PathBuf, source: io::Error },
}

/// A server that cannot be stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum StopError {
    /// Not even a kill ended it.
    #[error("process {0} did not end, not even killed; the disk may hang")]
    Immortal(i32),
    /// What it left behind does not end.
    #[error(transparent)]
    Remains(#[from] Remains),
    /// It cannot be seen whether one runs.
    #[error("{0}")]
    Unclear(String),
}

/// The gentlest way in which a stop begins. Each goes on to the rougher ones at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopMode {
    Smart,
    Fast,
    Immediate,
}

const POLL: Duration = Duration::from_millis(10);
/// A killed process ends at once unless the disk hangs.
const KILLED: Duration = Duration::from_secs(10);
/// What of the log is looked at for the cause of a failed start.
const LOG_LINES: usize = 3;

/// The server of this folder that runs already, if one does.
pub(super) fn adopt(settings: &AgentSettings) -> Result<Option<Running>, String> {
    match postmaster::find(&settings.data_dir) {
        Found::Running(postmaster, _) => Ok(Some(Running {
            postmaster,
            status: None,
        })),
        Found::Nobody => Ok(None),
        Found::Unclear(text) => Err(text),
    }
}

/// Starts the server and waits until it answers. Broken off, it leaves a server that can be seen.
pub(super) async fn start(
    settings: &AgentSettings,
    programs: &Programs,
) -> Result<(Running, Reached), StartError> {
    let log_end = fs::metadata(settings.log_path()).map_or(0, |log| log.len());
    let launched = tokio::spawn(launch_one(settings.clone(), programs.clone()));
    let reached = match launched.await {
        Ok(Ok(running)) => await_answer(settings, running).await,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(StartError::Unclear(error.to_string())),
    };
    match reached {
        Err(StartError::Exited { status, .. }) => {
            let log = end_of_log(settings, log_end);
            Err(StartError::Exited { status, log })
        }
        other => other,
    }
}

/// Launches a server, unless one runs, and waits until it can be identified. Nobody else launches or stops it meanwhile: a
/// stop between the look and the launch would find nobody, and a job would work on a folder in which a server is about to
/// start.
async fn launch_one(settings: AgentSettings, programs: Programs) -> Result<Running, StartError> {
    let _launching = programs.launching.lock().await;
    if let Some(running) = adopt(&settings).map_err(StartError::Unclear)? {
        return Ok(running);
    }
    remnants::clear(&settings.data_dir).await?;
    let status = match &settings.how {
        How::Command => Some(launch_child(&settings, &programs)?),
        How::PgCtl | How::PgCtlCluster { .. } | How::Systemd { .. } => {
            launch(&settings, &programs).await?;
            None
        }
    };
    let until = Instant::now() + settings.limits.start;
    loop {
        if let Some(mut running) = adopt(&settings).map_err(StartError::Unclear)? {
            running.status = status;
            return Ok(running);
        }
        let exited = status.as_ref().and_then(|status| status.borrow().clone());
        if let Some(status) = exited {
            let log = String::new();
            return Err(StartError::Exited { status, log });
        }
        if Instant::now() >= until {
            return Err(StartError::Absent(settings.limits.start));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn launch_child(
    settings: &AgentSettings,
    programs: &Programs,
) -> Result<watch::Receiver<Option<String>>, StartError> {
    let mut command = programs.lasting_command("postgres");
    command.arg("-D").arg(&settings.data_dir);
    command.args(settings_file(settings));
    let child = with_log(settings, programs, &mut command)?
        .spawn()
        .map_err(|source| ProgramError::Start {
            name: "postgres",
            source,
        })?;
    let (ended, status) = watch::channel(None);
    tokio::spawn(reap(child, ended));
    Ok(status)
}

async fn reap(mut child: Child, ended: watch::Sender<Option<String>>) {
    let text = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    ended.send_replace(Some(text));
}

async fn launch(settings: &AgentSettings, programs: &Programs) -> Result<(), StartError> {
    let limit = settings.limits.start;
    match &settings.how {
        How::PgCtl => {
            let mut command = programs.lasting_command("pg_ctl");
            command
                .args(["start", "-W", "-s", "-D"])
                .arg(&settings.data_dir);
            if let Some(path) = &settings.config_file {
                command.arg("-o");
                command.arg(format!("-c config_file={}", path.display()));
            }
            // The server inherits the output: a pipe of ours would break with us.
            let child = with_log(settings, programs, &mut command)?.status();
            wait_for("pg_ctl", child, limit).await
        }
        How::PgCtlCluster { version, name } => {
            let mut command = Programs::of_host("pg_ctlcluster");
            command.args(["--skip-systemctl-redirect", version, name, "start"]);
            let child = with_log(settings, programs, &mut command)?.status();
            wait_for("pg_ctlcluster", child, limit).await
        }
        How::Systemd { unit } => {
            let mut command = Programs::of_host("systemctl");
            command.args(["start", "--no-block", unit]);
            let name = "systemctl";
            programs.run(name, command, limit).await?;
            Ok(())
        }
        How::Command => Ok(()),
    }
}

async fn wait_for(
    name: &'static str,
    child: impl Future<Output = io::Result<std::process::ExitStatus>>,
    limit: Duration,
) -> Result<(), StartError> {
    match tokio::time::timeout(limit, child).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => {
            let text = "see the server's log".to_owned();
            Err(ProgramError::Failed { name, status, text }.into())
        }
        Ok(Err(source)) => Err(ProgramError::Start { name, source }.into()),
        Err(_) => Err(ProgramError::TooLong { name, limit }.into()),
    }
}

fn settings_file(settings: &AgentSettings) -> Vec<String> {
    match &settings.config_file {
        Some(path) => vec!["-c".into(), format!("config_file={}", path.display())],
        None => Vec::new(),
    }
}

fn with_log<'a>(
    settings: &AgentSettings,
    programs: &Programs,
    command: &'a mut Command,
) -> Result<&'a mut Command, StartError> {
    let path = settings.log_path();
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    let both = opened.and_then(|log| {
        Account::give(programs.account, &path)?;
        Ok((log.try_clone()?, log))
    });
    let (out, err) = both.map_err(|source| StartError::Log { path, source })?;
    Ok(command.stdout(Stdio::from(out)).stderr(Stdio::from(err)))
}

async fn await_answer(
    settings: &AgentSettings,
    running: Running,
) -> Result<(Running, Reached), StartError> {
    let until = Instant::now() + settings.limits.start;
    loop {
        if !running.is_alive() {
            let (status, log) = (running.ended().await, String::new());
            return Err(StartError::Exited { status, log });
        }
        let readiness = match postmaster::find(&settings.data_dir) {
            Found::Running(_, file) => file.readiness,
            Found::Nobody | Found::Unclear(_) => None,
        };
        match readiness {
            Some(Readiness::Ready | Readiness::Standby) => {
                return Ok((running, Reached::Answering));
            }
            Some(Readiness::Starting | Readiness::Stopping) | None => {}
        }
        if Instant::now() >= until {
            return Ok((running, Reached::Starting));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The lines that the server wrote last, as far as they name a cause.
fn end_of_log(settings: &AgentSettings, from: u64) -> String {
    let bytes = fs::read(settings.log_path()).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]);
    let telling = |line: &&str| {
        ["FATAL", "PANIC", "ERROR", "DETAIL", "HINT"]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines: Vec<_> = text.lines().filter(telling).collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    match lines.is_empty() {
        true => format!("see {}", settings.log_path().display()),
        false => lines[first..].join("; "),
    }
}

/// Stops the server of this folder, if one runs, beginning with the given mode. When this returns, no process of it is
/// left.
pub(super) async fn stop(
    settings: &AgentSettings,
    programs: &Programs,
    begin: StopMode,
) -> Result<(), StopError> {
    let _launching = programs.launching.lock().await;
    let Some(running) = adopt(settings).map_err(StopError::Unclear)? else {
        remnants::clear(&settings.data_dir).await?;
        return Ok(());
    };
    let limits = settings.limits;
    let mut service_told = false;
    for (mode, signal, limit) in [
        (StopMode::Smart, Signal::TERM, limits.smart),
        (StopMode::Fast, Signal::INT, limits.fast),
        (StopMode::Immediate, Signal::QUIT, limits.immediate),
        (StopMode::Immediate, Signal::KILL, KILLED),
    ] {
        if mode < begin || limit.is_zero() {
            continue;
        }
        let visitors = match mode {
            StopMode::Smart => Visitors::enter(settings).await,
            StopMode::Fast | StopMode::Immediate => {
                if !service_told {
                    tell_service(settings).await;
                    service_told = true;
                }
                None
            }
        };
        if let Err(error) = running.signal(signal) {
            return Err(StopError::Unclear(format!(
                "process {} cannot be signalled: {error}; run the agent as root or as the server's user",
                running.pid()
            )));
        }
        let ended = async {
            if let Some(visitors) = visitors {
                visitors.leave().await;
            }
            running.ended().await
        };
        if tokio::time::timeout(limit, ended).await.is_ok() {
            remnants::clear(&settings.data_dir).await?;
            return Ok(());
        }
        tracing::warn!(
            pid = running.pid(),
            ?mode,
            ?limit,
            "the server did not stop in time"
        );
    }
    Err(StopError::Immortal(running.pid()))
}

/// A unit whose server is ended roughly without its service manager's knowledge counts as failed. A smart stop is not told:
/// the unit's own stop is a fast one, and a server that ends by itself counts as well ended. The stop itself goes by
/// signals, which have limits of ours.
async fn tell_service(settings: &AgentSettings) {
    if let How::Systemd { unit } = &settings.how {
        let mut command = Programs::of_host("systemctl");
        let told = command.args(["stop", "--no-block", unit]).status().await;
        if !told.is_ok_and(|status| status.success()) {
            tracing::warn!(unit, "systemd was not told of the stop");
        }
    }
}
