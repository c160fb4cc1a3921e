//! Peers over loopback: what gets through, what is refused with which line, and that nobody waits for anybody else.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};

use super::complaint::Complaint;
use super::error::PeerError;
use super::handshake::{Local, accept, dial};
use super::key::{ClusterKey, KeyError};
use super::peers::Peers;
use crate::codec;
use crate::config::NodeRole;
use crate::discovery::Announced;
use crate::id::NodeName;
use crate::peer::{LogEntry, OpinionReport, PeerMessage, RaftMessage};
use crate::sentinel::Input;

/// Far beyond what any of this takes, so that only a hang reaches it.
const BOUND: Duration = Duration::from_secs(20);

struct Node {
    peers: Peers,
    inputs: mpsc::Receiver<Input>,
    complaints: broadcast::Receiver<Arc<Complaint>>,
}

fn local(name: &str) -> Local {
    let announced = Announced {
        resp: None,
        http: None,
        myid: format!("id of {name}"),
    };
    Local {
        cluster: "main".into(),
        name: name.into(),
        role: NodeRole::Voter,
        voters: ["s1", "s2", "s3"].map(NodeName::from).into(),
        announced,
        key: Some(ClusterKey::new(b"0123456789abcdef").unwrap()),
    }
}

fn observer(name: &str) -> Local {
    Local {
        role: NodeRole::Observer,
        ..local(name)
    }
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn start(local: Local, listener: Option<TcpListener>, addresses: &[(&str, SocketAddr)]) -> Node {
    let addresses: BTreeMap<_, _> = addresses
        .iter()
        .map(|(name, address)| (NodeName::from(*name), address.to_string()))
        .collect();
    let (sender, inputs) = mpsc::channel(16);
    let peers = Peers::start(local, addresses, listener, sender).unwrap();
    let complaints = peers.complaints();
    Node {
        peers,
        inputs,
        complaints,
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future)
        .await
        .expect("nothing came")
}

impl Node {
    /// The next message; notices of connections are passed over.
    async fn message(&mut self) -> (NodeName, PeerMessage) {
        loop {
            if let Input::Received { from, message } = self.input().await {
                return (from, *message);
            }
        }
    }

    async fn input(&mut self) -> Input {
        in_time(self.inputs.recv()).await.unwrap()
    }

    /// The first complaint that is of this kind.
    async fn complaint(&mut self, kind: impl Fn(&PeerError) -> bool) -> String {
        loop {
            let complaint = in_time(self.complaints.recv()).await.unwrap();
            if kind(&complaint.error) {
                return complaint.to_string();
            }
        }
    }

    /// Repeats a message until somebody answers the future: messages may be lost while a connection is made.
    async fn send_until<T>(
        &self,
        to: &str,
        message: &PeerMessage,
        arrived: impl Future<Output = T>,
    ) -> T {
        let repeat = async {
            loop {
                self.peers.send(&to.into(), message);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            arrived = in_time(arrived) => arrived,
            () = repeat => unreachable!("the repetition has no end"),
        }
    }
}

fn raft(index: u64) -> PeerMessage {
    PeerMessage::Raft(RaftMessage {
        index,
        ..RaftMessage::default()
    })
}

fn raft_of_bytes(bytes: usize) -> PeerMessage {
    let entry = LogEntry {
        index: 1,
        term: 1,
        kind: 0,
        data: vec![7; bytes],
        context: vec![],
    };
    PeerMessage::Raft(RaftMessage {
        entries: vec![entry],
        ..RaftMessage::default()
    })
}

fn opinions() -> PeerMessage {
    PeerMessage::Opinions(OpinionReport {
        opinions: BTreeMap::new(),
    })
}

/// Two voters that know one another.
async fn pair() -> (Node, Node) {
    let ((first, first_at), (second, second_at)) = (bind().await, bind().await);
    let addresses = [("s1", first_at), ("s2", second_at)];
    (
        start(local("s1"), Some(first), &addresses),
        start(local("s2"), Some(second), &addresses),
    )
}

#[tokio::test]
async fn two_voters_exchange_messages() {
    let (mut s1, mut s2) = pair().await;
    let announced = local("s2").announced;
    let connected = Input::PeerConnected {
        peer: "s2".into(),
        announced,
    };
    assert_eq!(s1.input().await, connected);
    s1.peers.send(&"s2".into(), &raft(1));
    s1.peers.send(&"s2".into(), &raft_of_bytes(1 << 20));
    assert_eq!(s2.message().await, ("s1".into(), raft(1)));
    assert_eq!(s2.message().await, ("s1".into(), raft_of_bytes(1 << 20)));
    s2.peers.send(&"s1".into(), &raft(2));
    assert_eq!(s1.message().await, ("s2".into(), raft(2)));
    // Signs of life keep a connection that nobody uses, for longer than silence is borne.
    let silence = tokio::time::timeout(Duration::from_millis(2500), s1.complaints.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
}

#[tokio::test]
async fn an_observer_is_answered_over_its_own_connection() {
    let (listener, address) = bind().await;
    let mut s1 = start(local("s1"), Some(listener), &[]);
    let mut app = start(observer("app"), None, &[("s1", address)]);
    app.peers.send(&"s1".into(), &opinions());
    assert_eq!(s1.message().await, ("app".into(), opinions()));
    s1.peers.send(&"app".into(), &raft(3));
    assert_eq!(app.message().await, ("s1".into(), raft(3)));
    // Only voters take part in Raft.
    app.peers.send(&"s1".into(), &raft(4));
    assert_eq!(
        s1.complaint(|error| matches!(error, PeerError::NotAllowed { .. }))
            .await,
        "peer app at 127.0.0.1: observer `app` sent a message that only voters may send: \
         run the same version of the sentinel there"
    );
}

#[tokio::test]
async fn strangers_are_refused_with_a_reason_on_both_sides() {
    let (listener, address) = bind().await;
    let mut s1 = start(local("s1"), Some(listener), &[]);
    let four = ["s1", "s2", "s3", "s4"].map(NodeName::from);
    let with_key = |key: &[u8; 16]| Some(ClusterKey::new(key).unwrap());
    let cases = [
        (
            Local {
                cluster: "test".into(),
                ..local("s2")
            },
            "it is of cluster `test`, this node is of cluster `main`: correct node.cluster or the peer's address in [voters]",
            "it refuses this node: it is of another cluster; correct node.cluster or the peer's address in [voters]",
        ),
        (
            Local {
                key: with_key(b"fedcba9876543210"),
                ..local("s2")
            },
            "it refuses this node: it has another cluster key; copy the same security.cluster_key_file to both nodes",
            "it does not have this node's cluster key: copy the same security.cluster_key_file to both nodes",
        ),
        (
            Local {
                key: None,
                ..local("s2")
            },
            "it refuses this node: it has another cluster key; copy the same security.cluster_key_file to both nodes",
            "it does not have this node's cluster key: copy the same security.cluster_key_file to both nodes",
        ),
        (
            Local {
                voters: four.clone().into(),
                ..local("s4")
            },
            "`s4` is no voter here: list it in [voters] on every node, or set its node.role = \"observer\"",
            "it refuses this node: it does not know a node of this name and role; make [voters], node.name and node.role agree",
        ),
        (
            observer("s2"),
            "`s2` calls itself an observer, and [voters] lists it here: set its node.role = \"voter\", or take it off [voters] on every node",
            "it refuses this node: it does not know a node of this name and role; make [voters], node.name and node.role agree",
        ),
        (
            local("s1"),
            "it is called `s1`, as this node is: give each node its own node.name",
            "it refuses this node: it does not know a node of this name and role; make [voters], node.name and node.role agree",
        ),
        (
            Local {
                voters: four.into(),
                ..local("s2")
            },
            "the seeds differ: [voters] of `s2` is not that of this node; make it the same on every node",
            "it refuses this node: the seeds differ; make [voters] the same on every node",
        ),
    ];
    for (stranger, at_listener, at_dialer) in cases {
        let stream = TcpStream::connect(address).await.unwrap();
        let refused = in_time(dial(&stranger, &"s1".into(), stream))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.to_string(), at_dialer);
        assert_eq!(
            s1.complaint(|_| true).await,
            format!("peer at 127.0.0.1: {at_listener}")
        );
    }
    // The listener lives on.
    let _s2 = start(local("s2"), None, &[("s1", address)]);
    assert!(matches!(s1.input().await, Input::PeerConnected { .. }));
}

#[tokio::test]
async fn garbage_and_oversize_are_refused_and_the_listener_lives_on() {
    let (listener, address) = bind().await;
    let mut s1 = start(local("s1"), Some(listener), &[]);
    let oversize = "it sent a frame longer than 4096 bytes: check that a sentinel of this version is what connects here";
    let cases: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\n\r\n", oversize),
        (&[0, 0, 16, 1], oversize),
        (
            &[0, 0, 0, 2, 9, 9],
            "it sent what is no frame of a sentinel (format version 9, this build reads 2: run the version of the sentinel that wrote it, or a newer one): \
             check that a sentinel of this version is what connects here",
        ),
        (
            &[0, 0, 0, 5, 2, 2, 0, 0, 0],
            "it sent what is no frame of a sentinel (a message of the handshake out of turn): \
             check that a sentinel of this version is what connects here",
        ),
    ];
    for (bytes, wanted) in cases {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(
            s1.complaint(|_| true).await,
            format!("peer at 127.0.0.1: {wanted}")
        );
        // Closed, with or without a reset for what it had not read.
        let _ = in_time(stream.read_to_end(&mut Vec::new())).await;
    }
    let silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(
        s1.complaint(|_| true).await,
        "peer at 127.0.0.1: no handshake within 2000 ms: check that a sentinel's peer port is meant, and that it is not overloaded"
    );
    drop(silent);
    let _s2 = start(local("s2"), None, &[("s1", address)]);
    assert!(matches!(s1.input().await, Input::PeerConnected { .. }));
}

#[tokio::test]
async fn no_bytes_get_through_the_handshake() {
    let mut chance = StdRng::seed_from_u64(1);
    for round in 0..2000 {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        // Frames of plausible length, whose content begins as a message of the handshake does.
        for _ in 0..chance.random_range(0..4) {
            let mut content = vec![0; chance.random_range(0..200)];
            chance.fill(&mut content[..]);
            if content.len() > 5 && chance.random_bool(0.8) {
                content[..5].copy_from_slice(&[1, chance.random_range(0..5), 0, 0, 0]);
            }
            far.write_all(&(content.len() as u32).to_be_bytes())
                .await
                .unwrap();
            far.write_all(&content).await.unwrap();
        }
        far.shutdown().await.unwrap();
        assert!(accept(&local("s1"), near).await.is_err(), "round {round}");
    }
}

#[tokio::test]
async fn a_peer_with_the_key_is_held_to_every_frame() {
    let (listener, address) = bind().await;
    let mut s1 = start(local("s1"), Some(listener), &[]);
    let connect = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        dial(&local("s2"), &"s1".into(), stream).await.unwrap()
    };

    let mut link = connect().await;
    let mut frame = link.sent.seal(super::connection::encode(&raft(1)));
    frame[9] ^= 1;
    link.frames.send(Bytes::from(frame)).await.unwrap();
    assert_eq!(
        s1.complaint(|_| true).await,
        "peer s2 at 127.0.0.1: it sent a frame whose authentication does not match: \
         somebody alters or injects traffic; check the network between the nodes"
    );

    let mut link = connect().await;
    link.frames
        .send(Bytes::from(link.sent.seal(codec::encode(&7_u64))))
        .await
        .unwrap();
    let garbage = s1.complaint(|_| true).await;
    assert!(
        garbage.starts_with("peer s2 at 127.0.0.1: it sent what is no frame of a sentinel ("),
        "{garbage}"
    );

    let link = connect().await;
    let mut stream = link.frames.into_inner();
    stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    assert_eq!(
        s1.complaint(|_| true).await,
        "peer s2 at 127.0.0.1: it sent a frame longer than 16777232 bytes: \
         check that a sentinel of this version is what connects here"
    );

    let silent = connect().await;
    assert_eq!(
        s1.complaint(|_| true).await,
        "peer s2 at 127.0.0.1: silent for 2000 ms: check the network between the nodes, and that its process is not paused"
    );
    drop(silent);

    let (mut older, _newer) = (connect().await, connect().await);
    assert_eq!(
        s1.complaint(|_| true).await,
        "peer s2 at 127.0.0.1: replaced by a newer connection of the same node; if two processes run as one node, stop one"
    );
    // It is closed, and not merely left alone.
    in_time(async { while let Some(Ok(_)) = older.frames.next().await {} }).await;
    assert!(!s1.inputs.is_empty(), "each connection was told");
}

#[tokio::test]
async fn the_wrong_node_at_an_address_is_found_out() {
    let (listener, address) = bind().await;
    let _s3 = start(local("s3"), Some(listener), &[]);
    let mut s1 = start(local("s1"), None, &[("s2", address)]);
    assert_eq!(
        s1.complaint(|_| true).await,
        format!(
            "peer s2 at {address}: `s3` answers where [voters] has `s2`: correct the address of `s2` in [voters]"
        )
    );
}

#[tokio::test]
async fn a_restarted_peer_is_found_again() {
    let ((first, first_at), (second, second_at)) = (bind().await, bind().await);
    let addresses = [("s1", first_at), ("s2", second_at)];
    let mut s1 = start(local("s1"), Some(first), &addresses);
    drop(second);
    // Nobody is there yet; what is sent meanwhile keeps within its bounds.
    for index in 0..2000 {
        s1.peers.send(&"s2".into(), &raft(index));
    }
    for round in 1..=3 {
        let listener = TcpListener::bind(second_at).await.unwrap();
        let mut s2 = start(local("s2"), Some(listener), &addresses);
        let marker = raft(1_000_000 + round);
        let arrived = async { while s2.message().await.1 != marker {} };
        s1.send_until("s2", &marker, arrived).await;
        s2.peers.send(&"s1".into(), &raft(round));
        while s1.message().await.1 != raft(round) {}
        s2.peers.close().await;
    }
}

#[tokio::test]
async fn a_slow_peer_blocks_nobody() {
    let ((slow, slow_at), (fast, fast_at)) = (bind().await, bind().await);
    let s1 = start(local("s1"), None, &[("s2", slow_at), ("s3", fast_at)]);
    // s2 connects and then takes nothing out of its queue of inputs, so that nothing is read from its socket.
    let _s2 = start(local("s2"), Some(slow), &[]);
    let mut s3 = start(local("s3"), Some(fast), &[]);
    s1.send_until("s3", &raft(0), s3.message()).await;
    // More than the sockets' buffers take.
    for index in 1..350 {
        s1.peers.send(&"s2".into(), &raft_of_bytes(1 << 15));
        let marker = raft(index);
        s1.peers.send(&"s3".into(), &marker);
        while s3.message().await.1 != marker {}
    }
}

#[tokio::test]
async fn without_a_key_only_loopback() {
    let keyless = || Local {
        key: None,
        ..local("s1")
    };
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let (inputs, _receiver) = mpsc::channel(1);
    let refused = Peers::start(keyless(), BTreeMap::new(), Some(listener), inputs).unwrap_err();
    assert!(matches!(refused, KeyError::Needed { .. }));
    assert_eq!(
        refused.to_string(),
        format!(
            "no cluster key, and peers would be accepted at {listen}: set security.cluster_key_file, or let listen.peer be a loopback address"
        )
    );
    let (listener, address) = bind().await;
    let mut s1 = start(keyless(), Some(listener), &[]);
    let _s2 = start(
        Local {
            key: None,
            ..local("s2")
        },
        None,
        &[("s1", address)],
    );
    assert!(matches!(s1.input().await, Input::PeerConnected { .. }));
}
