//! The Redis servers and, where something is to be cut off, proxies in front of them. All of it ends with this.
//!
//! Starts, stops and cuts what it is told to. Decides nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sentinel_core::id::InstanceId;
use sentinel_redis::guard::PrimarySource;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::proxy::{self, Cable};
use super::readback;
use super::settings::{self, COMPANION_ADDRESS, ServerPlan, Wiring};
use super::writer::Writer;
use crate::demo::connect;
use crate::demo::error::{DemoError, system};
use crate::demo::journal::Acked;
use crate::demo::leash::{Leash, Process};
use crate::demo::options::Fault;
use crate::demo::patience;
use crate::demo::plan::ServicePlan;
use crate::demo::site::{Files, Site};

/// How long a server may take until it answers. Generous for a busy machine.
const START_MAX: Duration = Duration::from_secs(20);

/// The servers of one service.
#[derive(Debug)]
pub(in crate::demo) struct Servers {
    plan: ServicePlan,
    servers: Vec<Server>,
    _proxies: JoinSet<()>,
    cable: watch::Sender<Cable>,
    leash: Arc<Leash>,
}

/// One of them, and its process unless it was killed.
#[derive(Debug)]
struct Server {
    plan: ServerPlan,
    files: Files,
    process: Option<Process>,
}

impl Servers {
    /// Starts all of them, and waits until each answers.
    pub(in crate::demo) async fn start(
        plan: &ServicePlan,
        site: &mut Site,
    ) -> Result<Self, DemoError> {
        let wiring = match plan.fault {
            Fault::Kill | Fault::Hang | Fault::Switchover => Wiring::Direct,
            Fault::Isolate => Wiring::Separable,
        };
        let plans = settings::servers(site, wiring).into_iter();
        let mut servers = Self {
            plan: plan.clone(),
            servers: plans
                .map(|plan| Server {
                    files: site.files(&plan.name),
                    plan,
                    process: None,
                })
                .collect(),
            _proxies: JoinSet::new(),
            cable: watch::Sender::new(Cable::Whole),
            leash: Arc::clone(site.leash()),
        };
        servers.start_proxies().await?;
        for server in &mut servers.servers {
            let text = server.plan.settings(server.files.folder(), wiring);
            let name = &server.plan.name;
            server
                .files
                .write_settings(&text)
                .map_err(system(format!("the settings of {name} cannot be written")))?;
            server.start(&servers.leash).await?;
        }
        Ok(servers)
    }

    async fn start_proxies(&mut self) -> Result<(), DemoError> {
        for ServerPlan {
            address, direct, ..
        } in self.servers.iter().map(|server| &server.plan)
        {
            if address == direct {
                continue;
            }
            let listener = TcpListener::bind((address.host(), address.port()))
                .await
                .map_err(system("a proxy cannot be started"))?;
            let companion = COMPANION_ADDRESS
                .parse()
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let serving = proxy::serve(listener, direct.clone(), companion, self.cable.subscribe());
            self._proxies.spawn(async move { drop(serving.await) });
        }
        Ok(())
    }

    /// What the nodes are told about the service.
    pub(in crate::demo) fn node_settings(&self) -> String {
        settings::of_nodes(&self.plan, &self.servers[0].plan.address)
    }

    /// Lets the fault happen to the primary.
    pub(in crate::demo) fn strike(&self, primary: &InstanceId) -> Result<(), DemoError> {
        match self.plan.fault {
            Fault::Kill => self.signal(primary, Signal::KILL),
            Fault::Hang => self.signal(primary, Signal::STOP),
            Fault::Switchover => Ok(()),
            Fault::Isolate => {
                self.cable.send_replace(Cable::Cut);
                Ok(())
            }
        }
    }

    /// Starts the killed one with the configuration file as the server left it, resumes the hung one, heals the cut.
    pub(in crate::demo) async fn repair(&mut self, primary: &InstanceId) -> Result<(), DemoError> {
        match self.plan.fault {
            Fault::Kill => {
                let index = self.index(primary);
                self.servers[index].start(&self.leash).await
            }
            Fault::Hang => self.signal(primary, Signal::CONT),
            Fault::Switchover => Ok(()),
            Fault::Isolate => {
                self.cable.send_replace(Cable::Whole);
                Ok(())
            }
        }
    }

    /// Where it listens, and where everybody is told that it does.
    pub(in crate::demo) fn addresses(&self, server: &InstanceId) -> Vec<InstanceId> {
        let plan = &self.servers[self.index(server)].plan;
        vec![plan.address.clone(), plan.direct.clone()]
    }

    /// A client that writes. Where the network falls apart, every second one is on the primary's side of the cut and
    /// knows no other server.
    pub(in crate::demo) fn writer(
        &self,
        number: usize,
        primary: &InstanceId,
        endpoints: &[InstanceId],
    ) -> Writer {
        let source = match self.plan.fault {
            Fault::Isolate if number % 2 == 1 => PrimarySource::Fixed(self.direct(primary).clone()),
            Fault::Kill | Fault::Hang | Fault::Switchover | Fault::Isolate => {
                PrimarySource::Sentinels {
                    endpoints: endpoints.to_vec(),
                    credentials: None,
                }
            }
        };
        Writer::new(self.plan.name, source)
    }

    /// How many of these writes are missing on at least one of the servers.
    pub(in crate::demo) async fn lost(
        &self,
        acked: &[Acked],
        primary: &InstanceId,
    ) -> Result<u64, DemoError> {
        let servers: Vec<InstanceId> = self
            .servers
            .iter()
            .map(|server| server.plan.direct.clone())
            .collect();
        readback::lost(acked, self.direct(primary), &servers).await
    }

    fn signal(&self, server: &InstanceId, signal: Signal) -> Result<(), DemoError> {
        let sent = match &self.servers[self.index(server)].process {
            Some(process) => process.signal(signal),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        sent.map_err(system("a process cannot be signalled"))
    }

    fn direct(&self, server: &InstanceId) -> &InstanceId {
        &self.servers[self.index(server)].plan.direct
    }

    /// The server that has this address, announced or direct; the first one if there is none such.
    fn index(&self, address: &InstanceId) -> usize {
        let is_there =
            |server: &Server| server.plan.address == *address || server.plan.direct == *address;
        self.servers.iter().position(is_there).unwrap_or_default()
    }
}

impl Server {
    /// Starts it, for the first time or again, with the configuration file as the server left it.
    async fn start(&mut self, leash: &Arc<Leash>) -> Result<(), DemoError> {
        let mut command = Command::new("redis-server");
        command
            .arg(self.files.settings())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = leash
            .start(&mut command)
            .map_err(system("redis-server cannot be started"))?;
        self.process = Some(process);
        let what = format!("{} answers", self.plan.name);
        patience::until(&what, START_MAX, async || ping(&self.plan.direct).await).await?;
        let ended = self.process.as_mut().is_none_or(Process::has_ended);
        if ended {
            Err(self.files.ended(&self.plan.name))
        } else {
            Ok(())
        }
    }
}

/// Fails if there is no server to start.
pub(in crate::demo) fn require() -> Result<(), DemoError> {
    let version = Command::new("redis-server")
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match version {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DemoError::NoServer {
            what: "redis-server is not installed".to_owned(),
            remedy: "install it: sudo apt-get install redis-server (or redis, on other systems)",
        }),
        Err(error) => Err(system("redis-server cannot be started")(error)),
    }
}

async fn ping(server: &InstanceId) -> Result<(), String> {
    let pong = async {
        let client = connect::client(server)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").exec_async(&mut connection).await
    };
    pong.await
        .map_err(|error: redis::RedisError| error.to_string())
}
