//! Starts a node: checks, binds, opens, and only then lets the loop run.
//!
//! Decides the order; each step can refuse, and what it refuses leaves nothing running.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{NodeRole, NodeSettings, ServiceSettings, SettingsError};
use crate::discovery::Announced;
use crate::id::{EngineName, NodeName, ServiceName};
use crate::peer::Restored;
use crate::sentinel::{Sentinel, StartError as MachineError};

use super::adapter::{Adapter, AdapterContext, AdapterFactory};
use super::board::Board;
use super::clock::Clock;
use super::driver::{Driver, Machine};
use super::handle::{Handle, Running};
use super::hands::Hands;
use super::log_file::{DataFolder, LogError, RaftFile};
use super::questions::Questions;
use super::storage::Storage;
use super::transport::{ClusterKey, KeyError, Local, Peers};

/// Inputs that may wait for the machine; whoever has more waits.
const INPUTS_MAX: usize = 1024;

/// Everything that a node needs.
pub struct StartOptions {
    /// The node. Its seed is drawn anew at each start.
    pub settings: NodeSettings,
    /// Services to guard unless the committed table has them already.
    pub services: Vec<ServiceSettings>,
    /// Where the node keeps its identity and, if it votes, its log. Made if there is none.
    pub data_dir: PathBuf,
    /// Where peers connect.
    pub peer_listen: PeerListen,
    /// Peer addresses, `host:port`, of every voter; its own is not needed.
    pub peer_addresses: BTreeMap<NodeName, String>,
    /// What peers must prove; without it, peers on this machine only.
    pub cluster_key: Option<ClusterKey>,
    /// Where this node's endpoints are; its `myid` is filled in here.
    pub announced: Announced,
    /// The engines that this node can look after.
    pub adapters: Vec<AdapterFactory>,
}

impl fmt::Debug for StartOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartOptions")
            .field("settings", &self.settings)
            .field("data_dir", &self.data_dir)
            .field("peer_listen", &self.peer_listen)
            .finish_non_exhaustive()
    }
}

/// Where a node lets peers in.
#[derive(Debug)]
pub enum PeerListen {
    /// At an address that is bound here.
    At(SocketAddr),
    /// At a socket that is bound already, so that a busy port is known before anything starts.
    Bound(TcpListener),
    /// Nowhere: for an observer, whom nobody calls.
    Nowhere,
}

/// Why a node did not start. Nothing runs, and no port stays bound.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting could never work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A voter has no address.
    #[error("voter `{0}` has no peer address: write it in [voters]")]
    NoAddress(NodeName),
    /// Voters must be reachable.
    #[error("voter `{0}` lets no peer in: set listen.peer")]
    NotListening(NodeName),
    /// No adapter for an engine.
    #[error(
        "service `{service}` has engine `{engine}`, for which this program has no adapter: correct its `engine`"
    )]
    NoAdapter {
        /// The service.
        service: ServiceName,
        /// Its engine.
        engine: EngineName,
    },
    /// Two adapters for one engine. The caller's fault.
    #[error("two adapters were given for engine `{0}`: give one")]
    TwoAdapters(EngineName),
    /// The peer port cannot be bound.
    #[error(
        "listen.peer {address} cannot be bound: {source}; stop what uses the port, or choose another one"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// No key where one is needed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The machine refuses what it was given.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Starts a node. It runs until [`Handle::stop`], or until its log fails.
pub async fn start(options: StartOptions) -> Result<Running, StartError> {
    let StartOptions {
        mut settings,
        services,
        data_dir,
        cluster_key,
        mut announced,
        ..
    } = options;
    settings.validate()?;
    check_addresses(&settings, &options.peer_addresses)?;
    let listener = listen(&settings, options.peer_listen).await?;
    let clock = Clock::new();
    let (disconnects_in, disconnects) = mpsc::channel(INPUTS_MAX);
    let (notes_in, notes) = mpsc::channel(INPUTS_MAX);
    let context = AdapterContext {
        clock,
        disconnects: disconnects_in,
        notes: notes_in,
    };
    let adapters = make_adapters(options.adapters, &context)?;
    check_engines(&services, &adapters)?;

    let folder = DataFolder::open(&data_dir)?;
    let (file, restored) = open_log(&settings, &folder)?;
    announced.myid = folder.myid().into();
    settings.seed = rand::random();
    let seeds = services
        .iter()
        .map(|service| (service.name.clone(), service.engine.clone()))
        .collect();
    let local = Local::new(&settings, announced, cluster_key);
    let machine = Sentinel::new(settings, services, restored, clock.now())?;

    let (inputs_in, inputs) = mpsc::channel(INPUTS_MAX);
    let peers = Peers::start(local, options.peer_addresses, listener, inputs_in)?;
    let board = Arc::new(Board::new(machine.view()));
    let hands = Hands {
        clock,
        adapters,
        seeds,
        board: Arc::clone(&board),
        tasks: JoinSet::new(),
    };
    let stop = CancellationToken::new();
    let storage = Storage::new(file);
    let driver = Driver {
        machine,
        clock,
        inputs,
        disconnects,
        notes,
        questions: Questions::new(),
        stop,
        storage,
        peers,
        hands,
        board,
    };
    Ok(run(driver, folder))
}

/// Lets the driver run on a task of its own, and cleans up behind it.
pub(super) fn run<M: Machine + Send + 'static>(driver: Driver<M>, folder: DataFolder) -> Running {
    let handle = Handle {
        board: Arc::clone(&driver.board),
        clock: driver.clock,
        myid: folder.myid().into(),
        questions: driver.questions.sender(),
        stop: driver.stop.clone(),
        kill: CancellationToken::new(),
        ended: CancellationToken::new(),
    };
    let (kill, ended) = (handle.kill.clone(), handle.ended.clone());
    let task = tokio::spawn(async move {
        // Declared first and so dropped last, also by a panic: whoever waits finds everything closed.
        let _ended = ended.drop_guard();
        let _folder = folder;
        let mut driver = driver;
        let result = kill
            .run_until_cancelled(driver.run())
            .await
            .unwrap_or(Ok(()));
        driver.peers.close().await;
        result
    });
    Running { handle, task }
}

fn check_addresses(
    settings: &NodeSettings,
    addresses: &BTreeMap<NodeName, String>,
) -> Result<(), StartError> {
    let others = settings
        .voters
        .iter()
        .filter(|name| **name != settings.name);
    match others
        .into_iter()
        .find(|name| !addresses.contains_key(*name))
    {
        Some(name) => Err(StartError::NoAddress(name.clone())),
        None => Ok(()),
    }
}

async fn listen(
    settings: &NodeSettings,
    listen: PeerListen,
) -> Result<Option<TcpListener>, StartError> {
    match listen {
        PeerListen::Bound(listener) => Ok(Some(listener)),
        PeerListen::At(address) => match TcpListener::bind(address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(source) => Err(StartError::Bind { address, source }),
        },
        PeerListen::Nowhere => match (settings.role, settings.voters.len()) {
            // A single voter has nobody to let in but observers, and may do without them.
            (NodeRole::Observer, _) | (NodeRole::Voter, 1) => Ok(None),
            (NodeRole::Voter, _) => Err(StartError::NotListening(settings.name.clone())),
        },
    }
}

fn make_adapters(
    factories: Vec<AdapterFactory>,
    context: &AdapterContext,
) -> Result<BTreeMap<EngineName, Arc<dyn Adapter>>, StartError> {
    let mut adapters = BTreeMap::new();
    for factory in factories {
        let adapter = factory(context.clone());
        let engine = adapter.engine();
        if adapters.insert(engine.clone(), adapter).is_some() {
            return Err(StartError::TwoAdapters(engine));
        }
    }
    Ok(adapters)
}

fn check_engines(
    services: &[ServiceSettings],
    adapters: &BTreeMap<EngineName, Arc<dyn Adapter>>,
) -> Result<(), StartError> {
    match services
        .iter()
        .find(|service| !adapters.contains_key(&service.engine))
    {
        Some(service) => Err(StartError::NoAdapter {
            service: service.name.clone(),
            engine: service.engine.clone(),
        }),
        None => Ok(()),
    }
}

/// An observer keeps no log: it asks the voters for the table.
fn open_log(
    settings: &NodeSettings,
    folder: &DataFolder,
) -> Result<(Option<RaftFile>, Restored), StartError> {
    match settings.role {
        NodeRole::Observer => Ok((None, Restored::default())),
        NodeRole::Voter => {
            let (file, restored) = RaftFile::open(folder, &settings.cluster, &settings.name)?;
            Ok((Some(file), restored))
        }
    }
}
