//! Agrees on an order of commands with the other voters: raft-rs's `RawNode`, without IO and without chance.
//!
//! Decides who leads and what is committed, from ticks, messages and proposals alone. Does not know what a
//! command or a table means, nor time beyond its own beat. raft-rs's types do not leave `raft.rs`,
//! `raft_message.rs` and `memory_log.rs` (docs/adr/0001-raft.md).
//!
//! Order contract of [`RaftLog::poll`]: a [`RaftOutput::Persist`] is durable before any later output is carried
//! out. What does not depend on it, a leader's messages, comes before it, so that followers write at the same
//! time. A commit index is persisted before its entries are handed out: what this node has once answered
//! from, it must know again after a restart.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use raft::{Config, RawNode, Ready, SnapshotStatus, StateRole};

use super::memory_log::MemoryLog;
pub use super::raft_message::StepError;
use super::raft_message::{
    Ends, Receiver, check, entry_from_raft, message_from_raft, message_to_raft, snapshot_from_raft,
};
use crate::config::{NodeRole, NodeSettings, Timing};
use crate::id::{NodeName, Term};
use crate::peer::{HardState, Persist, RaftMessage, Restored, SnapshotRecord};
use crate::planted::{Bug, Bugs};

/// Entries are packed into messages up to this size; a longer entry travels alone.
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Proposals that wait for their commit; more are refused.
const UNCOMMITTED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Messages on their way to one follower before its first answer.
const MESSAGES_IN_FLIGHT_MAX: usize = 256;

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

/// Why the Raft log cannot start. Nothing was changed on the disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaftStartError {
    /// Observers have no Raft log.
    #[error("node `{0}` is no voter and keeps no raft log")]
    NotAVoter(NodeName),
    /// Two names give the same Raft number.
    #[error("voters `{first}` and `{second}` have the same raft number: rename one of them")]
    NumberCollision {
        /// One of them.
        first: NodeName,
        /// The other.
        second: NodeName,
    },
    /// The data folder is of a cluster with other voters.
    #[error(
        "the data folder was written with other voters ({missing:?} of [voters] are not in it, {foreign} of its own are not in [voters]): restore [voters] as it was"
    )]
    VotersDiffer {
        /// Voters of the settings that the snapshot does not have.
        missing: Vec<NodeName>,
        /// How many voters of the snapshot the settings do not have.
        foreign: usize,
    },
    /// An entry is missing, or is there twice.
    #[error(
        "the raft log has entry {found} where {wanted} belongs: replace this node's data folder"
    )]
    Hole {
        /// The index that should come next.
        wanted: u64,
        /// The index that does.
        found: u64,
    },
    /// An entry's term is impossible after those before it, or beyond the newest term that was persisted.
    #[error(
        "entry {index} of the raft log has term {term}, which cannot be: replace this node's data folder"
    )]
    Term {
        /// Index of the entry, or of the snapshot.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The log ends before what is known to be committed. This node may have acknowledged what it lost, so
    /// that going on could elect a leader without it.
    #[error(
        "entries up to {commit} are committed and the raft log ends at {last}: acknowledged entries were lost, replace this node's data folder"
    )]
    CommittedMissing {
        /// Newest index known to be committed.
        commit: u64,
        /// Newest index in the log.
        last: u64,
    },
    /// A kind of entry that this version does not know.
    #[error("entry {index} of the raft log is of kind {kind}: run the version that wrote it")]
    Kind {
        /// Index of the entry.
        index: u64,
        /// Its kind.
        kind: i32,
    },
    /// raft-rs refuses the settings.
    #[error("raft refused to start: {0}")]
    Refused(String),
}

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
/// one after every call (see [`RaftLog::pin_election_timeout`]); `handed_out` is the newest index given out by
/// `poll`, never beyond what raft-rs thinks is applied.
pub struct RaftLog {
    node: RawNode<MemoryLog>,
    name: NodeName,
    voters: BTreeMap<NodeName, u64>,
    numbers: Vec<u64>,
    election_ticks: ElectionTicks,
    seed: u64,
    bugs: Bugs,
    outputs: VecDeque<RaftOutput>,
    handed_out: Applied,
}

/// What was handed out last.
#[derive(Clone, Copy, Debug)]
struct Applied {
    index: u64,
    term: Term,
}

/// Bounds of an election timeout in beats, both included.
#[derive(Clone, Copy, Debug)]
struct ElectionTicks {
    shortest: usize,
    longest: usize,
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
        let handed_out = Applied {
            index: snapshot.map_or(0, |snapshot| snapshot.index),
            term: Term(snapshot.map_or(0, |snapshot| snapshot.term)),
        };
        let election_ticks = ElectionTicks::of(&settings.timing);
        let config = Config {
            applied: handed_out.index,
            heartbeat_tick: settings.timing.heartbeat_ticks as usize,
            election_tick: election_ticks.shortest,
            min_election_tick: election_ticks.shortest,
            max_election_tick: election_ticks.longest + 1,
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
            election_ticks,
            seed: settings.seed,
            bugs: settings.bugs.clone(),
            outputs: VecDeque::new(),
            handed_out,
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

    /// Takes a message from another voter. An error changed nothing.
    pub fn step(&mut self, from: &NodeName, message: RaftMessage) -> Result<(), StepError> {
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
        let kind = message.kind;
        let message = message_to_raft(message, ends).ok_or(StepError::Kind(kind))?;
        // raft-rs assumes that its log is persisted when it counts votes.
        self.collect();
        let stepped = self.node.step(message);
        self.pin_election_timeout();
        stepped.map_err(|error| StepError::Refused(error.to_string()))
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
        if self.outputs.is_empty() {
            self.collect();
        }
        let output = self.outputs.pop_front()?;
        match &output {
            RaftOutput::Committed { index, term, .. } => {
                self.handed_out = Applied {
                    index: *index,
                    term: *term,
                };
            }
            RaftOutput::Install(snapshot) => {
                self.handed_out = Applied {
                    index: snapshot.index,
                    term: Term(snapshot.term),
                };
            }
            RaftOutput::Persist(_) | RaftOutput::Send { .. } => {}
        }
        Some(output)
    }

    /// Puts the encoded table at `index`, which was handed out, in place of the entries up to it. A
    /// [`RaftOutput::Persist`] follows. An index that a snapshot holds already is ignored.
    pub fn compact(&mut self, index: u64, data: Vec<u8>) {
        assert!(
            index <= self.handed_out.index,
            "a table at {index} is made of entries that were handed out, up to {}",
            self.handed_out.index
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
        self.handed_out.index.saturating_sub(snapshot)
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
        self.is_leader() && self.handed_out.term == self.term()
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

    /// Makes the election timeout a pure function of seed, node, term and role. raft-rs draws it from the thread's
    /// random numbers whenever its state changes; called after every call, this overwrites the draw before
    /// anything looks at it.
    fn pin_election_timeout(&mut self) {
        let raft = &self.node.raft;
        let hash = [raft.id, raft.term, raft.state as u64]
            .into_iter()
            .fold(mixed(self.seed), |hash, part| mixed(hash ^ part));
        let ElectionTicks { shortest, longest } = self.election_ticks;
        let spread = (longest - shortest + 1) as u64;
        let ticks = shortest + (hash % spread) as usize;
        self.node.raft.set_randomized_election_timeout(ticks);
    }

    /// Moves everything that raft-rs has ready into `outputs`.
    fn collect(&mut self) {
        while self.node.has_ready() {
            let ready = self.node.ready();
            self.collect_ready(ready);
        }
        self.pin_election_timeout();
    }

    fn collect_ready(&mut self, ready: Ready) {
        // A leader's own messages do not depend on its disk: it counts itself only after the write.
        let mut snapshots_sent = self.put_messages(ready.messages());
        let dependent = ready.persisted_messages();
        let persist = persist_of(&ready);
        if self.bugs.has(Bug::SendBeforePersist) {
            snapshots_sent.extend(self.put_messages(dependent));
            self.put_persist(persist);
        } else {
            self.put_persist(persist);
            snapshots_sent.extend(self.put_messages(dependent));
        }
        if !ready.snapshot().is_empty() {
            let snapshot = snapshot_from_raft(ready.snapshot());
            self.outputs.push_back(RaftOutput::Install(snapshot));
        }
        self.put_committed(ready.committed_entries());
        let light = self.node.advance_append(ready);
        snapshots_sent.extend(self.put_messages(light.messages()));
        if light.commit_index().is_some() {
            let hard_state = Some(self.hard_state());
            self.put_persist(Persist {
                hard_state,
                ..Persist::default()
            });
        }
        self.put_committed(light.committed_entries());
        self.node.advance_apply();
        // Nobody tells whether a snapshot arrived. raft-rs would wait for ever; told that it did, it asks the
        // follower, and sends another one if not.
        for follower in snapshots_sent {
            self.node.report_snapshot(follower, SnapshotStatus::Finish);
        }
    }

    /// Puts messages out, in order of the receivers' names, and returns who was sent a snapshot.
    fn put_messages(&mut self, messages: &[raft::eraftpb::Message]) -> Vec<u64> {
        let snapshots = messages.iter().filter(|message| message.has_snapshot());
        let snapshots = snapshots.map(|message| message.to).collect();
        let mut sends: Vec<(NodeName, RaftMessage)> = messages
            .iter()
            .filter_map(|message| {
                let to = self.name_of(message.to)?.clone();
                Some((to, message_from_raft(message)))
            })
            .collect();
        sends.sort_by(|a, b| a.0.cmp(&b.0));
        let sends = sends.into_iter();
        self.outputs
            .extend(sends.map(|(to, message)| RaftOutput::Send { to, message }));
        snapshots
    }

    fn put_persist(&mut self, persist: Persist) {
        if persist == Persist::default() {
            return;
        }
        self.node.mut_store().apply(&persist);
        self.outputs.push_back(RaftOutput::Persist(persist));
    }

    fn put_committed(&mut self, entries: &[raft::eraftpb::Entry]) {
        let committed = entries.iter().map(entry_from_raft);
        self.outputs
            .extend(committed.map(|entry| RaftOutput::Committed {
                index: entry.index,
                term: Term(entry.term),
                data: entry.data,
            }));
    }

    fn hard_state(&self) -> HardState {
        hard_state_from_raft(&self.node.raft.hard_state())
    }

    fn name_of(&self, number: u64) -> Option<&NodeName> {
        self.voters
            .iter()
            .find_map(|(name, &known)| (known == number).then_some(name))
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
            .field("handed_out", &self.handed_out)
            .finish_non_exhaustive()
    }
}

impl ElectionTicks {
    fn of(timing: &Timing) -> Self {
        Self {
            shortest: timing.election_ticks_min as usize,
            longest: timing.election_ticks_max as usize,
        }
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

/// Raft numbers of the voters.
fn number_voters<'a>(
    names: impl Iterator<Item = &'a NodeName>,
) -> Result<BTreeMap<NodeName, u64>, RaftStartError> {
    let mut by_number = BTreeMap::new();
    for name in names {
        if let Some(first) = by_number.insert(raft_number(name.as_str()), name) {
            return Err(RaftStartError::NumberCollision {
                first: first.clone(),
                second: name.clone(),
            });
        }
    }
    Ok(by_number
        .into_iter()
        .map(|(number, name)| (name.clone(), number))
        .collect())
}

/// FNV-1a of the name, so that a number means the same voter on every node without being agreed upon. Never
/// 0, which raft-rs takes for nobody.
fn raft_number(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(1)
}

/// The finisher of splitmix64: every bit of the input moves every bit of the output.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Refuses a log that no sequence of [`Persist`]s could have made.
///
/// A commit index behind the snapshot is raised to it, since a snapshot holds nothing but committed entries. One beyond
/// the last entry is never lowered: a [`Persist`] writes its entries before its hard state, so that a torn
/// tail loses the commit index first, and what is missing was lost after it had been acknowledged.
fn checked(
    mut restored: Restored,
    voters: &BTreeMap<NodeName, u64>,
) -> Result<Restored, RaftStartError> {
    let mut before = (0, 0);
    if let Some(snapshot) = &restored.snapshot {
        check_voters(&snapshot.voters, voters)?;
        before = (snapshot.index, snapshot.term);
        if (snapshot.index == 0) != (snapshot.term == 0) {
            return Err(RaftStartError::Term {
                index: snapshot.index,
                term: snapshot.term,
            });
        }
    }
    for entry in &restored.entries {
        if entry.index != before.0 + 1 {
            return Err(RaftStartError::Hole {
                wanted: before.0 + 1,
                found: entry.index,
            });
        }
        if entry.kind != 0 {
            return Err(RaftStartError::Kind {
                index: entry.index,
                kind: entry.kind,
            });
        }
        if entry.term < before.1.max(1) {
            return Err(RaftStartError::Term {
                index: entry.index,
                term: entry.term,
            });
        }
        before = (entry.index, entry.term);
    }
    let (last, last_term) = before;
    let hard_state = &mut restored.hard_state;
    if hard_state.term < last_term {
        return Err(RaftStartError::Term {
            index: last,
            term: last_term,
        });
    }
    if hard_state.commit > last {
        return Err(RaftStartError::CommittedMissing {
            commit: hard_state.commit,
            last,
        });
    }
    let snapshot = restored.snapshot.as_ref().map_or(0, |s| s.index);
    hard_state.commit = hard_state.commit.max(snapshot);
    Ok(restored)
}

fn check_voters(written: &[u64], voters: &BTreeMap<NodeName, u64>) -> Result<(), RaftStartError> {
    let known = voters.iter();
    let missing: Vec<NodeName> = known
        .filter(|(_, number)| !written.contains(number))
        .map(|(name, _)| name.clone())
        .collect();
    let foreign = written
        .iter()
        .filter(|number| !voters.values().any(|known| known == *number))
        .count();
    if missing.is_empty() && foreign == 0 {
        return Ok(());
    }
    Err(RaftStartError::VotersDiffer { missing, foreign })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::id::ClusterName;
    use crate::ledger::memory_log::ENTRIES_BEHIND_MAX;
    use crate::peer::LogEntry;

    fn settings(name: &str, voters: &[&str], seed: u64) -> NodeSettings {
        NodeSettings {
            cluster: ClusterName::new("test"),
            name: NodeName::new(name),
            role: NodeRole::Voter,
            voters: voters.iter().map(|voter| NodeName::new(*voter)).collect(),
            seed,
            timing: Timing::default(),
            bugs: Bugs::none(),
        }
    }

    /// A node, its disk, and what it was told to be agreed.
    struct Member {
        raft: RaftLog,
        settings: NodeSettings,
        disk: Restored,
        committed: BTreeMap<u64, (Term, Vec<u8>)>,
        installed: Vec<SnapshotRecord>,
        /// Highest (term, index) acknowledged in a message but not on the disk: stays empty unless a bug is planted.
        early: Vec<RaftMessage>,
    }

    /// Nodes on an instant network in which some nodes are cut off.
    struct Cluster {
        members: BTreeMap<NodeName, Member>,
        mail: VecDeque<(NodeName, NodeName, RaftMessage)>,
        cut: BTreeSet<NodeName>,
        trace: Vec<String>,
    }

    impl Member {
        fn start(settings: NodeSettings, disk: Restored) -> Self {
            Self {
                raft: RaftLog::new(&settings, disk.clone()).unwrap(),
                settings,
                disk,
                committed: BTreeMap::new(),
                installed: Vec::new(),
                early: Vec::new(),
            }
        }

        fn restart(&mut self) {
            let disk = self.disk.clone();
            *self = Self::start(self.settings.clone(), disk);
        }

        /// Carries out every output; messages are returned.
        fn drain(&mut self) -> Vec<(NodeName, RaftMessage)> {
            let mut sent = Vec::new();
            while let Some(output) = self.raft.poll() {
                match output {
                    RaftOutput::Persist(persist) => self.disk.absorb(&persist),
                    RaftOutput::Send { to, message } => {
                        // MsgAppendResponse and MsgRequestVoteResponse are promises.
                        let promises_log = message.kind == 4
                            && !message.reject
                            && message.index > self.disk.last_index();
                        let promises_vote = message.kind == 6
                            && !message.reject
                            && message.term > self.disk.hard_state.term;
                        if promises_log || promises_vote {
                            self.early.push(message.clone());
                        }
                        sent.push((to, message));
                    }
                    RaftOutput::Committed { index, term, data } => {
                        assert!(
                            index <= self.disk.hard_state.commit,
                            "known after a restart"
                        );
                        assert!(index <= self.disk.last_index());
                        let newest = self.committed.keys().next_back().copied();
                        let newest = newest.max(self.disk.snapshot.as_ref().map(|s| s.index));
                        assert!(newest.is_none_or(|newest| index > newest));
                        self.committed.insert(index, (term, data));
                    }
                    RaftOutput::Install(snapshot) => {
                        assert_eq!(self.disk.snapshot.as_ref(), Some(&snapshot));
                        self.installed.push(snapshot);
                    }
                }
            }
            sent
        }
    }

    impl Cluster {
        fn new(names: &[&str], seed: u64) -> Self {
            let members = names.iter().map(|name| {
                let settings = settings(name, names, seed);
                (
                    settings.name.clone(),
                    Member::start(settings, Restored::default()),
                )
            });
            Self {
                members: members.collect(),
                mail: VecDeque::new(),
                cut: BTreeSet::new(),
                trace: Vec::new(),
            }
        }

        fn settle(&mut self) {
            loop {
                for (name, member) in &mut self.members {
                    for (to, message) in member.drain() {
                        self.trace.push(format!("{name}>{to} {message:?}"));
                        self.mail.push_back((name.clone(), to, message));
                    }
                }
                let Some((from, to, message)) = self.mail.pop_front() else {
                    return;
                };
                if !self.cut.contains(&from) && !self.cut.contains(&to) {
                    let member = self.members.get_mut(&to).unwrap();
                    member.raft.step(&from, message).unwrap();
                }
            }
        }

        fn tick(&mut self) {
            for member in self.members.values_mut() {
                member.raft.tick();
            }
            self.settle();
        }

        fn ticks_until(&mut self, done: impl Fn(&Self) -> bool) {
            for _ in 0..400 {
                if done(self) {
                    return;
                }
                self.tick();
            }
            panic!("not reached in 400 ticks");
        }

        /// Runs until a node that is not cut off leads with its first entry committed.
        fn elect(&mut self) -> NodeName {
            self.ticks_until(|cluster| cluster.leading().is_some());
            self.leading().unwrap()
        }

        fn leading(&self) -> Option<NodeName> {
            self.members
                .iter()
                .find(|(name, member)| !self.cut.contains(name) && member.raft.leads_committed())
                .map(|(name, _)| name.clone())
        }

        fn at(&mut self, name: &NodeName) -> &mut Member {
            self.members.get_mut(name).unwrap()
        }

        fn propose(&mut self, leader: &NodeName, data: &[u8]) {
            self.at(leader).raft.propose(data.to_vec()).unwrap();
            self.settle();
        }

        fn commands(&self, name: &NodeName) -> Vec<Vec<u8>> {
            let committed = self.members[name].committed.values();
            committed
                .map(|(_, data)| data.clone())
                .filter(|data| !data.is_empty())
                .collect()
        }
    }

    const THREE: [&str; 3] = ["a", "b", "c"];

    #[test]
    fn three_elect_a_leader_and_commit() {
        let mut cluster = Cluster::new(&THREE, 1);
        let leader = cluster.elect();
        cluster.propose(&leader, b"one");
        cluster.propose(&leader, b"two");
        let names: Vec<_> = cluster.members.keys().cloned().collect();
        for name in names {
            assert_eq!(cluster.commands(&name), [b"one", b"two"], "{name}");
            assert!(cluster.at(&name).early.is_empty());
            assert_eq!(cluster.at(&name).raft.leader(), Some(&leader));
            let leads = cluster.at(&name).raft.is_leader();
            assert_eq!(leads, name == leader);
            if !leads {
                let refused = cluster.at(&name).raft.propose(b"no".to_vec());
                assert_eq!(refused, Err(ProposeError::NotLeader));
            }
        }
    }

    #[test]
    fn a_single_voter_leads_itself() {
        let mut cluster = Cluster::new(&["a"], 1);
        let name = NodeName::new("a");
        assert!(cluster.at(&name).raft.has_single_voter());
        cluster.at(&name).raft.campaign();
        cluster.settle();
        assert!(cluster.at(&name).raft.leads_committed());
        cluster.propose(&name, b"one");
        assert_eq!(cluster.commands(&name), [b"one"]);
    }

    #[test]
    fn a_leader_that_is_cut_off_steps_down_and_loses_what_it_could_not_commit() {
        let mut cluster = Cluster::new(&THREE, 2);
        let old = cluster.elect();
        cluster.propose(&old, b"one");
        cluster.cut.insert(old.clone());
        cluster.propose(&old, b"lost");
        let new = cluster.elect();
        assert_ne!(new, old);
        cluster.propose(&new, b"two");
        cluster.ticks_until(|cluster| !cluster.members[&old].raft.is_leader());
        assert!(!cluster.at(&old).raft.leads_committed());
        cluster.cut.clear();
        cluster.ticks_until(|cluster| cluster.commands(&old).len() == 2);
        assert_eq!(cluster.commands(&old), [b"one", b"two"]);
        assert_eq!(cluster.leading(), Some(new), "pre-vote keeps the leader");
    }

    #[test]
    fn a_restart_from_the_disk_hands_out_the_same() {
        let mut cluster = Cluster::new(&THREE, 3);
        let leader = cluster.elect();
        for number in 0..20_u8 {
            cluster.propose(&leader, &[number + 1]);
        }
        let names: Vec<_> = cluster.members.keys().cloned().collect();
        for name in names {
            let before = cluster.at(&name).committed.clone();
            let term = cluster.at(&name).raft.term();
            cluster.at(&name).restart();
            let sent = cluster.at(&name).drain();
            assert!(sent.is_empty());
            assert_eq!(cluster.at(&name).committed, before, "{name}");
            assert_eq!(cluster.at(&name).raft.term(), term);
        }
        let leader = cluster.elect();
        cluster.propose(&leader, b"after");
        assert_eq!(cluster.commands(&leader).len(), 21);
    }

    #[test]
    fn a_follower_far_behind_gets_a_snapshot_and_then_entries() {
        let mut cluster = Cluster::new(&THREE, 4);
        let leader = cluster.elect();
        let names: Vec<_> = cluster.members.keys().cloned().collect();
        let slow = names.into_iter().find(|name| *name != leader).unwrap();
        cluster.cut.insert(slow.clone());
        for _ in 0..ENTRIES_BEHIND_MAX + 100 {
            cluster.propose(&leader, b"x");
        }
        let member = cluster.at(&leader);
        let index = *member.committed.keys().next_back().unwrap();
        assert_eq!(member.raft.entries_since_snapshot(), index);
        member.raft.compact(index - 10, b"table".to_vec());
        assert_eq!(member.raft.entries_since_snapshot(), 10);
        member.raft.compact(index - 20, b"older".to_vec());
        cluster.settle();
        let disk = &cluster.at(&leader).disk;
        assert_eq!(disk.snapshot.as_ref().unwrap().data, b"table");
        assert_eq!(disk.entries.len(), 10);
        cluster.propose(&leader, b"y");
        cluster.cut.clear();
        cluster.ticks_until(|cluster| cluster.members[&slow].committed.contains_key(&(index + 1)));
        let follower = cluster.at(&slow);
        assert_eq!(follower.installed.len(), 1);
        assert_eq!(follower.installed[0].index, index - 10);
        assert_eq!(follower.committed.range(index - 9..).count(), 11);
        // Both continue from their snapshots after a restart.
        for name in [leader, slow] {
            let member = cluster.at(&name);
            member.restart();
            member.drain();
            assert_eq!(*member.committed.keys().next().unwrap(), index - 9);
        }
        cluster.elect();
    }

    #[test]
    fn a_lost_snapshot_is_sent_again() {
        let mut cluster = Cluster::new(&THREE, 5);
        let leader = cluster.elect();
        let names: Vec<_> = cluster.members.keys().cloned().collect();
        let slow = names.into_iter().find(|name| *name != leader).unwrap();
        cluster.cut.insert(slow.clone());
        for _ in 0..ENTRIES_BEHIND_MAX + 100 {
            cluster.propose(&leader, b"x");
        }
        let index = cluster.at(&leader).raft.entries_since_snapshot();
        cluster.at(&leader).raft.compact(index, b"table".to_vec());
        cluster.cut.clear();
        let mut lost = 0;
        for _ in 0..200 {
            for member in cluster.members.values_mut() {
                member.raft.tick();
            }
            for member in cluster.members.values_mut() {
                for (to, message) in member.drain() {
                    if message.snapshot.is_some() && lost < 3 {
                        lost += 1;
                    } else {
                        let from = member.settings.name.clone();
                        cluster.mail.push_back((from, to, message));
                    }
                }
            }
            while let Some((from, to, message)) = cluster.mail.pop_front() {
                cluster.at(&to).raft.step(&from, message).unwrap();
            }
        }
        assert_eq!(lost, 3);
        assert_eq!(cluster.at(&slow).installed.len(), 1);
        assert_eq!(cluster.at(&slow).raft.entries_since_snapshot(), 0);
    }

    #[test]
    fn leadership_moves_to_the_follower_that_is_most_up_to_date() {
        let mut cluster = Cluster::new(&THREE, 6);
        let leader = cluster.elect();
        let names: Vec<_> = cluster.members.keys().cloned().collect();
        let mut others = names.into_iter().filter(|name| *name != leader);
        let (behind, current) = (others.next().unwrap(), others.next().unwrap());
        cluster.cut.insert(behind);
        cluster.propose(&leader, b"one");
        cluster.cut.clear();
        cluster.at(&leader).raft.transfer_leadership();
        let refused = cluster.at(&leader).raft.propose(b"no".to_vec());
        assert_eq!(refused, Err(ProposeError::Busy));
        cluster.settle();
        assert_eq!(cluster.leading(), Some(current));
    }

    /// Runs 2000 ticks with proposals and cuts that do not depend on the seed.
    fn trace(seed: u64) -> (Vec<String>, Option<NodeName>) {
        let mut cluster = Cluster::new(&THREE, seed);
        let first = cluster.elect();
        for tick in 0..2000_u32 {
            let at = cluster.leading();
            if let (0, Some(leader)) = (tick % 7, &at) {
                let proposed = cluster.at(leader).raft.propose(tick.to_le_bytes().to_vec());
                assert!(proposed.is_ok() || proposed == Err(ProposeError::Busy));
            }
            if tick % 100 == 0 {
                cluster.cut.clear();
                cluster.cut.extend(at);
            }
            if tick % 100 == 50 {
                cluster.cut.clear();
            }
            cluster.tick();
        }
        (cluster.trace, Some(first))
    }

    #[test]
    fn the_same_seed_gives_the_same_history() {
        let (history, _) = trace(7);
        assert!(history.len() > 5000, "{}", history.len());
        assert!(history == trace(7).0, "two runs of one seed differ");
        let leaders: BTreeSet<_> = (0..10).map(|seed| trace(seed).1).collect();
        assert!(leaders.len() > 1, "the seed decides who is elected first");
    }

    #[test]
    fn impossible_logs_are_refused() {
        let three = settings("a", &THREE, 1);
        let mut numbers: Vec<u64> = THREE.iter().map(|name| raft_number(name)).collect();
        let entry = |index, term| LogEntry {
            index,
            term,
            kind: 0,
            data: Vec::new(),
            context: Vec::new(),
        };
        let good = Restored {
            snapshot: Some(SnapshotRecord {
                index: 5,
                term: 2,
                voters: numbers.clone(),
                data: Vec::new(),
            }),
            entries: vec![entry(6, 2), entry(7, 3)],
            hard_state: HardState {
                term: 3,
                vote: 0,
                commit: 2,
            },
        };
        assert!(RaftLog::new(&three, good.clone()).is_ok());
        let refused = |change: &dyn Fn(&mut Restored)| {
            let mut restored = good.clone();
            change(&mut restored);
            RaftLog::new(&three, restored).unwrap_err()
        };
        assert_eq!(
            refused(&|r| r.entries[1].index = 8),
            RaftStartError::Hole {
                wanted: 7,
                found: 8
            }
        );
        assert_eq!(
            refused(&|r| r.entries[0].term = 1),
            RaftStartError::Term { index: 6, term: 1 }
        );
        assert_eq!(
            refused(&|r| r.hard_state.term = 2),
            RaftStartError::Term { index: 7, term: 3 }
        );
        assert_eq!(
            refused(&|r| r.hard_state.commit = 8),
            RaftStartError::CommittedMissing { commit: 8, last: 7 }
        );
        assert_eq!(
            refused(&|r| r.entries[0].kind = 1),
            RaftStartError::Kind { index: 6, kind: 1 }
        );
        numbers[2] = 99;
        assert_eq!(
            refused(&|r| r.snapshot.as_mut().unwrap().voters = numbers.clone()),
            RaftStartError::VotersDiffer {
                missing: vec![NodeName::new("c")],
                foreign: 1
            }
        );
        let mut observer = settings("z", &THREE, 1);
        observer.role = NodeRole::Observer;
        assert_eq!(
            RaftLog::new(&observer, Restored::default()).unwrap_err(),
            RaftStartError::NotAVoter(NodeName::new("z"))
        );
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn the_planted_bug_promises_before_the_disk_has_it() {
        let mut cluster = Cluster::new(&THREE, 1);
        for member in cluster.members.values_mut() {
            member.settings.bugs = Bugs::planted([Bug::SendBeforePersist]);
            member.restart();
        }
        let leader = cluster.elect();
        cluster.propose(&leader, b"one");
        let early: usize = cluster.members.values().map(|m| m.early.len()).sum();
        assert!(early > 0);
    }

    /// Chance for the garbage test, from a seed.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 = mixed(self.0);
            self.0 % sides
        }

        /// Mostly near what a log of a few entries has, sometimes absurd.
        fn number(&mut self) -> u64 {
            match self.roll(20) {
                0 => u64::MAX,
                1 => u64::MAX / 4,
                2 => u64::MAX - self.roll(5),
                3 => self.roll(2000),
                _near => self.roll(16),
            }
        }

        fn message(&mut self, numbers: &[u64]) -> RaftMessage {
            let mut index = self.number();
            let entries = (0..self.roll(4)).map(|_| {
                index = if self.roll(8) == 0 {
                    self.number()
                } else {
                    index.wrapping_add(1)
                };
                LogEntry {
                    index,
                    term: self.number(),
                    kind: (self.roll(12) as i32 - 9).max(0),
                    data: vec![1],
                    context: Vec::new(),
                }
            });
            let entries: Vec<_> = entries.collect();
            let snapshot = (self.roll(4) == 0).then(|| SnapshotRecord {
                index: self.number(),
                term: self.number(),
                voters: numbers[..(self.roll(3) + 1) as usize].to_vec(),
                data: Vec::new(),
            });
            RaftMessage {
                kind: self.roll(21) as i32 - 1,
                term: self.number(),
                log_term: self.number(),
                index: entries
                    .first()
                    .map_or_else(|| self.number(), |entry| entry.index.wrapping_sub(1)),
                entries,
                commit: self.number(),
                commit_term: self.number(),
                snapshot,
                request_snapshot: if self.roll(8) == 0 { self.number() } else { 0 },
                reject: self.roll(2) == 0,
                reject_hint: self.number(),
                context: if self.roll(8) == 0 {
                    b"CampaignTransfer".to_vec()
                } else {
                    Vec::new()
                },
                priority: if self.roll(8) == 0 { -1 } else { 0 },
            }
        }
    }

    #[test]
    fn garbage_is_survived_in_every_role() {
        let (mut taken, mut refused, mut led) = (0, 0, 0);
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let mut cluster = Cluster::new(&THREE, seed);
            let leader = cluster.elect();
            cluster.propose(&leader, b"one");
            let index = cluster.at(&leader).raft.entries_since_snapshot();
            cluster.at(&leader).raft.compact(index, Vec::new());
            let numbers = cluster.at(&leader).raft.numbers.clone();
            for name in THREE.map(NodeName::new) {
                for _ in 0..100 {
                    let from = NodeName::new(["a", "b", "c", "d"][dice.roll(4) as usize]);
                    let message = dice.message(&numbers);
                    let raft = &mut cluster.at(&name).raft;
                    led += u32::from(raft.is_leader());
                    match raft.step(&from, message) {
                        Ok(()) => taken += 1,
                        Err(_) => refused += 1,
                    }
                    if dice.roll(3) == 0 {
                        raft.tick();
                    }
                    while raft.poll().is_some() {}
                }
            }
        }
        assert!(
            taken > 1000 && refused > 1000 && led > 1000,
            "{taken} {refused} {led}"
        );
    }
}
