//! What the Raft log asks for, waiting in order to be carried out.
//!
//! Turns raft-rs's messages and entries into outputs, and remembers which entry was handed out last. Does not
//! know what depends on what: the order in which things are put in is the order in which they come out.

use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{Entry, Message};

use super::raft_message::{entry_from_raft, message_from_raft};
use crate::id::{NodeName, Term};
use crate::peer::{Persist, RaftMessage, SnapshotRecord};

/// What the Raft log asks for, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaftOutput {
    /// Make this durable before anything after it.
    Persist(Persist),
    /// Send to another voter; may be lost.
    Send {
        /// The voter.
        to: NodeName,
        /// The message.
        message: RaftMessage,
    },
    /// Agreed: apply it. Indexes rise by one from the snapshot on.
    Committed {
        /// Index of the entry.
        index: u64,
        /// Term of the leader that made it.
        term: Term,
        /// The command; empty for a leader's first entry.
        data: Vec<u8>,
    },
    /// Replace the table by this one: this node was too far behind for single entries.
    Install(SnapshotRecord),
}

/// The entry that was handed out last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HandedOut {
    /// Its index; 0 for none.
    pub(super) index: u64,
    /// Its term.
    pub(super) term: Term,
}

impl HandedOut {
    pub(super) fn by_snapshot(snapshot: &SnapshotRecord) -> Self {
        Self {
            index: snapshot.index,
            term: Term(snapshot.term),
        }
    }
}

/// Outputs in order. `handed_out` is of what was taken out, not of what waits.
pub(super) struct Outbox {
    queue: VecDeque<RaftOutput>,
    names: BTreeMap<u64, NodeName>,
    pub(super) handed_out: HandedOut,
}

impl Outbox {
    pub(super) fn new(voters: &BTreeMap<NodeName, u64>, handed_out: HandedOut) -> Self {
        let names = voters.iter().map(|(name, &number)| (number, name.clone()));
        Self {
            queue: VecDeque::new(),
            names: names.collect(),
            handed_out,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The voter of a Raft number.
    pub(super) fn name_of(&self, number: u64) -> Option<&NodeName> {
        self.names.get(&number)
    }

    /// Takes out the oldest output.
    pub(super) fn take(&mut self) -> Option<RaftOutput> {
        let output = self.queue.pop_front()?;
        match &output {
            RaftOutput::Committed { index, term, .. } => {
                let (index, term) = (*index, *term);
                self.handed_out = HandedOut { index, term };
            }
            RaftOutput::Install(snapshot) => self.handed_out = HandedOut::by_snapshot(snapshot),
            RaftOutput::Persist(_) | RaftOutput::Send { .. } => {}
        }
        Some(output)
    }

    pub(super) fn put(&mut self, output: RaftOutput) {
        self.queue.push_back(output);
    }

    /// Puts messages in, in order of the receivers' names, and returns who is sent a snapshot.
    pub(super) fn put_messages(&mut self, messages: &[Message]) -> Vec<u64> {
        let mut sends: Vec<(&NodeName, &Message)> = messages
            .iter()
            .filter_map(|message| Some((self.names.get(&message.to)?, message)))
            .collect();
        sends.sort_by_key(|(to, _)| *to);
        let sends = sends.into_iter().map(|(to, message)| RaftOutput::Send {
            to: to.clone(),
            message: message_from_raft(message),
        });
        self.queue.extend(sends);
        let snapshots = messages.iter().filter(|message| message.has_snapshot());
        snapshots.map(|message| message.to).collect()
    }

    pub(super) fn put_committed(&mut self, entries: &[Entry]) {
        let committed = entries.iter().map(entry_from_raft);
        self.queue
            .extend(committed.map(|entry| RaftOutput::Committed {
                index: entry.index,
                term: Term(entry.term),
                data: entry.data,
            }));
    }
}
