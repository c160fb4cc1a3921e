//! Why a connection to or from a peer came to its end. A peer's fault, the network's or the settings'; never ours.

use std::io;

use serde::{Deserialize, Serialize};
use tokio_util::codec::LengthDelimitedCodecError;

use crate::codec::CodecError;
use crate::id::{ClusterName, NodeName};

/// Why a connection ended. It is closed, messages in its queue may be lost, and a dialer tries again after a while.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection within the time given, or at all.
    #[error("cannot connect: {0}; start the sentinel there, or correct its address in [voters]")]
    Connect(io::Error),
    /// The peer did not finish the handshake in time.
    #[error(
        "no handshake within {timeout_ms} ms: check that a sentinel's peer port is meant, and that it is not overloaded"
    )]
    HandshakeTimeout {
        /// How long it had.
        timeout_ms: u64,
    },
    /// It says another version of the protocol.
    #[error(
        "it speaks version {found} of the peer protocol, this node {supported}: run the same version of the sentinel on both"
    )]
    Version {
        /// Its version.
        found: u16,
        /// Ours.
        supported: u16,
    },
    /// It is of another cluster.
    #[error(
        "it is of cluster `{found}`, this node is of cluster `{wanted}`: correct node.cluster or the peer's address in [voters]"
    )]
    OtherCluster {
        /// Its cluster.
        found: ClusterName,
        /// Ours.
        wanted: ClusterName,
    },
    /// It did not prove the key.
    #[error(
        "it does not have this node's cluster key: copy the same security.cluster_key_file to both nodes"
    )]
    WrongKey,
    /// It votes, and our settings do not name it.
    #[error(
        "`{name}` is no voter here: list it in [voters] on every node, or set its node.role = \"observer\""
    )]
    UnknownVoter {
        /// What it calls itself.
        name: NodeName,
    },
    /// It follows, and our settings name it a voter.
    #[error(
        "`{name}` calls itself an observer, and [voters] lists it here: set its node.role = \"voter\", or take it off [voters] on every node"
    )]
    NotObserver {
        /// What it calls itself.
        name: NodeName,
    },
    /// It calls itself as this node does.
    #[error("it is called `{name}`, as this node is: give each node its own node.name")]
    SameName {
        /// The name.
        name: NodeName,
    },
    /// Somebody else answered at the address of a voter.
    #[error(
        "`{found}` answers where [voters] has `{wanted}`: correct the address of `{wanted}` in [voters]"
    )]
    OtherNode {
        /// Who answered.
        found: NodeName,
        /// Who should have.
        wanted: NodeName,
    },
    /// Its list of voters is not ours.
    #[error(
        "the seeds differ: [voters] of `{name}` is not that of this node; make it the same on every node"
    )]
    SeedsDiffer {
        /// The peer.
        name: NodeName,
    },
    /// It refused us, and said why.
    #[error("it refuses this node: {0}")]
    Refused(Refusal),
    /// A frame longer than the limit.
    #[error(
        "it sent a frame longer than {bytes_max} bytes: check that a sentinel of this version is what connects here"
    )]
    Oversize {
        /// The limit.
        bytes_max: usize,
    },
    /// Bytes that are none of our values.
    #[error(
        "it sent what is no frame of a sentinel ({0}): check that a sentinel of this version is what connects here"
    )]
    Garbage(String),
    /// A frame that the holder of the key did not send in this place.
    #[error(
        "it sent a frame whose authentication does not match: somebody alters or injects traffic; check the network between the nodes"
    )]
    Forged,
    /// An observer said what only voters may.
    #[error(
        "observer `{name}` sent a message that only voters may send: run the same version of the sentinel there"
    )]
    NotAllowed {
        /// The observer.
        name: NodeName,
    },
    /// The listener is full.
    #[error(
        "refused, because {connections_max} connections are open: run fewer observers, or find out who connects here"
    )]
    TooMany {
        /// The limit.
        connections_max: usize,
    },
    /// A key is needed off this machine.
    #[error("no cluster key, and the peer is not on this machine: set security.cluster_key_file")]
    KeyNeeded,
    /// Neither message nor sign of life.
    #[error(
        "silent for {idle_ms} ms: check the network between the nodes, and that its process is not paused"
    )]
    Idle {
        /// How long it had.
        idle_ms: u64,
    },
    /// The same peer opened a newer connection.
    #[error(
        "replaced by a newer connection of the same node; if two processes run as one node, stop one"
    )]
    Replaced,
    /// The other side closed in good order.
    #[error("it closed the connection; it may be stopping")]
    Closed,
    /// The network broke the connection.
    #[error("the connection broke: {0}; it is tried again")]
    Io(io::Error),
}

/// What one side tells the other when it refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Another version of the protocol.
    #[error(
        "it speaks another version of the peer protocol; run the same version of the sentinel on both"
    )]
    Version,
    /// Another cluster.
    #[error("it is of another cluster; correct node.cluster or the peer's address in [voters]")]
    Cluster,
    /// Another key.
    #[error("it has another cluster key; copy the same security.cluster_key_file to both nodes")]
    Key,
    /// Not a name that it knows in that role, or its own.
    #[error(
        "it does not know a node of this name and role; make [voters], node.name and node.role agree"
    )]
    Name,
    /// Another list of voters.
    #[error("the seeds differ; make [voters] the same on every node")]
    Seeds,
}

impl PeerError {
    /// What to tell the peer before closing, if anything.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Version { .. } => Some(Refusal::Version),
            Self::OtherCluster { .. } => Some(Refusal::Cluster),
            Self::WrongKey => Some(Refusal::Key),
            Self::UnknownVoter { .. }
            | Self::NotObserver { .. }
            | Self::SameName { .. }
            | Self::OtherNode { .. } => Some(Refusal::Name),
            Self::SeedsDiffer { .. } => Some(Refusal::Seeds),
            Self::Connect(_)
            | Self::HandshakeTimeout { .. }
            | Self::Refused(_)
            | Self::Oversize { .. }
            | Self::Garbage(_)
            | Self::Forged
            | Self::NotAllowed { .. }
            | Self::TooMany { .. }
            | Self::KeyNeeded
            | Self::Idle { .. }
            | Self::Replaced
            | Self::Closed
            | Self::Io(_) => None,
        }
    }

    /// An error of reading or writing frames of at most `bytes_max`.
    pub(super) fn framing(error: io::Error, bytes_max: usize) -> Self {
        let oversize = error
            .get_ref()
            .is_some_and(|cause| cause.is::<LengthDelimitedCodecError>());
        if oversize {
            Self::Oversize { bytes_max }
        } else {
            Self::Io(error)
        }
    }
}

impl From<CodecError> for PeerError {
    fn from(error: CodecError) -> Self {
        Self::Garbage(error.to_string())
    }
}
