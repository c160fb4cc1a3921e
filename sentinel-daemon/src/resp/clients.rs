//! Who is connected: bounds the number of clients, and renders `CLIENT LIST` and `CLIENT INFO`.
//!
//! The list is locked when a client comes, goes or asks for it. What changes with every request is kept in
//! atomics, so that answering takes no lock.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sentinel_core::time::Instant;

use crate::resp::command::{Command, name_of};
use crate::resp::reply::Protocol;

/// All clients of one endpoint.
#[derive(Debug)]
pub struct Clients {
    connections_max: usize,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
    /// Number of the newest client, which is how many there ever were.
    newest: AtomicU64,
    /// Clients that were turned away.
    pub rejected: AtomicU64,
    /// Requests that were answered.
    pub requests: AtomicU64,
}

/// One connected client.
#[derive(Debug)]
pub struct Client {
    /// Its number; never used again.
    pub id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    since: Instant,
    seen_nanos: AtomicU64,
    command: AtomicU8,
    traits: Mutex<Traits>,
}

/// What a client says of itself, and what it listens to. Changes rarely.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    /// By `CLIENT SETNAME` or `HELLO … SETNAME`; empty when it has none.
    pub name: String,
    /// By `CLIENT SETINFO LIB-NAME`.
    pub lib_name: String,
    /// By `CLIENT SETINFO LIB-VER`.
    pub lib_version: String,
    /// Channels that it listens to.
    pub channels: usize,
    /// Patterns that it listens to.
    pub patterns: usize,
    /// Version that it speaks.
    pub protocol: Protocol,
}

/// Takes its client off the list when it is dropped.
#[derive(Debug)]
pub struct Connected {
    clients: Arc<Clients>,
    /// The client.
    pub client: Arc<Client>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        unpoisoned(&self.clients.connected).remove(&self.client.id);
    }
}

/// Nothing panics while these locks are held, and what they guard is whole after every statement.
fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    /// No clients yet.
    pub fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self {
            connections_max,
            connected: Mutex::default(),
            newest: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        })
    }

    /// Lets a client in, unless there are as many as there may be.
    pub fn connect(
        self: &Arc<Self>,
        now: Instant,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Option<Connected> {
        let mut connected = unpoisoned(&self.connected);
        if connected.len() >= self.connections_max {
            self.rejected.fetch_add(1, Relaxed);
            return None;
        }
        let client = Arc::new(Client {
            id: self.newest.fetch_add(1, Relaxed) + 1,
            peer,
            local,
            since: now,
            seen_nanos: AtomicU64::new(now.as_nanos()),
            command: AtomicU8::new(Command::Hello as u8),
            traits: Mutex::default(),
        });
        connected.insert(client.id, client.clone());
        Some(Connected {
            clients: self.clone(),
            client,
        })
    }

    /// How many there may be.
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        unpoisoned(&self.connected).len()
    }

    /// How many there ever were.
    pub fn total(&self) -> u64 {
        self.newest.load(Relaxed)
    }

    /// Channels and patterns of all clients together; one that two clients listen to counts twice.
    pub fn subscriptions(&self) -> (usize, usize) {
        let connected = unpoisoned(&self.connected);
        connected.values().fold((0, 0), |sum, client| {
            let traits = unpoisoned(&client.traits);
            (sum.0 + traits.channels, sum.1 + traits.patterns)
        })
    }

    /// `CLIENT LIST`: a line for each client that is wanted.
    pub fn list(&self, now: Instant, mut wanted: impl FnMut(&Client) -> bool) -> String {
        let connected = unpoisoned(&self.connected);
        let mut text = String::new();
        for client in connected.values().filter(|client| wanted(client)) {
            client.describe(now, &mut text);
        }
        text
    }
}

impl Client {
    /// It asked for this.
    pub fn asked(&self, now: Instant, command: Command) {
        self.seen_nanos.store(now.as_nanos(), Relaxed);
        self.command.store(command as u8, Relaxed);
    }

    /// What it says of itself.
    pub fn traits(&self) -> MutexGuard<'_, Traits> {
        unpoisoned(&self.traits)
    }

    /// Whether it listens to anything.
    pub fn is_subscriber(&self) -> bool {
        let traits = self.traits();
        traits.channels + traits.patterns > 0
    }

    /// `CLIENT INFO`: its line. Fields of Redis that have no meaning here are 0 or what Redis shows for none.
    pub fn describe(&self, now: Instant, text: &mut String) {
        let traits = self.traits();
        let seen = Instant::from_nanos(self.seen_nanos.load(Relaxed));
        let seconds = |duration: Duration| duration.as_secs();
        let subscribes = traits.channels + traits.patterns > 0;
        writeln!(
            text,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub={} psub={} ssub=0 multi=-1 \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            traits.name,
            seconds(now.since(self.since)),
            seconds(now.since(seen)),
            if subscribes { "P" } else { "N" },
            traits.channels,
            traits.patterns,
            name_of(self.command.load(Relaxed)),
            match traits.protocol {
                Protocol::Resp2 => 2,
                Protocol::Resp3 => 3,
            },
            traits.lib_name,
            traits.lib_version,
        )
        .expect("writing to a string cannot fail");
    }
}
