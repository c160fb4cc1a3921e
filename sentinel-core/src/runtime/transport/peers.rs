//! All peers of a node: the dialers to the voters, and the listener for everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use crate::codec::ENCODED_BYTES_MAX;
use crate::id::NodeName;
use crate::peer::PeerMessage;
use crate::runtime::Clock;
use crate::sentinel::Input;

use super::complaint::{Complaint, Complaints};
use super::connection;
use super::dialer::{self, Remote};
use super::handshake::Local;
use super::key::KeyError;
use super::listener::{self, Door, Guests};

/// The connections of a node. Dropping it closes them all, a moment later.
#[derive(Debug)]
pub struct Peers {
    door: Arc<Door>,
    tasks: JoinSet<()>,
}

impl Peers {
    /// Starts connecting and listening. What arrives goes into `inputs`; an address of this node itself is left out.
    /// Without a key the listener must be on loopback.
    pub fn start(
        local: Local,
        addresses: BTreeMap<NodeName, String>,
        listener: Option<TcpListener>,
        inputs: mpsc::Sender<Input>,
    ) -> Result<Self, KeyError> {
        let listen = listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok());
        if let Some(listen) =
            listen.filter(|listen| local.key.is_none() && !listen.ip().is_loopback())
        {
            return Err(KeyError::Needed { listen });
        }
        let local = Arc::new(local);
        let complaints = Arc::new(Complaints::new(Clock::new()));
        let remotes: BTreeMap<_, _> = addresses
            .into_iter()
            .filter(|(name, _)| *name != local.name)
            .map(|(name, address)| {
                let remote = Remote {
                    name: name.clone(),
                    address,
                    outbox: Default::default(),
                    is_back: Default::default(),
                };
                (name, Arc::new(remote))
            })
            .collect();
        let mut tasks = JoinSet::new();
        for remote in remotes.values() {
            let (remote, local) = (Arc::clone(remote), Arc::clone(&local));
            tasks.spawn(dialer::run(
                remote,
                local,
                inputs.clone(),
                Arc::clone(&complaints),
            ));
        }
        let door = Arc::new(Door {
            local,
            inputs,
            complaints,
            guests: Guests::default(),
            remotes,
        });
        if let Some(listener) = listener {
            tasks.spawn(listener::run(listener, Arc::clone(&door)));
        }
        Ok(Self { door, tasks })
    }

    /// Queues a message; it may be lost, and never keeps the caller waiting.
    pub fn send(&self, to: &NodeName, message: &PeerMessage) {
        let bytes = connection::encode(message);
        if bytes.len() > ENCODED_BYTES_MAX {
            tracing::warn!(peer = %to, bytes = bytes.len(), "a message is too large to be sent; guard fewer services with one cluster");
            return;
        }
        match self.door.remotes.get(to) {
            Some(remote) => remote.outbox.push(bytes),
            None => self.door.guests.push(to, bytes),
        }
    }

    /// Closes everything; afterwards the listener's address is free.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }

    /// Every connection that ends from here on, with its reason.
    pub fn complaints(&self) -> broadcast::Receiver<Arc<Complaint>> {
        self.door.complaints.listen()
    }
}
