//! Whole clusters over loopback, with an engine that is a value in memory: starting, leading, following, restarting.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::action::{Action, Outcome};
use crate::config::{NodeRole, NodeSettings, ServiceSettings, Timing};
use crate::discovery::{Announced, Freshness};
use crate::id::{EngineName, Epoch, InstanceId, NodeName};
use crate::observation::{
    Facts, Observation, Persistable, ProbeRequest, RestartGuard, Role, Writes,
};
use crate::planted::Bugs;
use crate::position::{Lineage, Offset, Position};
use crate::runtime::{
    Adapter, AdapterFactory, ClusterKey, Handle, PeerListen, Running, StartOptions, start,
};

const BOUND: Duration = Duration::from_secs(20);
const VOTERS: [&str; 3] = ["s1", "s2", "s3"];

/// Every instance is a primary that has always been one.
struct Placid {}

impl Adapter for Placid {
    fn engine(&self) -> EngineName {
        "placid".into()
    }

    fn probe(&self, _request: ProbeRequest) -> BoxFuture<'static, Observation> {
        Box::pin(async { Observation::Facts(Box::new(facts())) })
    }

    fn act(&self, _action: Action) -> BoxFuture<'static, Outcome> {
        Box::pin(async { Outcome::Done(Box::new(facts())) })
    }
}

fn facts() -> Facts {
    Facts {
        incarnation: "first".into(),
        server: "process".into(),
        role: Role::Primary,
        position: Some(Position {
            lineage: Lineage::new("one"),
            offset: Offset(100),
        }),
        fork: None,
        synced: true,
        holds_data: true,
        persistable: Persistable::Yes,
        priority: 100,
        write_quorum: None,
        replicas: vec![],
        restart_guard: RestartGuard::Delay(5000),
        writes: Writes::Itself,
        applied: None,
        trouble: None,
    }
}

/// Three voters with their folders and ports; nodes come and go in it.
struct Cluster {
    folders: TempDir,
    addresses: BTreeMap<NodeName, String>,
}

impl Cluster {
    async fn new() -> (Self, Vec<TcpListener>) {
        let mut listeners = Vec::new();
        let mut addresses = BTreeMap::new();
        for name in VOTERS {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(
                NodeName::from(name),
                listener.local_addr().unwrap().to_string(),
            );
            listeners.push(listener);
        }
        (
            Self {
                folders: tempfile::tempdir().unwrap(),
                addresses,
            },
            listeners,
        )
    }

    fn options(&self, name: &str, role: NodeRole, peer_listen: PeerListen) -> StartOptions {
        let instances = BTreeSet::from([InstanceId::new("db", 1)]);
        let mut service = ServiceSettings::new("orders".into(), "placid".into(), instances);
        // A primary without replicas is adopted only after this time.
        service.down_after = Duration::from_millis(300);
        let adapter: AdapterFactory = Box::new(|_| Arc::new(Placid {}));
        StartOptions {
            settings: NodeSettings {
                cluster: "main".into(),
                agent_of: Default::default(),
                name: name.into(),
                role,
                voters: VOTERS.map(NodeName::from).into(),
                seed: 0,
                timing: Timing::default(),
                bugs: Bugs::default(),
            },
            services: vec![service],
            data_dir: self.folder(name),
            peer_listen,
            peer_addresses: self.addresses.clone(),
            cluster_key: Some(ClusterKey::new(b"0123456789abcdef").unwrap()),
            announced: Announced::default(),
            adapters: vec![adapter],
        }
    }

    fn folder(&self, name: &str) -> std::path::PathBuf {
        Path::join(self.folders.path(), name)
    }

    /// Starts a voter at the address that it had.
    async fn start(&self, name: &str) -> Running {
        let address = self.addresses[&NodeName::from(name)].parse().unwrap();
        let options = self.options(name, NodeRole::Voter, PeerListen::At(address));
        start(options).await.unwrap()
    }

    async fn start_all() -> (Self, BTreeMap<NodeName, Handle>) {
        let (cluster, listeners) = Self::new().await;
        let mut nodes = BTreeMap::new();
        for (name, listener) in VOTERS.into_iter().zip(listeners) {
            let options = cluster.options(name, NodeRole::Voter, PeerListen::Bound(listener));
            nodes.insert(name.into(), start(options).await.unwrap().handle);
        }
        (cluster, nodes)
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future)
        .await
        .expect("nothing came")
}

/// Waits until a node sees a leader that is none of these.
async fn leader_besides(node: &Handle, gone: &[&NodeName]) -> NodeName {
    let mut views = node.views();
    let is_new = |leader: &NodeName| !gone.contains(&leader);
    let view = in_time(views.wait_for(|view| view.leader.as_ref().is_some_and(is_new))).await;
    view.unwrap().leader.clone().unwrap()
}

#[tokio::test]
async fn three_voters_agree_and_an_observer_follows() {
    let (cluster, nodes) = Cluster::start_all().await;
    let observer = cluster.options("app", NodeRole::Observer, PeerListen::Nowhere);
    let observer = start(observer).await.unwrap().handle;
    for node in nodes.values().chain([&observer]) {
        let answer = in_time(node.wait_primary(&"orders".into(), Epoch(0)))
            .await
            .unwrap();
        assert_eq!(answer.instance, InstanceId::new("db", 1));
        assert_eq!(answer.freshness, Freshness::Fresh);
        assert_eq!(
            node.primary(&"orders".into()).map(|answer| answer.instance),
            Some(answer.instance)
        );
        assert_eq!(node.primary(&"nobody's".into()), None);
    }
    assert!(
        !cluster.folder("app").join("raft").exists(),
        "an observer keeps no log"
    );
    // Each node learnt the identity of the others from their greeting.
    let s1 = &nodes[&NodeName::from("s1")];
    let knows = in_time(s1.views().wait_for(|view| {
        let id = |name: &str| {
            view.voters
                .get(&NodeName::from(name))
                .map(|peer| peer.announced.myid.clone())
        };
        let other = |name: &str| nodes[&NodeName::from(name)].myid().to_owned();
        ["s2", "s3"]
            .iter()
            .all(|name| id(name) == Some(other(name)))
    }))
    .await
    .is_ok();
    assert!(knows);
    for node in nodes.values().chain([&observer]) {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_stopped_leader_hands_over_and_comes_back_from_its_disk() {
    let (cluster, nodes) = Cluster::start_all().await;
    let s1 = &nodes[&NodeName::from("s1")];
    in_time(s1.wait_primary(&"orders".into(), Epoch(0)))
        .await
        .unwrap();
    let leader = leader_besides(s1, &[]).await;
    let myid = nodes[&leader].myid().to_owned();
    in_time(nodes[&leader].stop()).await;
    for (name, node) in nodes.iter().filter(|(name, _)| **name != leader) {
        let next = leader_besides(node, &[&leader]).await;
        assert_ne!(next, leader, "{name}");
    }
    let back = cluster.start(leader.as_str()).await.handle;
    assert_eq!(back.myid(), myid);
    leader_besides(&back, &[]).await;
    in_time(back.wait_primary(&"orders".into(), Epoch(0)))
        .await
        .unwrap();

    // All of them at once, from their disks alone.
    back.stop().await;
    for node in nodes.values() {
        node.stop().await;
    }
    let mut again = Vec::new();
    for name in VOTERS {
        again.push(cluster.start(name).await.handle);
    }
    for node in &again {
        in_time(node.wait_primary(&"orders".into(), Epoch(0)))
            .await
            .unwrap();
    }
    for node in &again {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_start_that_is_refused_leaves_nothing_behind() {
    let (cluster, listeners) = Cluster::new().await;
    let refusal = async |options| start(options).await.unwrap_err().to_string();
    let address = listeners[0].local_addr().unwrap();
    let busy = cluster.options("s1", NodeRole::Voter, PeerListen::At(address));
    let text = refusal(busy).await;
    assert!(
        text.starts_with(&format!("listen.peer {address} cannot be bound: ")),
        "{text}"
    );
    drop(listeners);

    let mut unlisted = cluster.options("s1", NodeRole::Voter, PeerListen::At(address));
    unlisted.peer_addresses.remove(&NodeName::from("s3"));
    assert_eq!(
        refusal(unlisted).await,
        "voter `s3` has no peer address: write it in [voters]"
    );

    let deaf = cluster.options("s1", NodeRole::Voter, PeerListen::Nowhere);
    assert_eq!(
        refusal(deaf).await,
        "voter `s1` lets no peer in: set listen.peer"
    );

    let mut without_adapter = cluster.options("s1", NodeRole::Voter, PeerListen::At(address));
    without_adapter.adapters.clear();
    assert_eq!(
        refusal(without_adapter).await,
        "service `orders` has engine `placid`, for which this program has no adapter: correct its `engine`"
    );

    let mut open = cluster.options(
        "s1",
        NodeRole::Voter,
        PeerListen::At("0.0.0.0:0".parse().unwrap()),
    );
    open.cluster_key = None;
    let text = refusal(open).await;
    assert!(
        text.starts_with("no cluster key, and peers would be accepted at 0.0.0.0:"),
        "{text}"
    );

    // The same folder and the same port start again.
    let node = cluster.start("s1").await.handle;
    let twice = cluster.options(
        "s1",
        NodeRole::Voter,
        PeerListen::At("127.0.0.1:0".parse().unwrap()),
    );
    let text = refusal(twice).await;
    assert!(
        text.starts_with("data folder ") && text.contains("is in use by another process"),
        "{text}"
    );
    node.stop().await;
}
