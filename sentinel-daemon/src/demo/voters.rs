//! The voters: nodes of their own that guard every service, and what they answer. All of them end with this.
//!
//! Starts and kills what it is told to. Decides nothing, and knows no engine.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::Signal;
use sentinel_core::id::InstanceId;
use sentinel_core::runtime::Secret;

use super::engines::Fleet;
use super::error::{DemoError, system};
use super::leash::{Leash, Process};
use super::site::{self, Files, Site};
use crate::api::{ServiceJson, StatusJson, SwitchoverAskJson, SwitchoverJson};
use crate::client::Client;

/// How many there are.
const VOTERS: usize = 3;

/// All voters.
#[derive(Debug)]
pub(super) struct Voters {
    voters: Vec<Voter>,
    leash: Arc<Leash>,
    planted: Option<String>,
    token: Secret,
    token_file: PathBuf,
}

/// One of them, and its process unless it was killed.
#[derive(Debug)]
struct Voter {
    /// Its name in the cluster.
    name: String,
    peer: InstanceId,
    resp: InstanceId,
    http: InstanceId,
    files: Files,
    process: Option<Process>,
}

impl Voters {
    /// Starts all of them as guards of these services.
    pub(super) fn start(
        site: &mut Site,
        fleets: &[Fleet],
        planted: Option<String>,
    ) -> Result<Self, DemoError> {
        let voters = (1..=VOTERS).map(|number| {
            let name = format!("s{number}");
            Voter {
                peer: site.loopback(),
                resp: site.loopback(),
                http: site.loopback(),
                files: site.files(&name),
                name,
                process: None,
            }
        });
        let voters = voters.collect();
        let token = site::random();
        let mut voters = Self {
            voters,
            leash: Arc::clone(site.leash()),
            planted,
            token: Secret::new(token.as_str()),
            token_file: site
                .secret("admin.token", &token)
                .map_err(system("the admin token cannot be written"))?,
        };
        for index in 0..voters.voters.len() {
            let voter = &voters.voters[index];
            let name = &voter.name;
            let text = voters.settings(index, fleets);
            voter
                .files
                .write_settings(&text)
                .map_err(system(format!("the settings of {name} cannot be written")))?;
            voters.start_one(index)?;
        }
        Ok(voters)
    }

    fn settings(&self, index: usize, fleets: &[Fleet]) -> String {
        let voter = &self.voters[index];
        let mut text = format!(
            "[node]\ncluster = \"demo\"\nname = \"{}\"\ndata_dir = \"data\"\n\n\
             [listen]\npeer = \"{}\"\nresp = \"{}\"\nhttp = \"{}\"\n\n\
             [security]\nadmin_token_file = \"{}\"\n\n[voters]\n",
            voter.name,
            voter.peer,
            voter.resp,
            voter.http,
            self.token_file.display(),
        );
        for voter in &self.voters {
            writeln!(text, "{} = \"{}\"", voter.name, voter.peer)
                .expect("writing to a String cannot fail");
        }
        text.extend(fleets.iter().map(|fleet| fleet.node_settings(index)));
        text
    }

    /// Starts a voter, for the first time or again from its data.
    pub(super) fn start_one(&mut self, index: usize) -> Result<(), DemoError> {
        let voter = &mut self.voters[index];
        let cannot = || system(format!("voter {} cannot be started", voter.name));
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(voter.files.log())
            .map_err(cannot())?;
        let program = std::env::current_exe().map_err(cannot())?;
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(voter.files.settings())
            .env_remove("SENTINEL_NODE")
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(bug) = &self.planted {
            command.args(["--plant", bug]);
        }
        let process = self.leash.start(&mut command).map_err(cannot())?;
        voter.process = Some(process);
        Ok(())
    }

    /// Kills a voter.
    pub(super) fn kill(&self, index: usize) -> Result<(), DemoError> {
        let voter = &self.voters[index];
        let killed = match &voter.process {
            Some(process) => process.signal(Signal::KILL),
            None => Ok(()),
        };
        killed.map_err(system(format!("voter {} cannot be killed", voter.name)))
    }

    /// Fails if a voter that should run has ended.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        let mut voters = self.voters.iter_mut();
        let ended = voters.find_map(|voter| {
            let ended = voter.process.as_mut().is_some_and(Process::has_ended);
            ended.then(|| voter.files.ended(&voter.name))
        });
        ended.map_or(Ok(()), Err)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.voters.len()
    }

    /// The Sentinel endpoints of all voters.
    pub(super) fn resp(&self) -> Vec<InstanceId> {
        let voters = self.voters.iter();
        voters.map(|voter| voter.resp.clone()).collect()
    }

    /// The HTTP endpoints of all voters.
    pub(super) fn http(&self) -> Vec<InstanceId> {
        let voters = self.voters.iter();
        voters.map(|voter| voter.http.clone()).collect()
    }

    /// A service as each voter sees it that answers.
    pub(super) async fn service(&self, name: &str) -> Vec<ServiceJson> {
        self.ask(format!("/v1/services/{name}")).await
    }

    /// The number of the voter that leads, if all that answer agree on one.
    pub(super) async fn leader(&self) -> Option<usize> {
        let answers: Vec<StatusJson> = self.ask("/v1/status".to_owned()).await;
        let mut leaders: Vec<_> = answers.into_iter().map(|answer| answer.leader).collect();
        leaders.dedup();
        let [Some(leader)] = leaders.as_slice() else {
            return None;
        };
        let leads = |voter: &Voter| voter.name == leader.as_str();
        self.voters.iter().position(leads)
    }

    /// Orders a voter, by its number, to make another instance primary, and waits for the end of that.
    pub(super) async fn switch_over(
        &self,
        leader: usize,
        service: &'static str,
    ) -> Result<(), DemoError> {
        let leader = self.voters[leader].http.clone();
        let token = self.token.clone();
        let path = format!("/v1/services/{service}/switchover");
        let ordered = tokio::task::spawn_blocking(move || {
            let body = SwitchoverAskJson::default();
            Client::new(leader).post::<_, SwitchoverJson>(&path, &token, &body)
        });
        match ordered.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(DemoError::Order(error)),
            Err(error) => Err(system("the order cannot be given")(error.into())),
        }
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
