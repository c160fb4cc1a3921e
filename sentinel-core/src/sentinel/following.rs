//! Observers: they follow the voters' committed table, answer from it, and vote on nothing.
//!
//! An observer asks every voter for the table, and takes what is newer than what it has. A voter
//! remembers who asked lately, and sends the table when it changes. No observer is part of Raft, so
//! any number of them changes nothing about a majority.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::{NodeName, Term};
use crate::peer::{PeerMessage, TableUpdate};
use crate::sentinel::{Output, Sentinel};
use crate::time::Instant;

/// How often an observer asks; an answer comes at once, and again with each change.
const ASK_PACE: Duration = Duration::from_millis(500);

/// An observer that has not asked for so long is forgotten.
const ASKER_PATIENCE: Duration = Duration::from_secs(3);

/// Observers that one voter serves.
const ASKERS_MAX: usize = 1000;

/// Both sides of following: whom a voter serves, and what an observer was told.
#[derive(Debug, Default)]
pub(super) struct Following {
    askers: BTreeMap<NodeName, (Instant, u64)>,
    asked_at: Option<Instant>,
    term: Term,
    leader: Option<NodeName>,
}

impl Following {
    pub(super) fn term(&self) -> Term {
        self.term
    }

    pub(super) fn leader(&self) -> Option<NodeName> {
        self.leader.clone()
    }
}

impl Sentinel {
    /// An observer asks every voter, at its pace.
    pub(super) fn follow(&mut self, now: Instant) {
        let due = self
            .following
            .asked_at
            .is_none_or(|at| now.since(at) >= ASK_PACE);
        if self.raft.is_some() || !due {
            return;
        }
        self.following.asked_at = Some(now);
        let have = self.table.index;
        for voter in &self.settings.voters {
            let message = Box::new(PeerMessage::Follow { have });
            self.outputs.push_back(Output::Send {
                to: voter.clone(),
                message,
            });
        }
    }

    /// A voter is asked for its table.
    pub(super) fn on_follow(&mut self, now: Instant, from: NodeName, have: u64) {
        self.following
            .askers
            .retain(|_, (asked_at, _)| now.since(*asked_at) < ASKER_PATIENCE);
        let known = self.following.askers.contains_key(&from);
        if self.raft.is_none() || (!known && self.following.askers.len() >= ASKERS_MAX) {
            return;
        }
        self.following.askers.insert(from.clone(), (now, have));
        self.send_table(now, from, have);
    }

    /// The table has changed: everybody who asked lately is told.
    pub(super) fn table_changed(&mut self, now: Instant) {
        self.following
            .askers
            .retain(|_, (asked_at, _)| now.since(*asked_at) < ASKER_PATIENCE);
        let askers: Vec<(NodeName, u64)> = self
            .following
            .askers
            .iter()
            .map(|(n, (_, have))| (n.clone(), *have))
            .collect();
        for (asker, have) in askers {
            self.send_table(now, asker, have);
        }
    }

    fn send_table(&mut self, now: Instant, to: NodeName, have: u64) {
        let heard = if self.is_leader() {
            self.contact(now)
        } else {
            self.leader_heard
        };
        let update = TableUpdate {
            term: self.term(),
            leader: self.leader(),
            leader_heard_ago: heard.map(|at| now.since(at)),
            index: self.table.index,
            table: (have < self.table.index).then(|| self.table.clone()),
        };
        self.outputs.push_back(Output::Send {
            to,
            message: Box::new(PeerMessage::Table(Box::new(update))),
        });
    }

    /// An observer is told; what is older than what it has is ignored, so that answers never go back.
    pub(super) fn on_table(&mut self, now: Instant, update: TableUpdate) {
        if self.raft.is_some() {
            return;
        }
        if update.term >= self.following.term {
            self.following.term = update.term;
            if update.leader.is_some() {
                self.following.leader = update.leader;
            }
        }
        // An instant before the origin cannot be told; it is stale in any case.
        let heard = update.leader_heard_ago.and_then(|ago| now.before(ago));
        // Contact of a voter that has an older table says nothing about how current ours is.
        if update.index >= self.table.index {
            self.leader_heard = self.leader_heard.max(heard);
        }
        if let Some(table) = update.table.filter(|table| table.index > self.table.index) {
            self.install(now, table);
        }
    }
}
