//! Tests of the Raft log: whole clusters in memory, crashes, torn persists, garbage.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::config::Timing;
use crate::id::ClusterName;
use crate::ledger::election_timeout::mixed;
use crate::ledger::memory_log::ENTRIES_BEHIND_MAX;
use crate::peer::{LogEntry, SnapshotRecord};

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
    /// Messages that promised what was not on the disk: none unless a bug is planted.
    early: Vec<RaftMessage>,
}

/// Nodes on an instant network in which some nodes are cut off.
struct Cluster {
    members: BTreeMap<NodeName, Member>,
    mail: VecDeque<(NodeName, NodeName, RaftMessage)>,
    cut: BTreeSet<NodeName>,
    trace: Vec<String>,
    complaints: Vec<StepError>,
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
            complaints: Vec::new(),
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
                let stepped = self.at(&to).raft.step(&from, message);
                self.complaints.extend(stepped.err());
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
    assert_eq!(cluster.complaints, []);
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
fn a_voter_whose_folder_was_emptied_comes_back_under_the_same_leader() {
    for compacted in [0, 5] {
        let mut cluster = Cluster::new(&THREE, 8);
        let leader = cluster.elect();
        for _ in 0..10 {
            cluster.propose(&leader, b"x");
        }
        let store = cluster.at(&leader).raft.node.mut_store();
        store.entries_behind_max = 0;
        cluster.at(&leader).raft.compact(compacted, Vec::new());
        let names: Vec<_> = cluster.members.keys().cloned().collect();
        let emptied = names.into_iter().find(|name| *name != leader).unwrap();
        cluster.at(&emptied).disk = Restored::default();
        cluster.at(&emptied).restart();
        // No proposal: the heartbeats alone must show what is missing.
        cluster.ticks_until(|cluster| cluster.members[&emptied].committed.contains_key(&11));
        let member = cluster.at(&emptied);
        assert_eq!(*member.committed.keys().next().unwrap(), compacted + 1);
        assert_eq!(cluster.leading(), Some(leader));
        assert!(!cluster.complaints.is_empty());
        let beyond = |error: &StepError| matches!(error, StepError::CommitBeyondLog { .. });
        assert!(cluster.complaints.iter().all(beyond));
    }
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

/// A table that is the digest of every command up to an index.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Digest {
    index: u64,
    hash: u64,
}

impl Digest {
    fn encode(self) -> Vec<u8> {
        [self.index.to_le_bytes(), self.hash.to_le_bytes()].concat()
    }

    fn decode(data: &[u8]) -> Self {
        let number = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
        Self {
            index: number(0),
            hash: number(8),
        }
    }
}

/// A node whose disk may be torn, for the test under faults.
struct Mortal {
    raft: RaftLog,
    settings: NodeSettings,
    disk: Restored,
    table: Digest,
}

impl Mortal {
    fn start(settings: NodeSettings, disk: Restored) -> Self {
        let snapshot = disk.snapshot.as_ref();
        let mut raft = RaftLog::new(&settings, disk.clone()).unwrap();
        raft.node.mut_store().entries_behind_max = 2;
        Self {
            raft,
            settings,
            table: snapshot.map_or_else(Digest::default, |s| Digest::decode(&s.data)),
            disk,
        }
    }

    /// Dies in the middle of its next write, and starts from the disk.
    fn crash(&mut self, dice: &mut Dice) {
        if let Some(RaftOutput::Persist(mut torn)) = self.raft.poll() {
            torn.hard_state = None;
            let kept = dice.roll(torn.entries.len() as u64 + 1) as usize;
            torn.entries.truncate(kept);
            if dice.roll(2) == 0 {
                self.disk.absorb(&torn);
            }
        }
        *self = Self::start(self.settings.clone(), self.disk.clone());
    }
}

/// Nodes that crash, on a network that loses, repeats and reorders.
struct Chaos {
    dice: Dice,
    nodes: Vec<Mortal>,
    mail: Vec<(usize, NodeName, RaftMessage)>,
    cut: usize,
    agreed: BTreeMap<u64, u64>,
    leaders: BTreeMap<Term, usize>,
    installed: usize,
}

impl Chaos {
    fn new(seed: u64, bugs: &Bugs) -> Self {
        let mut dice = Dice(seed);
        let names = &["a", "b", "c", "d", "e"][..3 + 2 * dice.roll(2) as usize];
        let nodes = names.iter().map(|name| {
            let bugs = bugs.clone();
            let settings = settings(name, names, seed);
            Mortal::start(NodeSettings { bugs, ..settings }, Restored::default())
        });
        Self {
            nodes: nodes.collect(),
            dice,
            mail: Vec::new(),
            cut: usize::MAX,
            agreed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            installed: 0,
        }
    }

    fn drain(&mut self, at: usize) {
        self.drain_some(at, usize::MAX);
    }

    fn drain_some(&mut self, at: usize, outputs_max: usize) {
        let node = &mut self.nodes[at];
        for _ in 0..outputs_max {
            let Some(output) = node.raft.poll() else {
                break;
            };
            match output {
                RaftOutput::Persist(persist) => node.disk.absorb(&persist),
                RaftOutput::Send { to, message } => self.mail.push((at, to, message)),
                RaftOutput::Install(snapshot) => {
                    node.table = Digest::decode(&snapshot.data);
                    self.installed += 1;
                }
                RaftOutput::Committed { index, term, data } => {
                    assert_eq!(index, node.table.index + 1, "no gap, nothing twice");
                    let parts = data.iter().map(|byte| u64::from(*byte));
                    let hash = parts.fold(node.table.hash ^ term.0, |h, part| mixed(h ^ part));
                    node.table = Digest { index, hash };
                }
            }
            let Digest { index, hash } = node.table;
            let agreed = *self.agreed.entry(index).or_insert(hash);
            assert_eq!(agreed, hash, "node {at} has another history up to {index}");
        }
        if node.raft.is_leader() {
            let first = *self.leaders.entry(node.raft.term()).or_insert(at);
            assert_eq!(first, at, "two leaders in {:?}", node.raft.term());
        }
    }

    fn deliver(&mut self, place: usize) {
        let (from, to, message) = self.mail[place].clone();
        if self.dice.roll(10) != 0 {
            self.mail.swap_remove(place);
        }
        let sender = self.nodes[from].settings.name.clone();
        let at = self.nodes.iter().position(|node| node.settings.name == to);
        let at = at.unwrap();
        if from != self.cut && at != self.cut {
            self.nodes[at].raft.step(&sender, message).unwrap();
            self.crash_or_drain(at);
        }
    }

    fn crash_or_drain(&mut self, at: usize) {
        if self.dice.roll(150) == 0 {
            let outputs = self.dice.roll(6) as usize;
            self.drain_some(at, outputs);
            self.nodes[at].crash(&mut self.dice);
        }
        self.drain(at);
    }

    fn act(&mut self) {
        let at = self.dice.roll(self.nodes.len() as u64) as usize;
        match self.dice.roll(100) {
            0..15 => {
                self.nodes[at].raft.tick();
                self.crash_or_drain(at);
            }
            15..25 => {
                let byte = self.dice.roll(255) as u8 + 1;
                // Refused unless it leads.
                let _refused = self.nodes[at].raft.propose(vec![byte]);
                if self.dice.roll(2) == 0 {
                    self.crash_or_drain(at);
                }
            }
            25 => {
                let table = self.nodes[at].table;
                self.nodes[at].raft.compact(table.index, table.encode());
                self.crash_or_drain(at);
            }
            26 if self.dice.roll(10) == 0 => {
                self.cut = self.dice.roll(self.nodes.len() as u64 + 2) as usize;
            }
            27 if self.dice.roll(10) == 0 => {
                self.nodes[at].raft.transfer_leadership();
                self.drain(at);
            }
            28 if self.mail.len() > 200 => self.mail.clear(),
            _deliver if !self.mail.is_empty() => {
                let place = self.dice.roll(self.mail.len() as u64) as usize;
                if self.dice.roll(20) == 0 {
                    self.mail.swap_remove(place);
                } else {
                    self.deliver(place);
                }
            }
            _nothing_to_deliver => {}
        }
    }

    /// No more faults: everybody must come to agree on one more command.
    fn heal(&mut self) {
        self.cut = usize::MAX;
        for round in 0..300 {
            for at in 0..self.nodes.len() {
                self.nodes[at].raft.tick();
                if round == 200 {
                    let _refused = self.nodes[at].raft.propose(b"last".to_vec());
                }
                self.drain(at);
            }
            for (from, to, message) in std::mem::take(&mut self.mail) {
                let sender = self.nodes[from].settings.name.clone();
                let at = self.nodes.iter().position(|n| n.settings.name == to);
                self.nodes[at.unwrap()].raft.step(&sender, message).unwrap();
                self.drain(at.unwrap());
            }
        }
        let newest = *self.agreed.keys().next_back().unwrap();
        for node in &self.nodes {
            assert_eq!(node.table.index, newest, "{:?}", node.raft);
        }
    }
}

#[test]
fn one_history_in_spite_of_crashes_loss_and_disorder() {
    let (mut entries, mut terms, mut installed) = (0, 0, 0);
    for seed in 0..60 {
        let mut chaos = Chaos::new(seed, &Bugs::none());
        for _ in 0..5000 {
            chaos.act();
        }
        chaos.heal();
        entries += chaos.agreed.len();
        terms += chaos.leaders.len();
        installed += chaos.installed;
    }
    assert!(
        entries > 2000 && terms > 200 && installed > 50,
        "too tame: {entries} entries, {terms} terms, {installed} snapshots installed"
    );
}

#[cfg(feature = "planted-bugs")]
#[test]
#[should_panic(expected = "CommitBeyondLog")]
fn the_planted_bug_breaks_the_history() {
    for seed in 0..200 {
        let mut chaos = Chaos::new(seed, &Bugs::planted([Bug::SendBeforePersist]));
        for _ in 0..5000 {
            chaos.act();
        }
    }
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
        let follower = NodeName::new(if leader.as_str() == "a" { "b" } else { "a" });
        cluster.at(&follower).disk = Restored::default();
        cluster.at(&follower).restart();
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
