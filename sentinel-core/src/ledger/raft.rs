//! Agrees on an order of commands with the other voters: raft-rs's `RawNode`, without IO and without chance.
//!
//! Decides who leads and what is committed, from ticks, messages and proposals alone. Does not know what a
//! command or a table means, nor time beyond its own beat. raft-rs's types do not leave this file,
//! `raft_message.rs`, `raft_output.rs` and `memory_log.rs` (docs/adr/0001-raft.md).
//!
//! Order contract of [`RaftLog::poll`]: a [`RaftOutput::Persist`] is durable before any later output is carried
//! out. What does not depend on it, a leader's messages, comes before it, so that followers write at the same
//! time. A commit index is persisted before its entries are handed out: what this node has once answered
//! from, it must know again after a restart.

use std::collections::BTreeMap;
use std::fmt;

use raft::{Config, RawNode, Ready, SnapshotStatus, StateRole};

use super::election_timeout::{Draw, ElectionTimeout};
use super::memory_log::MemoryLog;
pub use super::raft_message::StepError;
use super::raft_message::{
    Ends, Receiver, check, entry_from_raft, message_to_raft, refusal, snapshot_from_raft,
    takes_back, without_lost_commit,
};
pub use super::raft_output::RaftOutput;
use super::raft_output::{HandedOut, Outbox};
pub use super::raft_start::RaftStartError;
use super::raft_start::{checked, number_voters};
use crate::config::{NodeRole, NodeSettings};
use crate::id::{NodeName, Term};
use crate::peer::{HardState, Persist, RaftMessage, Restored};
use crate::planted::{Bug, Bugs};

/// Entries are packed into messages up to this size; a longer entry travels alone.
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Proposals that wait for their commit; more are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Messages on their way to one follower before its first answer.
const MESSAGES_IN_FLIGHT_MAX: usize = 256;

/// Why a proposal was not taken. It is in no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or none.
    #[error("this node does not lead")]
    NotLeader,
    /// The leadership is being handed over, or too much waits to be committed: propose again later.
    #[error("the leader takes no proposal right now")]
    Busy,
}

/// One voter's Raft log.
///
/// Invariants: `voters` holds every voter and `numbers` the same, ascending; the election timeout is the pinned
/// one after every call (see `RaftLog::pin_election_timeout`).
pub struct RaftLog {
    node: RawNode<MemoryLog>,
    name: NodeName,
    voters: BTreeMap<NodeName, u64>,
    numbers: Vec<u64>,
    election_timeout: ElectionTimeout,
    bugs: Bugs,
    outbox: Outbox,
}

impl RaftLog {
    /// Starts from what the disk gave back; `Restored::default()` on a fresh one, where every voter starts
    /// with the same voters at index 0. Committed entries after the snapshot are handed out again.
    pub fn new(settings: &NodeSettings, restored: Restored) -> Result<Self, RaftStartError> {
        if settings.role != NodeRole::Voter || !settings.voters.contains(&settings.name) {
            return Err(RaftStartError::NotAVoter(settings.name.clone()));
        }
        let voters = number_voters(settings.voters.iter())?;
        let mut numbers: Vec<u64> = voters.values().copied().collect();
        numbers.sort_unstable();
        let restored = checked(restored, &voters)?;
        let snapshot = restored.snapshot.as_ref();
        let handed_out = snapshot.map_or_else(HandedOut::default, HandedOut::by_snapshot);
        let outbox = Outbox::new(&voters, handed_out);
        let election_timeout = ElectionTimeout::new(&settings.timing, settings.seed);
        let config = Config {
            applied: handed_out.index,
            heartbeat_tick: settings.timing.heartbeat_ticks as usize,
            election_tick: election_timeout.shortest,
            min_election_tick: election_timeout.shortest,
            max_election_tick: election_timeout.longest + 1,
            ..config(voters[&settings.name])
        };
        let log = MemoryLog::new(numbers.clone(), restored);
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, log, &silent)
            .map_err(|error| RaftStartError::Refused(error.to_string()))?;
        let mut raft = Self {
            node,
            name: settings.name.clone(),
            voters,
            numbers,
            election_timeout,
            bugs: settings.bugs.clone(),
            outbox,
        };
        raft.pin_election_timeout();
        Ok(raft)
    }

    /// One beat of Raft's clock.
    pub fn tick(&mut self) {
        self.collect();
        self.node.tick();
        self.pin_election_timeout();
    }

    /// Takes a message from another voter. An error is worth an alarm; the node goes on.
    pub fn step(&mut self, from: &NodeName, mut message: RaftMessage) -> Result<(), StepError> {
        let unknown = || StepError::UnknownSender(from.clone());
        if *from == self.name {
            return Err(unknown());
        }
        let ends = Ends {
            from: *self.voters.get(from).ok_or_else(unknown)?,
            to: self.node.raft.id,
        };
        let receiver = Receiver {
            last_index: self.node.raft.raft_log.last_index(),
            leads_term: self.is_leader().then_some(self.node.raft.term),
            voters: &self.numbers,
        };
        check(&message, &receiver)?;
        let kept = without_lost_commit(&mut message, receiver.last_index);
        self.forget_what_was_taken_back(ends.from, &message);
        let kind = message.kind;
        let message = message_to_raft(message, ends).ok_or(StepError::Kind(kind))?;
        // raft-rs assumes that its log is persisted when it counts votes; and messages of two roles must not
        // come out of one Ready, where the last role decides which of them wait for the disk.
        self.collect();
        let stepped = self.node.step(message);
        self.pin_election_timeout();
        if kept.is_err() {
            self.ask_for_what_was_lost();
        }
        stepped.map_err(|error| StepError::Refused(error.to_string()))?;
        kept
    }

    /// Stands for election at once, by way of a pre-vote.
    pub fn campaign(&mut self) {
        self.collect();
        // A leader ignores it, and so may a node that cannot be elected: then nothing happens.
        let _ignored = self.node.campaign();
        self.pin_election_timeout();
    }

    /// Proposes a command. It is committed once it comes back as [`RaftOutput::Committed`], and may be lost
    /// with the leadership.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        let proposed = self.node.propose(Vec::new(), data);
        self.pin_election_timeout();
        proposed.map_err(|_dropped| ProposeError::Busy)
    }

    /// The next thing to carry out.
    pub fn poll(&mut self) -> Option<RaftOutput> {
        if self.outbox.is_empty() {
            self.collect();
        }
        self.outbox.take()
    }

    /// Puts the encoded table at `index`, which was handed out, in place of the entries up to it. A
    /// [`RaftOutput::Persist`] follows. An index that a snapshot holds already is ignored.
    pub fn compact(&mut self, index: u64, data: Vec<u8>) {
        assert!(
            index <= self.outbox.handed_out.index,
            "a table at {index} is made of entries that were handed out, up to {}",
            self.outbox.handed_out.index
        );
        // A leader's snapshot on its way out of `poll` may have overtaken this one.
        self.collect();
        if index <= self.node.store().snapshot_index() {
            return;
        }
        let persist = Persist {
            snapshot: Some(self.node.store().snapshot_at(index, data)),
            entries: Vec::new(),
            hard_state: Some(self.hard_state()),
        };
        self.put_persist(persist);
    }

    /// Entries handed out since the newest snapshot: what [`RaftLog::compact`] could put into one.
    pub fn entries_since_snapshot(&self) -> u64 {
        let snapshot = self.node.store().snapshot_index();
        self.outbox.handed_out.index.saturating_sub(snapshot)
    }

    /// The leader that this node follows; itself when it leads.
    pub fn leader(&self) -> Option<&NodeName> {
        self.name_of(self.node.raft.leader_id)
    }

    /// The newest term seen.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// Whether this node leads. It may have been replaced without knowing it yet.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether this node leads and its table holds everything committed before its term: the first entry
    /// of its own term has been handed out.
    pub fn leads_committed(&self) -> bool {
        self.is_leader() && self.outbox.handed_out.term == self.term()
    }

    /// Hands the leadership to the follower that is most up to date, one that answered lately if there is any.
    /// Nothing happens unless this node leads. Proposals are refused until it is done or an election timeout
    /// has passed.
    pub fn transfer_leadership(&mut self) {
        if !self.is_leader() {
            return;
        }
        let followers = self.voters.iter().filter(|(name, _)| **name != self.name);
        let ranked = followers.filter_map(|(name, &number)| {
            let progress = self.node.raft.prs().get(number)?;
            let rank = (progress.recent_active, progress.matched);
            Some((rank, std::cmp::Reverse(name), number))
        });
        if let Some((_, _, number)) = ranked.max() {
            self.node.transfer_leader(number);
            self.pin_election_timeout();
        }
    }

    /// Whether this node is its own majority.
    pub fn has_single_voter(&self) -> bool {
        self.voters.len() == 1
    }

    /// Every voter, this node included, in order of their names.
    pub fn voter_names(&self) -> impl Iterator<Item = &NodeName> {
        self.voters.keys()
    }

    /// Begins again with a follower that lost what it had acknowledged. raft-rs takes such a refusal for an old
    /// one and would never send it an entry again. Counting less than a follower has is always safe, so
    /// that a refusal which really is old costs one exchange.
    fn forget_what_was_taken_back(&mut self, follower: u64, message: &RaftMessage) {
        if !self.is_leader() || message.term != self.node.raft.term {
            return;
        }
        if let Some(progress) = self.node.raft.mut_prs().get_mut(follower)
            && takes_back(message, progress.matched)
        {
            progress.matched = 0;
            progress.become_probe();
            progress.next_idx = message.reject_hint + 1;
        }
    }

    /// Tells the leader that this node's log is shorter than it thinks; a heartbeat alone would never show it.
    fn ask_for_what_was_lost(&mut self) {
        let Some(leader) = self.leader().cloned() else {
            return;
        };
        // The term of the refusal must be durable before it is sent.
        self.collect();
        let message = refusal(self.node.raft.term, self.node.raft.raft_log.last_index());
        self.outbox.put(RaftOutput::Send {
            to: leader,
            message,
        });
    }

    /// raft-rs draws a random election timeout whenever its state changes; called after every call, this
    /// overwrites the draw before anything looks at it.
    fn pin_election_timeout(&mut self) {
        let raft = &self.node.raft;
        let ticks = self.election_timeout.ticks(Draw {
            number: raft.id,
            term: raft.term,
            role: raft.state as u64,
        });
        self.node.raft.set_randomized_election_timeout(ticks);
    }

    /// Moves everything that raft-rs has ready into the outbox.
    fn collect(&mut self) {
        while self.node.has_ready() {
            let ready = self.node.ready();
            self.collect_ready(ready);
        }
        self.pin_election_timeout();
    }

    fn collect_ready(&mut self, ready: Ready) {
        // A leader's own messages do not depend on its disk: it counts itself only after the write.
        let mut snapshots_sent = self.outbox.put_messages(ready.messages());
        let dependent = ready.persisted_messages();
        let persist = persist_of(&ready);
        if self.bugs.has(Bug::SendBeforePersist) {
            snapshots_sent.extend(self.outbox.put_messages(dependent));
            self.put_persist(persist);
        } else {
            self.put_persist(persist);
            snapshots_sent.extend(self.outbox.put_messages(dependent));
        }
        if !ready.snapshot().is_empty() {
            let snapshot = snapshot_from_raft(ready.snapshot());
            self.outbox.put(RaftOutput::Install(snapshot));
        }
        self.outbox.put_committed(ready.committed_entries());
        let light = self.node.advance_append(ready);
        snapshots_sent.extend(self.outbox.put_messages(light.messages()));
        if light.commit_index().is_some() {
            let hard_state = Some(self.hard_state());
            self.put_persist(Persist {
                hard_state,
                ..Persist::default()
            });
        }
        self.outbox.put_committed(light.committed_entries());
        self.node.advance_apply();
        // Nobody tells whether a snapshot arrived. raft-rs would wait for ever; told that it did, it asks the
        // follower, and sends another one if not.
        for follower in snapshots_sent {
            self.node.report_snapshot(follower, SnapshotStatus::Finish);
        }
    }

    fn put_persist(&mut self, persist: Persist) {
        if persist == Persist::default() {
            return;
        }
        self.node.mut_store().apply(&persist);
        self.outbox.put(RaftOutput::Persist(persist));
    }

    fn hard_state(&self) -> HardState {
        hard_state_from_raft(&self.node.raft.hard_state())
    }

    fn name_of(&self, number: u64) -> Option<&NodeName> {
        self.outbox.name_of(number)
    }
}

impl fmt::Debug for RaftLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftLog")
            .field("name", &self.name)
            .field("state", &self.node.raft.state)
            .field("term", &self.term())
            .field("leader", &self.leader())
            .field("log", &self.node.raft.raft_log.to_string())
            .field("handed_out", &self.outbox.handed_out)
            .finish_non_exhaustive()
    }
}

fn config(id: u64) -> Config {
    Config {
        id,
        pre_vote: true,
        check_quorum: true,
        max_size_per_msg: MESSAGE_BYTES_MAX,
        max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
        max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
        batch_append: true,
        ..Config::default()
    }
}

fn persist_of(ready: &Ready) -> Persist {
    let snapshot = Some(ready.snapshot()).filter(|snapshot| !snapshot.is_empty());
    Persist {
        snapshot: snapshot.map(snapshot_from_raft),
        entries: ready.entries().iter().map(entry_from_raft).collect(),
        hard_state: ready.hs().map(hard_state_from_raft),
    }
}

fn hard_state_from_raft(hard_state: &raft::eraftpb::HardState) -> HardState {
    HardState {
        term: hard_state.term,
        vote: hard_state.vote,
        commit: hard_state.commit,
    }
}

#[cfg(test)]
mod storm_tests;
#[cfg(test)]
mod tests;
