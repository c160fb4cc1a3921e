//! The Raft side of the machine: beats, committed decisions, snapshots.

use std::time::Duration;

use crate::codec;
use crate::event::{Event, EventKind};
use crate::id::{ServiceName, Term};
use crate::ledger::raft::RaftOutput;
use crate::ledger::{Applied, Decision, Proposal, Stage, Table};
use crate::peer::{PeerMessage, SnapshotRecord};
use crate::sentinel::post::Post;
use crate::sentinel::{Output, Sentinel, Timer};
use crate::time::Instant;

/// How often a follower tells the other followers that it is alive.
const ALIVE_PACE: Duration = Duration::from_millis(500);

/// Committed entries after which the table is saved in their place.
const ENTRIES_PER_SNAPSHOT: u64 = 1000;

impl Sentinel {
    pub(super) fn on_beat(&mut self, now: Instant) {
        if let Some(raft) = &mut self.raft {
            raft.tick();
        }
        self.follow(now);
        self.tell_agents(now);
        self.tell_alive(now);
    }

    /// Followers do not talk to one another in Raft; without this each would look dead to the others.
    fn tell_alive(&mut self, now: Instant) {
        let due = self
            .alive_told_at
            .is_none_or(|at| now.since(at) >= ALIVE_PACE);
        if self.raft.is_none() || self.is_leader() || !due {
            return;
        }
        self.alive_told_at = Some(now);
        let leader = self.leader();
        for peer in self
            .peers
            .keys()
            .filter(|peer| Some(*peer) != leader.as_ref())
        {
            let message = Box::new(PeerMessage::Alive);
            self.outputs.push_back(Output::Send {
                to: peer.clone(),
                message,
            });
        }
    }

    /// Carries out whatever Raft has ready, until nothing is left.
    pub(super) fn agree(&mut self, now: Instant) {
        while let Some(output) = self.raft.as_mut().and_then(|raft| raft.poll()) {
            match output {
                RaftOutput::Persist(persist) => self.outputs.push_back(Output::Persist(persist)),
                RaftOutput::Send { to, message } => {
                    self.outputs.push_back(Output::Send {
                        to,
                        message: Box::new(PeerMessage::Raft(message)),
                    });
                }
                RaftOutput::Committed { index, data, .. } => self.on_committed(now, index, &data),
                RaftOutput::Install(snapshot) => self.on_snapshot(now, &snapshot),
            }
        }
        self.compact();
        self.notice_leadership(now);
    }

    fn compact(&mut self) {
        if let Some(raft) = &mut self.raft
            && raft.entries_since_snapshot() >= ENTRIES_PER_SNAPSHOT
            && self.table.index > 0
        {
            raft.compact(self.table.index, codec::encode(&self.table));
        }
    }

    fn on_snapshot(&mut self, now: Instant, snapshot: &SnapshotRecord) {
        match codec::decode::<Table>(&snapshot.data) {
            Ok(table) => self.install(now, table),
            Err(error) => self.alarm(format!("a snapshot of the table cannot be read: {error}")),
        }
    }

    fn on_committed(&mut self, now: Instant, index: u64, data: &[u8]) {
        if data.is_empty() {
            self.table.index = index;
            self.propose_seeds();
            return;
        }
        let proposal: Proposal = match codec::decode(data) {
            Ok(proposal) => proposal,
            Err(error) => {
                self.table.index = index;
                self.alarm(format!("committed entry {index} cannot be read: {error}"));
                return;
            }
        };
        let name = proposal.service.clone();
        let stage_before = self.stage_of(&name);
        let applied = self.table.apply(index, &proposal);
        self.settle_ask(&name, &proposal.decision, &applied);
        match applied {
            Applied::Ignored(_) => {
                if let Some(desk) = self
                    .posts
                    .get_mut(&name)
                    .and_then(|post| post.desk.as_mut())
                {
                    desk.proposed = None;
                }
            }
            Applied::Done(events) => {
                self.man_post(now, &name);
                for kind in events {
                    self.publish(&name, kind);
                }
                self.on_decided(now, &name, stage_before.as_ref(), &proposal.decision);
            }
        }
        self.touched.insert(name);
        self.table_changed(now);
    }

    fn stage_of(&self, name: &ServiceName) -> Option<Stage> {
        self.table
            .services
            .get(name)
            .map(|service| service.stage.clone())
    }

    fn on_decided(
        &mut self,
        now: Instant,
        name: &ServiceName,
        before: Option<&Stage>,
        decision: &Decision,
    ) {
        let (Some(service), Some(post)) = (self.table.services.get(name), self.posts.get_mut(name))
        else {
            return;
        };
        post.view_stale = true;
        let readopted = matches!(decision, Decision::Adopt { .. });
        let renews = matches!(decision, Decision::Rename { .. } | Decision::Change { .. });
        if let Some(desk) = post.desk.as_mut().filter(|_| renews) {
            desk.forget_marks();
        }
        if before == Some(&service.stage) && !readopted {
            return;
        }
        if let Some(desk) = &mut post.desk {
            desk.on_stage(now, service.token.epoch);
            for instance in &service.instances {
                post.monitor.hurry(now, instance);
                self.timers
                    .set(Timer::Instance(name.clone(), instance.clone()), now);
            }
        }
    }

    /// Brings what is kept for each service in line with the table.
    pub(super) fn man_posts(&mut self, now: Instant) {
        self.posts
            .retain(|name, _| self.table.services.contains_key(name));
        let names: Vec<ServiceName> = self.table.services.keys().cloned().collect();
        for name in names {
            self.man_post(now, &name);
        }
    }

    /// Brings what is kept for one service in line with the table.
    fn man_post(&mut self, now: Instant, name: &ServiceName) {
        let Some(service) = self.table.services.get(name) else {
            return;
        };
        let leads = self.leadership.is_some();
        self.visited.insert(name.clone());
        let post = self.posts.entry(name.clone()).or_insert_with(Post::new);
        if leads && post.desk.is_none() {
            post.desk = Some(crate::failover::Desk::new(now, service.token.epoch));
        }
        for instance in &service.instances {
            if post.monitor.get(instance).is_none() {
                post.monitor.watch(now, instance, &service.settings);
                self.timers
                    .set(Timer::Instance(name.clone(), instance.clone()), now);
            }
        }
        post.monitor
            .retain(|instance| service.instances.contains(instance));
        let known = post.authority.as_ref().map(|(member, _)| member);
        if known != service.primary.as_ref() {
            post.authority = service.primary.clone().map(|member| (member, now));
            post.told = None;
        }
    }

    /// Replaces the whole table, by a snapshot or on an observer; tells what changed for clients.
    pub(super) fn install(&mut self, now: Instant, table: Table) {
        let before = std::mem::replace(&mut self.table, table);
        self.man_posts(now);
        let names: Vec<ServiceName> = self.table.services.keys().cloned().collect();
        for name in names {
            let old = before
                .services
                .get(&name)
                .and_then(|service| service.answer.clone());
            let new = self.table.services[&name].answer.clone();
            if let Some(post) = self.posts.get_mut(&name) {
                post.view_stale = true;
                if let Some(desk) = &mut post.desk {
                    desk.on_stage(now, self.table.services[&name].token.epoch);
                }
            }
            let from = old.map(|answer| answer.primary);
            if let Some(new) = new.filter(|new| from.as_ref() != Some(&new.primary)) {
                self.publish(
                    &name,
                    EventKind::PrimarySwitched {
                        from,
                        to: new.primary,
                    },
                );
            }
            self.touched.insert(name);
        }
        self.table_changed(now);
    }

    /// Guards the services of the settings file, unless the table has them.
    pub(super) fn propose_seeds(&mut self) {
        let Some(raft) = &mut self.raft else { return };
        if !raft.leads_committed() {
            return;
        }
        for seed in &self.seeds {
            if !self.table.services.contains_key(&seed.name) {
                let proposal = Proposal {
                    service: seed.name.clone(),
                    expect: None,
                    term: raft.term(),
                    decision: Decision::Add(Box::new(seed.clone())),
                    reasons: Vec::new(),
                };
                // Lost with the leadership; the next leader proposes its own seeds.
                let _ = raft.propose(codec::encode(&proposal));
            }
        }
    }

    /// Tells operators and subscribers, once the view shows what happened.
    pub(super) fn publish(&mut self, name: &ServiceName, kind: EventKind) {
        let service = self.table.services.get(name);
        let event = Event {
            service: name.clone(),
            token: service.map(|service| service.token).unwrap_or_default(),
            primary: service
                .and_then(|service| service.answer.as_ref())
                .map(|answer| answer.primary.clone()),
            kind,
        };
        self.told.push(event);
    }

    /// Something that should be impossible.
    pub(super) fn alarm(&mut self, text: String) {
        self.publish(&ServiceName::from(""), EventKind::Alarm { text });
    }

    /// Newest term that this node knows.
    pub(super) fn term(&self) -> Term {
        self.raft
            .as_ref()
            .map_or(self.following.term(), |raft| raft.term())
    }
}
