//! Where a demonstration takes place: a temporary folder, free ports, and the leash on what is started there.
//!
//! Must be dropped after everything that was started on it: the folder goes with it. Knows no programs.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::Rng as _;
use sentinel_core::id::InstanceId;
use tempfile::TempDir;

use super::error::{DemoError, system};
use super::leash::Leash;

/// Below the range from which the kernel draws the ports of outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// More than any demonstration needs.
const PORTS_COUNT: usize = 32;

/// The place.
#[derive(Debug)]
pub(super) struct Site {
    ports: std::vec::IntoIter<u16>,
    // Dropped in this order: the leash, then the folder.
    leash: Arc<Leash>,
    folder: TempDir,
}

impl Site {
    /// Makes the folder, and finds ports that nobody listens at.
    pub(super) fn new() -> Result<Self, DemoError> {
        // Its mode is 0700.
        let folder = TempDir::with_prefix("sentinel-demo-")
            .map_err(system("a temporary folder cannot be made"))?;
        let ports = free_ports(PORTS_COUNT).map_err(system("no free ports were found"))?;
        let leash = Leash::new(folder.path()).map_err(system("`sh` cannot be started"))?;
        Ok(Self {
            ports: ports.into_iter(),
            leash,
            folder,
        })
    }

    /// A loopback address of its own.
    pub(super) fn loopback(&mut self) -> InstanceId {
        let port = self.ports.next();
        InstanceId::new(
            "127.0.0.1",
            port.expect("the ports are more than are asked for"),
        )
    }

    /// What keeps processes from outliving the demonstration.
    pub(super) fn leash(&self) -> &Arc<Leash> {
        &self.leash
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that only we can read.
    pub(super) fn secret(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.folder.path().join(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        file.open(&path)?.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// The files of one process.
    pub(super) fn files(&self, name: &str) -> Files {
        Files(self.folder.path().join(name))
    }
}

/// The folder of one process, with its settings and its log.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

impl Files {
    /// The folder itself.
    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    /// The settings file.
    pub(super) fn settings(&self) -> PathBuf {
        self.0.join("settings.conf")
    }

    /// The log.
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Makes the folder, and writes the settings file.
    pub(super) fn write_settings(&self, text: &str) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        std::fs::write(self.settings(), text)
    }

    /// That this process ended by itself, with the end of its log.
    pub(super) fn ended(&self, name: &str) -> DemoError {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        DemoError::Ended {
            what: name.to_owned(),
            log: tail.into_iter().rev().collect::<Vec<_>>().join("\n"),
        }
    }
}

/// A secret that nobody guesses: 32 hex digits.
pub(super) fn random() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// Different ports that nobody listens at. Somebody may take one before it is used; the start is then repeated.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    let mut attempts = 0;
    while held.len() < count {
        let port = rand::rng().random_range(PORTS);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => held.push((port, listener)),
            Err(error) if attempts == 1000 => return Err(error),
            Err(_) => attempts += 1,
        }
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}
