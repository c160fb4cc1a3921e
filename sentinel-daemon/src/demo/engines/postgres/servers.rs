//! The PostgreSQL servers of one service: made, started, struck and ended. Their agents bring them back to life.
//!
//! A process is known by its data folder and not by its number, because an agent may have started it. Decides nothing.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use sentinel_core::id::InstanceId;

use super::account::Account;
use super::installation::Installation;
use super::session::Session;
use super::writer::Writer;
use super::{making, processes, readback, settings};
use crate::demo::engines::SERVERS;
use crate::demo::error::{DemoError, system};
use crate::demo::journal::Acked;
use crate::demo::options::Fault;
use crate::demo::patience;
use crate::demo::plan::ServicePlan;
use crate::demo::site::{self, Files, Site};

/// How long a server may take until it answers. Generous for a busy machine.
const START_MAX: Duration = Duration::from_secs(20);

/// The servers of one service. They end with this.
#[derive(Debug)]
pub(in crate::demo) struct Servers {
    plan: ServicePlan,
    installation: Installation,
    account: Account,
    servers: Vec<Server>,
    password_file: PathBuf,
}

/// One of them.
#[derive(Debug)]
struct Server {
    name: String,
    address: InstanceId,
    files: Files,
}

impl Servers {
    /// Makes and starts all of them, and waits until each answers.
    pub(in crate::demo) async fn start(
        plan: &ServicePlan,
        site: &mut Site,
    ) -> Result<Self, DemoError> {
        let account = Account::choose();
        let installation = Installation::find(plan.postgres_bin.as_deref(), account)?;
        let servers = (1..=SERVERS).map(|number| {
            let name = format!("postgres-{number}");
            Server {
                address: site.loopback(),
                files: site.files(&name),
                name,
            }
        });
        let servers = servers.collect();
        let password = site::random();
        let servers = Self {
            plan: plan.clone(),
            installation,
            account,
            servers,
            password_file: site
                .secret("postgres.password", &password)
                .map_err(system("the password cannot be written"))?,
        };
        servers.make(site.path(), &password).await?;
        for server in &servers.servers {
            server.start(&servers.installation, account).await?;
        }
        Ok(servers)
    }

    async fn make(&self, site: &Path, password: &str) -> Result<(), DemoError> {
        if self.account.is_other() {
            // It must come through to its own folders, and see nothing else.
            std::fs::set_permissions(site, Permissions::from_mode(0o711))
                .map_err(system("the temporary folder cannot be opened for `nobody`"))?;
        }
        let mut original = None;
        for server in &self.servers {
            let cannot = || system(format!("the folder of {} cannot be made", server.name));
            let (address, data) = (&server.address, server.data());
            self.account
                .make_folder(server.files.folder())
                .and_then(|()| self.account.make_folder(&data))
                .map_err(cannot())?;
            let new = (address, data.as_path());
            match &original {
                None => {
                    making::primary(&self.installation, self.account, new, password).await?;
                    original = Some((address, data));
                }
                Some((primary, original)) => {
                    making::standby(self.account, (primary, original), new, password).await?;
                }
            }
        }
        Ok(())
    }

    /// What a node is told of the service, and of the server whose agent it is: each node is on the host of one.
    pub(in crate::demo) fn node_settings(&self, node: usize) -> String {
        let addresses: Vec<InstanceId> = self.addresses_of_all().collect();
        let own = &self.servers[node];
        settings::of_node(
            &self.plan,
            &addresses,
            (&own.address, &own.data()),
            &self.installation,
            &self.password_file,
        )
    }

    /// Lets the fault happen to the primary.
    pub(in crate::demo) fn strike(&self, primary: &InstanceId) -> Result<(), DemoError> {
        let data = self.server(primary).data();
        let Some(postmaster) = processes::postmaster(&data) else {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(system("the primary's process cannot be found")(gone));
        };
        match self.plan.fault {
            Fault::Kill => processes::send(postmaster, Signal::KILL),
            Fault::Hang => {
                // First of all, so that it starts no process meanwhile.
                processes::send(postmaster, Signal::STOP);
                for pid in processes::of(&data) {
                    processes::send(pid, Signal::STOP);
                }
            }
            Fault::Switchover | Fault::Isolate => {}
        }
        Ok(())
    }

    /// Resumes what still hangs of it. To make it follow is its agent's business, and so is to start a killed one.
    pub(in crate::demo) fn repair(&self, primary: &InstanceId) {
        match self.plan.fault {
            Fault::Kill | Fault::Switchover | Fault::Isolate => {}
            Fault::Hang => {
                for pid in processes::of(&self.server(primary).data()) {
                    processes::send(pid, Signal::CONT);
                }
            }
        }
    }

    /// A client that writes.
    pub(in crate::demo) fn writer(&self, endpoints: &[InstanceId]) -> Writer {
        Writer::new(self.plan.name, endpoints)
    }

    /// How many of these rows are missing on at least one of the servers.
    pub(in crate::demo) async fn lost(
        &self,
        acked: &[Acked],
        primary: &InstanceId,
    ) -> Result<u64, DemoError> {
        let servers: Vec<InstanceId> = self.addresses_of_all().collect();
        readback::lost(acked, primary, &servers).await
    }

    fn addresses_of_all(&self) -> impl Iterator<Item = InstanceId> {
        self.servers.iter().map(|server| server.address.clone())
    }

    fn server(&self, address: &InstanceId) -> &Server {
        let mut servers = self.servers.iter();
        let found = servers.find(|server| server.address == *address);
        found.unwrap_or(&self.servers[0])
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &self.servers {
            processes::end(&server.data());
        }
    }
}

impl Server {
    fn data(&self) -> PathBuf {
        self.files.folder().join("data")
    }

    async fn start(&self, installation: &Installation, account: Account) -> Result<(), DemoError> {
        let cannot = || system(format!("{} cannot be started", self.name));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.files.log())
            .map_err(cannot())?;
        let mut command = account.command(installation.program("postgres"));
        command
            .arg("-D")
            .arg(self.data())
            .stderr(log)
            .stdout(std::process::Stdio::null());
        let mut postmaster = tokio::process::Command::from(command)
            .spawn()
            .map_err(cannot())?;
        // Collected as soon as it ends: while it is not, it counts as running for whoever starts the server again.
        let ended = tokio::spawn(async move { postmaster.wait().await });
        patience::until(&format!("{} answers", self.name), START_MAX, async || {
            if ended.is_finished() {
                return Ok(Err(self.files.ended(&self.name)));
            }
            match Session::open(&self.address).await {
                Ok(_) => Ok(Ok(())),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?
    }
}

/// Fails if there is no server to start.
pub(in crate::demo) fn require(plan: &ServicePlan) -> Result<(), DemoError> {
    Installation::find(plan.postgres_bin.as_deref(), Account::choose()).map(drop)
}
