//! Tests of the Raft log: whole clusters in memory, crashes, torn persists, garbage.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::config::Timing;
use crate::id::ClusterName;
use crate::ledger::memory_log::ENTRIES_BEHIND_MAX;
use crate::peer::SnapshotRecord;

pub(super) fn settings(name: &str, voters: &[&str], seed: u64) -> NodeSettings {
    NodeSettings {
        cluster: ClusterName::new("test"),
        agent_of: Default::default(),
        name: NodeName::new(name),
        role: NodeRole::Voter,
        voters: voters.iter().map(|voter| NodeName::new(*voter)).collect(),
        seed,
        timing: Timing::default(),
        bugs: Bugs::none(),
    }
}

/// A node, its disk, and what it was told to be agreed.
pub(super) struct Member {
    pub(super) raft: RaftLog,
    settings: NodeSettings,
    pub(super) disk: Restored,
    committed: BTreeMap<u64, (Term, Vec<u8>)>,
    installed: Vec<SnapshotRecord>,
    /// Messages that promised what was not on the disk: none unless a bug is planted.
    early: Vec<RaftMessage>,
}

/// Nodes on an instant network in which some nodes are cut off.
pub(super) struct Cluster {
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

    pub(super) fn restart(&mut self) {
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
    pub(super) fn new(names: &[&str], seed: u64) -> Self {
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
    pub(super) fn elect(&mut self) -> NodeName {
        self.ticks_until(|cluster| cluster.leading().is_some());
        self.leading().unwrap()
    }

    fn leading(&self) -> Option<NodeName> {
        self.members
            .iter()
            .find(|(name, member)| !self.cut.contains(name) && member.raft.leads_committed())
            .map(|(name, _)| name.clone())
    }

    pub(super) fn at(&mut self, name: &NodeName) -> &mut Member {
        self.members.get_mut(name).unwrap()
    }

    pub(super) fn propose(&mut self, leader: &NodeName, data: &[u8]) {
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

pub(super) const THREE: [&str; 3] = ["a", "b", "c"];

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
