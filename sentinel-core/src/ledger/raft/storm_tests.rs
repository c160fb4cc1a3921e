//! Tests of the Raft log under chance: crashes, torn persists, loss, disorder, and garbage.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::tests::{Cluster, THREE, settings};
use super::*;
use crate::ledger::election_timeout::mixed;
use crate::peer::{LogEntry, SnapshotRecord};

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
