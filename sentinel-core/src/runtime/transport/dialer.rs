//! Keeps one connection to one voter: connects, greets, serves, and tries again with a growing pause.
//!
//! Does not know what is sent. The host name is resolved at each attempt, because addresses change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::id::NodeName;
use crate::runtime::Clock;
use crate::sentinel::Input;

use super::complaint::{Complaint, Complaints};
use super::connection;
use super::error::PeerError;
use super::handshake::{Local, dial};
use super::outbox::Outbox;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// One voter, seen from here.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) name: NodeName,
    pub(super) address: String,
    pub(super) outbox: Outbox,
    /// Told when the voter itself connects here: then it is worth trying at once.
    pub(super) is_back: Notify,
}

/// Runs until it is dropped.
pub(super) async fn run(
    remote: Arc<Remote>,
    local: Arc<Local>,
    inputs: mpsc::Sender<Input>,
    complaints: Arc<Complaints>,
) {
    let clock = Clock::new();
    let mut pause = PAUSE_MIN;
    loop {
        let began = clock.now();
        let error = attempt(&remote, &local, &inputs).await;
        // A connection that stood for a while was a good one; one that ends at once would be tried in a tight loop.
        if clock.now().since(began) >= PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        complaints.make(Complaint {
            address: remote.address.clone(),
            peer: Some(remote.name.clone()),
            error,
        });
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        // Whether woken or not: the next attempt is due.
        let _ = tokio::time::timeout(jittered, remote.is_back.notified()).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn attempt(remote: &Remote, local: &Local, inputs: &mpsc::Sender<Input>) -> PeerError {
    let stream = match connect(&remote.address).await {
        Ok(stream) => stream,
        Err(error) => return PeerError::Connect(error),
    };
    if local.key.is_none()
        && !stream
            .peer_addr()
            .is_ok_and(|address| address.ip().is_loopback())
    {
        return PeerError::KeyNeeded;
    }
    match dial(local, &remote.name, stream).await {
        Ok(link) => connection::run(link, &remote.outbox, inputs).await,
        Err(error) => error,
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
