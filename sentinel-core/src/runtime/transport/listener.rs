//! Accepts peers: each on a task of its own, so that a slow or hostile one keeps nobody waiting.
//!
//! Does not know what is said. What is sent to an observer goes out over the connection that it opened.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::id::NodeName;
use crate::sentinel::Input;

use super::complaint::{Complaint, Complaints};
use super::connection;
use super::dialer::Remote;
use super::error::PeerError;
use super::handshake::{Local, accept};
use super::outbox::Outbox;

/// Peers and strangers together.
const CONNECTIONS_MAX: usize = 512;
/// After an error of `accept`, most often too many open files: a pause, so that it does not spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Everything that a connection from outside needs.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) local: Arc<Local>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) complaints: Arc<Complaints>,
    pub(super) guests: Guests,
    pub(super) remotes: BTreeMap<NodeName, Arc<Remote>>,
}

/// The newest connection of each peer that connected here.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<BTreeMap<NodeName, Guest>>);

#[derive(Clone, Debug)]
struct Guest {
    outbox: Arc<Outbox>,
    replaced: CancellationToken,
}

impl Guests {
    /// Queues a message for a peer that is connected.
    pub(super) fn push(&self, to: &NodeName, message: Vec<u8>) {
        if let Some(guest) = self.lock().get(to) {
            guest.outbox.push(message);
        }
    }

    /// Lets a peer in, in place of its older connection.
    fn enter(&self, peer: &NodeName) -> Guest {
        let guest = Guest {
            outbox: Arc::default(),
            replaced: CancellationToken::new(),
        };
        if let Some(older) = self.lock().insert(peer.clone(), guest.clone()) {
            older.replaced.cancel();
        }
        guest
    }

    /// Forgets a connection, unless a newer one has taken its place.
    fn leave(&self, peer: &NodeName, guest: &Guest) {
        let mut guests = self.lock();
        if guests
            .get(peer)
            .is_some_and(|now| Arc::ptr_eq(&now.outbox, &guest.outbox))
        {
            guests.remove(peer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Guest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until it is dropped, and with it every connection that it accepted.
pub(super) async fn run(listener: TcpListener, door: Arc<Door>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a peer's connection could not be accepted; check the limit of open files");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            complain(
                &door,
                address,
                None,
                PeerError::TooMany {
                    connections_max: CONNECTIONS_MAX,
                },
            );
            continue;
        };
        let door = Arc::clone(&door);
        connections.spawn(async move {
            serve(stream, address, &door).await;
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, address: SocketAddr, door: &Door) {
    // A failure shows itself as slower messages only.
    let _ = stream.set_nodelay(true);
    let link = match accept(&door.local, stream).await {
        Ok(link) => link,
        Err(error) => return complain(door, address, None, error),
    };
    let peer = link.peer.clone();
    if let Some(remote) = door.remotes.get(&peer) {
        remote.is_back.notify_one();
    }
    let guest = door.guests.enter(&peer);
    let error = tokio::select! {
        error = connection::run(link, &guest.outbox, &door.inputs) => error,
        () = guest.replaced.cancelled() => PeerError::Replaced,
    };
    door.guests.leave(&peer, &guest);
    complain(door, address, Some(peer), error);
}

/// Without the port, which is another one each time.
fn complain(door: &Door, address: SocketAddr, peer: Option<NodeName>, error: PeerError) {
    door.complaints.make(Complaint {
        address: address.ip().to_string(),
        peer,
        error,
    });
}
