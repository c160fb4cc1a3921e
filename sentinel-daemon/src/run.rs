//! `sentinel run`: settings, then ports, then the data folder, then the node and its endpoints, then the wait for a signal.
//!
//! Decides the order and nothing else. Each step can refuse, and what it refuses leaves nothing running.

mod journal;
mod listeners;
mod logging;

use std::io;
use std::process;

use sentinel_core::discovery::Announced;
use sentinel_core::runtime::{
    self, AdapterFactory, Handle, PeerListen, RunError as NodeError, Running, StartError,
    StartOptions,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engines::{self, AgentFailure, AgentStart, RunningAgent};
use crate::exit::ExitCode;
use crate::http;
use crate::orders::Orders;
use crate::resp;
use crate::resp::password::Password;
use crate::settings::{Listen, Secrets, Settings};
use crate::source::Source;

pub use listeners::BindError;
use listeners::{Listeners, announced};
pub use logging::LogFormat;

/// How long the endpoints may take to send their last answers.
const FAREWELL_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// Why a node did not start, or did not stay.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port cannot be had. Nothing was started.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Threads, signals or sockets cannot be had from the system. Nothing was started.
    #[error(
        "the system refuses what a node needs: {0}: raise its limits on threads and open files"
    )]
    System(#[from] io::Error),
    /// The node refused to start. Nothing is running.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An agent refuses to begin. The node was stopped again.
    #[error(transparent)]
    Agent(#[from] AgentFailure),
    /// The node ended by itself. What was durable is on its disk.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Runs a node until it is told to stop. Blocks.
pub fn run(settings: &Settings, secrets: &Secrets, log: LogFormat) -> Result<(), RunError> {
    logging::start(log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(node(settings, secrets))
}

async fn node(settings: &Settings, secrets: &Secrets) -> Result<(), RunError> {
    // Listened to from the start, so that a signal during it is not lost.
    let mut stops = Stops::new()?;
    let listeners = Listeners::bind(&settings.listen).await?;
    let bound = listeners.addresses()?;
    let equipment = engines::equip(settings, secrets);
    let options = options(
        settings,
        secrets,
        (listeners.peer, &bound),
        equipment.adapters,
    );
    let running = runtime::start(options).await?;
    let handle = running.handle.clone();
    let _agents = match begin(equipment.agents, &handle) {
        Ok(agents) => agents,
        Err(failure) => {
            handle.stop().await;
            return Err(failure.into());
        }
    };
    // After everything that can refuse, so that an error stands alone.
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let farewell = CancellationToken::new();
    let endpoints = TaskTracker::new();
    serve(
        (settings, secrets),
        &handle,
        (listeners.resp, listeners.http),
        (&endpoints, &farewell),
    );
    tracing::info!(
        cluster = %settings.node.cluster,
        node = %settings.node.name,
        peer = %bound.peer,
        resp = %bound.resp,
        http = %bound.http,
        "ready"
    );
    let ended = until_stopped(running, &handle, &mut stops).await;
    farewell.cancel();
    endpoints.close();
    // A client that does not read must not hold the process.
    drop(tokio::time::timeout(FAREWELL_MAX, endpoints.wait()).await);
    if ended.is_ok() {
        tracing::info!("stopped");
    }
    Ok(ended?)
}

/// Begins all agents, or none: those that had begun end with an error of another one.
fn begin(agents: Vec<AgentStart>, handle: &Handle) -> Result<Vec<RunningAgent>, AgentFailure> {
    agents.into_iter().map(|begin| begin(handle)).collect()
}

fn options(
    settings: &Settings,
    secrets: &Secrets,
    (peer, bound): (TcpListener, &Listen),
    adapters: Vec<AdapterFactory>,
) -> StartOptions {
    StartOptions {
        settings: settings.node.clone(),
        services: settings
            .services
            .iter()
            .map(|service| service.settings.clone())
            .collect(),
        data_dir: settings.data_dir.clone(),
        peer_listen: PeerListen::Bound(peer),
        peer_addresses: settings
            .voters
            .iter()
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
        cluster_key: secrets.cluster_key.clone(),
        announced: Announced {
            resp: announced(settings, settings.announce.resp.as_ref(), bound.resp),
            http: announced(settings, settings.announce.http.as_ref(), bound.http),
            myid: String::new(),
        },
        adapters,
    }
}

/// Starts the endpoints, and the log of what happens.
fn serve(
    (settings, secrets): (&Settings, &Secrets),
    handle: &Handle,
    (resp_listener, http_listener): (TcpListener, TcpListener),
    (endpoints, farewell): (&TaskTracker, &CancellationToken),
) {
    let source = {
        let (views, events, clock) = (handle.clone(), handle.clone(), handle.clock());
        Source::new(
            move || views.view(),
            move || clock.now(),
            move || events.events(),
            handle.myid(),
            settings.stale_answers,
        )
    };
    let options = resp::server::Options {
        password: secrets
            .resp_password
            .as_ref()
            .map(|secret| Password::new(secret.reveal())),
        ..Default::default()
    };
    endpoints.spawn(resp::server::serve(
        resp_listener,
        source.clone(),
        options,
        farewell.clone().cancelled_owned(),
    ));
    endpoints.spawn(http::serve(
        http_listener,
        source,
        http::Options {
            agent_of: settings.node.agent_of.clone(),
            orders: Some(orders(handle, secrets)),
            ..Default::default()
        },
        farewell.clone().cancelled_owned(),
    ));
    endpoints.spawn(journal::events(handle.events(), farewell.clone()));
    endpoints.spawn(journal::leaders(handle.views(), farewell.clone()));
}

/// What operators may order of the node.
fn orders(handle: &Handle, secrets: &Secrets) -> Orders {
    let handle = handle.clone();
    Orders::new(
        move |service, to| {
            let handle = handle.clone();
            Box::pin(async move { handle.switchover(&service, to).await })
        },
        secrets
            .admin_token
            .as_ref()
            .map(|token| Password::new(token.reveal())),
    )
}

/// Waits for the node's own end or the first signal; from then on the second one ends the process at once.
async fn until_stopped(
    running: Running,
    handle: &Handle,
    stops: &mut Stops,
) -> Result<(), NodeError> {
    let mut ended = std::pin::pin!(running.ended());
    let name = tokio::select! {
        ended = &mut ended => return ended,
        name = stops.next() => name,
    };
    tracing::info!(
        signal = name,
        "stopping: the leadership is handed over first; a second signal ends at once"
    );
    tokio::select! {
        () = handle.stop() => ended.await,
        name = stops.next() => {
            tracing::warn!(signal = name, "ending at once");
            process::exit(ExitCode::Failed.number().into())
        }
    }
}

/// The signals that ask for an end.
#[derive(Debug)]
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
