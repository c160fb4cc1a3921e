//! A real `sentinel run` process with its settings and data in one folder.
//!
//! Starts it, waits until it is ready, reads its log, stops it in good order, and kills it when dropped. Knows nothing
//! of clusters: each node's settings are the caller's.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{binary, wait};

/// A running node. Dropping it kills the process; the folder is the caller's.
#[derive(Debug)]
pub struct SentinelNode {
    process: Child,
    log: PathBuf,
}

impl SentinelNode {
    /// Starts a node with this settings file, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(settings: &Path) -> Self {
        Self::try_start(settings).unwrap_or_else(|log| panic!("the node ended:\n{log}"))
    }

    /// The same for a caller who can do something about a node that ends.
    ///
    /// # Errors
    /// The log of a node that ended before it was ready.
    ///
    /// # Panics
    /// When it neither becomes ready nor ends.
    pub fn try_start(settings: &Path) -> Result<Self, String> {
        Self::spawn(settings).ready()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// The log of a node that ended before it was ready.
    ///
    /// # Panics
    /// When it neither becomes ready nor ends.
    pub fn ready(self) -> Result<Self, String> {
        let mut node = self;
        let ended = wait::until("the node is ready", || {
            let ended = node.process.try_wait().expect("a child can be asked");
            let decided = ended.is_some() || node.ready_line().is_some();
            decided.then_some(ended)
        });
        match ended {
            Some(_) => Err(node.log()),
            None => Ok(node),
        }
    }

    /// Starts a node, and does not wait.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn spawn(settings: &Path) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::spawn_with_path(settings, &path)
    }

    /// The same with another search path for the programs that it runs.
    ///
    /// # Panics
    /// When the binary cannot be started.
    pub fn spawn_with_path(settings: &Path, path: &OsStr) -> Self {
        let log = settings.with_extension("log");
        let stderr = File::create(&log).expect("the folder of the settings takes a log");
        let process = Command::new(binary::sentinel())
            .args(["run", "--config"])
            .arg(settings)
            .current_dir(settings.parent().expect("a file has a folder"))
            .env_remove("RUST_LOG")
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        Self { process, log }
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The address that an endpoint (`peer`, `resp`, `http`) has really bound.
    ///
    /// # Panics
    /// When the node is not ready.
    pub fn address(&self, endpoint: &str) -> SocketAddr {
        let line = self.ready_line().expect("the node is ready");
        let (_, rest) = line
            .split_once(&format!(" {endpoint}="))
            .expect("the ready line names every endpoint");
        let text = rest.split(' ').next().unwrap_or_default();
        text.parse().expect("what was bound is an address")
    }

    /// Waits until a line of the log contains this, and returns the line from there on.
    ///
    /// # Panics
    /// When the bound runs out.
    pub fn wait_for_log(&self, part: &str) -> String {
        wait::until(part, || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains(part))?;
            Some(line[line.find(part)?..].to_owned())
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it at once.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn kill9(mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// Asks it to stop, and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the node ends", || {
            self.process.try_wait().expect("a child can be asked")
        })
    }

    /// Sends a signal to it.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a process id fits");
        kill_process(Pid::from_raw(pid).expect("a process id is not 0"), signal)
            .expect("the process is ours");
    }

    fn ready_line(&self) -> Option<String> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(" ready "))?;
        // The last field: without it the line is not written to its end yet.
        line.contains(" http=").then(|| line.to_owned())
    }
}

impl Drop for SentinelNode {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
