//! The handshake: who is there, of which cluster, with the key or not.
//!
//! dialer: Hello → listener: Hello, Proof → dialer: Proof → listener: Accepted. Either side may answer Refused in
//! place of its next message, so that both ends can tell their operators why. Does not know sockets or queues.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::codec::{self, ENCODED_BYTES_MAX};
use crate::config::{NodeRole, NodeSettings};
use crate::discovery::Announced;
use crate::id::{ClusterName, NodeName};

use super::error::{PeerError, Refusal};
use super::key::ClusterKey;
use super::proof::{Side, TAG_BYTES, Tags, Transcript};

const PROTOCOL_VERSION: u16 = 1;
const TIMEOUT: Duration = Duration::from_secs(2);
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// Before a peer has proved the key, nobody makes this node keep more than this.
const HANDSHAKE_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Afterwards: whatever can be encoded can be sent.
pub(super) const FRAME_BYTES_MAX: usize = ENCODED_BYTES_MAX + TAG_BYTES;

/// A stream cut into frames.
pub(super) type Frames<S> = Framed<S, LengthDelimitedCodec>;

/// What a node says of itself, and what it demands of its peers.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its name.
    pub name: NodeName,
    /// Whether it votes.
    pub role: NodeRole,
    /// All voters by its settings.
    pub voters: BTreeSet<NodeName>,
    /// Where its endpoints are.
    pub announced: Announced,
    /// The secret that peers must prove; `None` trusts everybody, and is for one machine only.
    pub key: Option<ClusterKey>,
}

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u16,
    pub(super) cluster: ClusterName,
    pub(super) node: NodeName,
    pub(super) role: NodeRole,
    pub(super) announced: Announced,
    pub(super) voters_digest: [u8; 32],
    pub(super) nonce: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    Hello(Hello),
    Proof([u8; 32]),
    Accepted,
    Refused(Refusal),
}

/// A connection to a peer that proved the key.
pub(super) struct Link<S> {
    pub(super) frames: Frames<S>,
    pub(super) peer: NodeName,
    pub(super) role: NodeRole,
    pub(super) announced: Announced,
    pub(super) sent: Tags,
    pub(super) received: Tags,
}

impl Local {
    /// Of a node with these settings.
    pub fn new(settings: &NodeSettings, announced: Announced, key: Option<ClusterKey>) -> Self {
        Self {
            cluster: settings.cluster.clone(),
            name: settings.name.clone(),
            role: settings.role,
            voters: settings.voters.clone(),
            announced,
            key,
        }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            cluster: self.cluster.clone(),
            node: self.name.clone(),
            role: self.role,
            announced: self.announced.clone(),
            voters_digest: self.voters_digest(),
            nonce: rand::random(),
        }
    }

    fn voters_digest(&self) -> [u8; 32] {
        Sha256::digest(codec::encode(&self.voters)).into()
    }

    /// Judges a peer by its hello; `wanted` is whom a dialer called. The most telling cause comes first.
    fn check(&self, hello: &Hello, wanted: Option<&NodeName>) -> Result<(), PeerError> {
        if hello.protocol != PROTOCOL_VERSION {
            let (found, supported) = (hello.protocol, PROTOCOL_VERSION);
            return Err(PeerError::Version { found, supported });
        }
        if hello.cluster != self.cluster {
            let (found, wanted) = (hello.cluster.clone(), self.cluster.clone());
            return Err(PeerError::OtherCluster { found, wanted });
        }
        let name = hello.node.clone();
        if let Some(wanted) = wanted.filter(|wanted| **wanted != name).cloned() {
            return Err(PeerError::OtherNode {
                found: name,
                wanted,
            });
        }
        if name == self.name {
            return Err(PeerError::SameName { name });
        }
        match (hello.role, self.voters.contains(&name)) {
            (NodeRole::Voter, false) => return Err(PeerError::UnknownVoter { name }),
            (NodeRole::Observer, true) => return Err(PeerError::NotObserver { name }),
            (NodeRole::Voter, true) | (NodeRole::Observer, false) => {}
        }
        if hello.voters_digest != self.voters_digest() {
            return Err(PeerError::SeedsDiffer { name });
        }
        Ok(())
    }
}

/// Greets the voter that should be at the other end.
pub(super) async fn dial<S>(
    local: &Local,
    wanted: &NodeName,
    stream: S,
) -> Result<Link<S>, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(stream, async |frames: &mut Frames<S>| {
        let own = codec::encode(&Message::Hello(local.hello()));
        send(frames, own.clone()).await?;
        let (hello, theirs) = receive_hello(frames).await?;
        local.check(&hello, Some(wanted))?;
        let transcript = Transcript::new(local.key.as_ref(), &own, &theirs);
        transcript.check(Side::Listener, &receive_proof(frames).await?)?;
        send(
            frames,
            codec::encode(&Message::Proof(transcript.proof(Side::Dialer))),
        )
        .await?;
        match receive(frames).await?.0 {
            Message::Accepted => Ok((hello, transcript, Side::Dialer)),
            Message::Hello(_) | Message::Proof(_) | Message::Refused(_) => Err(out_of_turn()),
        }
    })
    .await
}

/// Greets whoever connected.
pub(super) async fn accept<S>(local: &Local, stream: S) -> Result<Link<S>, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    in_time(stream, async |frames: &mut Frames<S>| {
        let (hello, theirs) = receive_hello(frames).await?;
        local.check(&hello, None)?;
        let own = codec::encode(&Message::Hello(local.hello()));
        let transcript = Transcript::new(local.key.as_ref(), &theirs, &own);
        send(frames, own).await?;
        send(
            frames,
            codec::encode(&Message::Proof(transcript.proof(Side::Listener))),
        )
        .await?;
        transcript.check(Side::Dialer, &receive_proof(frames).await?)?;
        send(frames, codec::encode(&Message::Accepted)).await?;
        Ok((hello, transcript, Side::Listener))
    })
    .await
}

/// Runs one side of the handshake under the time limit, and tells the peer if it is refused.
async fn in_time<S>(
    stream: S,
    side: impl AsyncFnOnce(&mut Frames<S>) -> Result<(Hello, Transcript, Side), PeerError>,
) -> Result<Link<S>, PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let codec = LengthDelimitedCodec::builder()
        .max_frame_length(HANDSHAKE_FRAME_BYTES_MAX)
        .new_codec();
    let mut frames = Framed::new(stream, codec);
    let timeout_ms = TIMEOUT.as_millis() as u64;
    let result = tokio::time::timeout(TIMEOUT, side(&mut frames))
        .await
        .unwrap_or(Err(PeerError::HandshakeTimeout { timeout_ms }));
    match result {
        Ok((hello, transcript, own)) => {
            frames.codec_mut().set_max_frame_length(FRAME_BYTES_MAX);
            Ok(Link {
                frames,
                peer: hello.node,
                role: hello.role,
                announced: hello.announced,
                sent: transcript.tags(own),
                received: transcript.tags(own.other()),
            })
        }
        Err(error) => {
            if let Some(refusal) = error.refusal() {
                // A peer that does not take the refusal is closed all the same.
                let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(&mut frames, refusal)).await;
            }
            Err(error)
        }
    }
}

/// Waits for the peer to close too: closing over bytes that nobody read would reset the connection, and the
/// peer would not learn why.
async fn refuse<S>(frames: &mut Frames<S>, refusal: Refusal) -> Result<(), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(frames, codec::encode(&Message::Refused(refusal))).await?;
    frames.get_mut().shutdown().await.map_err(PeerError::Io)?;
    while let Some(Ok(_)) = frames.next().await {}
    Ok(())
}

async fn send<S>(frames: &mut Frames<S>, message: Vec<u8>) -> Result<(), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sent = frames.send(Bytes::from(message)).await;
    sent.map_err(|error| PeerError::framing(error, HANDSHAKE_FRAME_BYTES_MAX))
}

/// The next message, and its bytes for the transcript.
async fn receive<S>(frames: &mut Frames<S>) -> Result<(Message, Vec<u8>), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = frames.next().await.ok_or(PeerError::Closed)?;
    let bytes = frame.map_err(|error| PeerError::framing(error, HANDSHAKE_FRAME_BYTES_MAX))?;
    match codec::decode(&bytes)? {
        Message::Refused(refusal) => Err(PeerError::Refused(refusal)),
        message @ (Message::Hello(_) | Message::Proof(_) | Message::Accepted) => {
            Ok((message, bytes.to_vec()))
        }
    }
}

async fn receive_hello<S>(frames: &mut Frames<S>) -> Result<(Hello, Vec<u8>), PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match receive(frames).await? {
        (Message::Hello(hello), bytes) => Ok((hello, bytes)),
        (Message::Proof(_) | Message::Accepted | Message::Refused(_), _) => Err(out_of_turn()),
    }
}

async fn receive_proof<S>(frames: &mut Frames<S>) -> Result<[u8; 32], PeerError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match receive(frames).await?.0 {
        Message::Proof(proof) => Ok(proof),
        Message::Hello(_) | Message::Accepted | Message::Refused(_) => Err(out_of_turn()),
    }
}

fn out_of_turn() -> PeerError {
    PeerError::Garbage("a message of the handshake out of turn".into())
}
