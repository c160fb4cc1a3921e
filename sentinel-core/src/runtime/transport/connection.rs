//! A connection after its handshake: frames out of the queue, frames into the machine, signs of life both ways.
//!
//! Does not know who opened the connection, and ends with the reason why it ended.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::codec;
use crate::config::NodeRole;
use crate::id::NodeName;
use crate::peer::PeerMessage;
use crate::sentinel::Input;

use super::error::PeerError;
use super::handshake::{FRAME_BYTES_MAX, Frames, Link};
use super::outbox::Outbox;
use super::proof::Tags;

/// Pace of signs of life when there is nothing else to say.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// Silence after which a connection is given up; a new one gets through sooner than a stalled one, whose
/// retransmissions have backed off, after a partition.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// What a frame carries.
#[derive(Debug, Deserialize)]
enum Content {
    Alive,
    Message(PeerMessage),
}

/// The same, to write; the layout must not differ.
#[derive(Debug, Serialize)]
enum ContentRef<'a> {
    Alive,
    Message(&'a PeerMessage),
}

/// Encodes a message for an outbox.
pub(super) fn encode(message: &PeerMessage) -> Vec<u8> {
    codec::encode(&ContentRef::Message(message))
}

/// Serves a connection until it ends.
pub(super) async fn run<S>(
    link: Link<S>,
    outbox: &Outbox,
    inputs: &mpsc::Sender<Input>,
) -> PeerError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connected = Input::PeerConnected {
        peer: link.peer.clone(),
        announced: link.announced,
    };
    if inputs.send(connected).await.is_err() {
        return PeerError::Closed;
    }
    let (sink, stream) = link.frames.split();
    tokio::select! {
        error = write(sink, link.sent, outbox) => error,
        error = read(stream, link.received, (&link.peer, link.role), inputs) => error,
    }
}

async fn write<S>(
    mut sink: SplitSink<Frames<S>, Bytes>,
    mut tags: Tags,
    outbox: &Outbox,
) -> PeerError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let first = tokio::time::timeout(ALIVE_EVERY, outbox.next()).await;
        let first = first.unwrap_or_else(|_| codec::encode(&ContentRef::Alive));
        let batch = async {
            sink.feed(tags.seal(first).into()).await?;
            while let Some(next) = outbox.pop() {
                sink.feed(tags.seal(next).into()).await?;
            }
            sink.flush().await
        };
        match tokio::time::timeout(IDLE_MAX, batch).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return PeerError::framing(error, FRAME_BYTES_MAX),
            Err(_) => return idle(),
        }
    }
}

async fn read<S>(
    mut stream: SplitStream<Frames<S>>,
    mut tags: Tags,
    (peer, role): (&NodeName, NodeRole),
    inputs: &mpsc::Sender<Input>,
) -> PeerError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let frame = match tokio::time::timeout(IDLE_MAX, stream.next()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return PeerError::framing(error, FRAME_BYTES_MAX),
            Ok(None) => return PeerError::Closed,
            Err(_) => return idle(),
        };
        let message = match open(&frame, &mut tags) {
            Ok(Content::Message(message)) => message,
            Ok(Content::Alive) => continue,
            Err(error) => return error,
        };
        if !may_send(role, &message) {
            return PeerError::NotAllowed { name: peer.clone() };
        }
        let received = Input::Received {
            from: peer.clone(),
            message: Box::new(message),
        };
        if inputs.send(received).await.is_err() {
            return PeerError::Closed;
        }
    }
}

fn open(frame: &BytesMut, tags: &mut Tags) -> Result<Content, PeerError> {
    Ok(codec::decode(tags.open(frame)?)?)
}

fn may_send(role: NodeRole, message: &PeerMessage) -> bool {
    match (role, message) {
        (NodeRole::Voter, _) => true,
        (
            NodeRole::Observer,
            PeerMessage::Opinions(_)
            | PeerMessage::Follow { .. }
            | PeerMessage::Agent(_)
            | PeerMessage::OrderDone { .. },
        ) => true,
        (
            NodeRole::Observer,
            PeerMessage::Raft(_)
            | PeerMessage::Table(_)
            | PeerMessage::Alive
            | PeerMessage::Order(_),
        ) => false,
    }
}

fn idle() -> PeerError {
    PeerError::Idle {
        idle_ms: IDLE_MAX.as_millis() as u64,
    }
}
