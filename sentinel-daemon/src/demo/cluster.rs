//! Everything that runs: servers, voters and, where something is to be cut off, proxies. All of it ends with this.
//!
//! Starts, stops and cuts what it is told to, and says what the voters answer. Decides nothing.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sentinel_core::id::InstanceId;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::{DemoError, system};
use super::layout::{Layout, SERVICE, ServerPlan, VoterPlan, Wiring};
use super::leash::{Leash, Process};
use super::patience;
use super::proxy::{self, Cable};
use crate::api::{ServiceJson, StatusJson};
use crate::client::Client;

/// How long a process may take until it answers. Generous for a busy machine.
const START_MAX: Duration = Duration::from_secs(20);

/// Everything that runs. Dropping it ends all processes and removes the folder.
#[derive(Debug)]
pub(super) struct Cluster {
    // Dropped in this order: processes, then the leash, then the folder.
    servers: Vec<Running>,
    voters: Vec<Running>,
    _proxies: JoinSet<()>,
    cable: watch::Sender<Cable>,
    leash: Arc<Leash>,
    pub(super) layout: Layout,
    planted: Option<String>,
    _folder: TempDir,
}

/// A process, unless it was killed.
type Running = Option<Process>;

impl Cluster {
    /// Starts everything, and waits until each process answers.
    pub(super) async fn start(
        wiring: Wiring,
        down_after: Duration,
        planted: Option<String>,
    ) -> Result<Self, DemoError> {
        require_server()?;
        // Its mode is 0700.
        let folder = TempDir::with_prefix("sentinel-demo-")
            .map_err(system("a temporary folder cannot be made"))?;
        let layout = Layout::new(folder.path(), wiring, down_after)
            .map_err(system("no free ports were found"))?;
        let leash = Leash::new(folder.path()).map_err(system("`sh` cannot be started"))?;
        let mut cluster = Self {
            servers: (0..layout.servers.len()).map(|_| None).collect(),
            voters: (0..layout.voters.len()).map(|_| None).collect(),
            _proxies: JoinSet::new(),
            cable: watch::Sender::new(Cable::Whole),
            leash,
            layout,
            planted,
            _folder: folder,
        };
        cluster.start_proxies().await?;
        for index in 0..cluster.servers.len() {
            cluster.write_server_settings(index)?;
            cluster.start_server(index).await?;
        }
        for index in 0..cluster.voters.len() {
            cluster.start_voter(index)?;
        }
        Ok(cluster)
    }

    async fn start_proxies(&mut self) -> Result<(), DemoError> {
        for server in &self.layout.servers {
            if server.address == server.direct {
                continue;
            }
            let listener = TcpListener::bind((server.address.host(), server.address.port()))
                .await
                .map_err(system("a proxy cannot be started"))?;
            let companion = super::layout::COMPANION_ADDRESS
                .parse()
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let serving = proxy::serve(
                listener,
                server.direct.clone(),
                companion,
                self.cable.subscribe(),
            );
            self._proxies.spawn(async move { drop(serving.await) });
        }
        Ok(())
    }

    fn write_server_settings(&self, index: usize) -> Result<(), DemoError> {
        let plan = &self.layout.servers[index];
        let text = self.layout.server_settings(plan);
        self.write_settings(&plan.name, &text)
    }

    fn write_settings(&self, name: &str, text: &str) -> Result<(), DemoError> {
        fs::create_dir_all(self.layout.folder(name))
            .and_then(|()| fs::write(self.layout.settings(name), text))
            .map_err(system(format!("the settings of {name} cannot be written")))
    }

    /// Starts a server, for the first time or again, with the configuration file as the server left it.
    pub(super) async fn start_server(&mut self, index: usize) -> Result<(), DemoError> {
        let plan = self.layout.servers[index].clone();
        let mut command = Command::new("redis-server");
        command
            .arg(self.layout.settings(&plan.name))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = self
            .leash
            .start(&mut command)
            .map_err(system("redis-server cannot be started"))?;
        self.servers[index] = Some(process);
        patience::until(&format!("{} answers", plan.name), START_MAX, async || {
            ping(&plan.direct).await
        })
        .await?;
        let ended = self.servers[index].as_mut().is_none_or(Process::has_ended);
        if ended {
            Err(self.ended(&plan.name))
        } else {
            Ok(())
        }
    }

    /// Starts a voter, for the first time or again from its data.
    pub(super) fn start_voter(&mut self, index: usize) -> Result<(), DemoError> {
        let plan = self.layout.voters[index].clone();
        self.write_settings(&plan.name, &self.layout.voter_settings(&plan))?;
        let cannot = || system(format!("voter {} cannot be started", plan.name));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.layout.log(&plan.name))
            .map_err(cannot())?;
        let program = std::env::current_exe().map_err(cannot())?;
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(self.layout.settings(&plan.name))
            .env_remove("SENTINEL_NODE")
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(bug) = &self.planted {
            command.args(["--plant", bug]);
        }
        self.voters[index] = Some(self.leash.start(&mut command).map_err(cannot())?);
        Ok(())
    }

    fn ended(&self, name: &str) -> DemoError {
        let log = fs::read_to_string(self.layout.log(name)).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        DemoError::Ended {
            what: name.to_owned(),
            log: tail.into_iter().rev().collect::<Vec<_>>().join("\n"),
        }
    }

    /// Fails if a voter that should run has ended.
    pub(super) fn check_voters(&mut self) -> Result<(), DemoError> {
        let ended = self
            .voters
            .iter_mut()
            .position(|voter| voter.as_mut().is_some_and(Process::has_ended));
        match ended {
            Some(index) => Err(self.ended(&self.layout.voters[index].name)),
            None => Ok(()),
        }
    }

    /// Sends a signal to a server.
    pub(super) fn signal_server(&self, index: usize, signal: Signal) -> Result<(), DemoError> {
        signal_to(&self.servers[index], signal)
    }

    /// Sends a signal to a voter.
    pub(super) fn signal_voter(&self, index: usize, signal: Signal) -> Result<(), DemoError> {
        signal_to(&self.voters[index], signal)
    }

    /// Cuts the primary and its companion off, or heals that.
    pub(super) fn set_cable(&self, cable: Cable) {
        self.cable.send_replace(cable);
    }

    /// The server that has this address, announced or direct.
    pub(super) fn server_at(&self, address: &InstanceId) -> Option<usize> {
        let is_there =
            |server: &ServerPlan| server.address == *address || server.direct == *address;
        self.layout.servers.iter().position(is_there)
    }

    /// The Sentinel endpoints of all voters.
    pub(super) fn resp(&self) -> Vec<InstanceId> {
        self.layout
            .voters
            .iter()
            .map(|voter| voter.resp.clone())
            .collect()
    }

    /// The HTTP endpoints of all voters.
    pub(super) fn http(&self) -> Vec<InstanceId> {
        self.layout
            .voters
            .iter()
            .map(|voter| voter.http.clone())
            .collect()
    }

    /// Where the acknowledged keys are written to.
    pub(super) fn acknowledged_file(&self) -> PathBuf {
        self.layout.acknowledged()
    }

    /// The service as each voter sees it that answers, by the voter's number.
    pub(super) async fn service(&self) -> Vec<ServiceJson> {
        self.ask(format!("/v1/services/{SERVICE}")).await
    }

    /// The number of the voter that leads, if all that answer agree on one.
    pub(super) async fn leader(&self) -> Option<usize> {
        let answers: Vec<StatusJson> = self.ask("/v1/status".to_owned()).await;
        let mut leaders: Vec<_> = answers.into_iter().map(|answer| answer.leader).collect();
        leaders.dedup();
        let [Some(leader)] = leaders.as_slice() else {
            return None;
        };
        let leads = |voter: &VoterPlan| voter.name == leader.as_str();
        self.layout.voters.iter().position(leads)
    }

    async fn ask<T>(&self, path: String) -> Vec<T>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        let nodes = self.http();
        let asked = tokio::task::spawn_blocking(move || {
            nodes
                .into_iter()
                .filter_map(|node| Client::new(node).get(&path).ok())
                .collect()
        });
        asked.await.unwrap_or_default()
    }
}

fn signal_to(process: &Running, signal: Signal) -> Result<(), DemoError> {
    let sent = match process {
        Some(process) => process.signal(signal),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    sent.map_err(system("a process cannot be signalled"))
}

fn require_server() -> Result<(), DemoError> {
    let version = Command::new("redis-server")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match version {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DemoError::NoServer),
        Err(error) => Err(system("redis-server cannot be started")(error)),
    }
}

async fn ping(server: &InstanceId) -> Result<(), String> {
    let pong = async {
        let client = super::connect::client(server)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").exec_async(&mut connection).await
    };
    pong.await
        .map_err(|error: redis::RedisError| error.to_string())
}
