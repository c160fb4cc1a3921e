//! The leading side of the machine: whether this node may act, plans, orders, outcomes.

use std::time::Duration;

use crate::action::{Action, ActionKind, Outcome};
use crate::codec;
use crate::event::EventKind;
use crate::failover::check::check;
use crate::failover::{Desk, Order, Plan, Sight, plan};
use crate::id::{ActionId, Incarnation, InstanceId, NodeName, ServiceName, Term};
use crate::ledger::{Decision, Proposal, Stage};
use crate::planted::Bug;
use crate::quorum::majority;
use crate::reason::Reason;
use crate::sentinel::watching::Before;
use crate::sentinel::{Output, Sentinel, Timer};
use crate::time::Instant;
use crate::vote::Verdict;

/// This node's leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    term: Term,
    /// Before this instant an order of the leader before may still be carried out.
    acts_from: Instant,
    next_action: u64,
}

/// What a leader assumes of the deadlines of the one before, while it knows of no service.
const DEADLINE_MIN: Duration = Duration::from_millis(300);

/// How soon a proposal that came to nothing is made again.
const PROPOSAL_PATIENCE: Duration = Duration::from_secs(1);

/// How soon an instance that a plan wants to look at is looked at again.
const LOOK_PACE: Duration = Duration::from_millis(2);

/// How soon a leader that may not act yet looks whether it may.
const WAIT_PACE: Duration = Duration::from_millis(50);

impl Sentinel {
    /// Takes a leadership up or lays it down, as Raft says.
    pub(super) fn notice_leadership(&mut self, now: Instant) {
        let leads = self.is_leader()
            || (self.leadership.is_some() && self.settings.bugs.has(Bug::ActWithoutQuorum));
        let term = self.term();
        match &self.leadership {
            Some(held) if leads && (held.term == term || !self.is_leader()) => {}
            None if !leads => {}
            Some(_) | None if leads => {
                // A leader before us may have ordered until its contact was no longer fresh, with this deadline.
                let longest = self
                    .table
                    .services
                    .values()
                    .map(|service| service.settings.action_deadline)
                    .max();
                let longest = longest.unwrap_or_default().max(DEADLINE_MIN);
                let acts_from = now + longest + self.settings.timing.contact_fresh;
                self.contacts.clear();
                self.leadership = Some(Leadership {
                    term,
                    acts_from,
                    next_action: 0,
                });
                self.open_desks(now);
            }
            Some(_) | None => {
                self.leadership = None;
                self.acts.clear();
                self.give_asks_back();
                for post in self.posts.values_mut() {
                    post.desk = None;
                    post.verdict = None;
                    post.report.clear();
                    post.view_stale = true;
                }
                if self.stopping {
                    self.outputs.push_back(Output::Stopped);
                }
            }
        }
        let leader = self.leader();
        if self.view.leader != leader {
            self.view_stale = true;
            for (name, post) in &mut self.posts {
                post.told = None;
                self.touched.insert(name.clone());
            }
        }
    }

    fn open_desks(&mut self, now: Instant) {
        for (name, service) in &self.table.services {
            let Some(post) = self.posts.get_mut(name) else {
                continue;
            };
            post.desk = Some(Desk::new(now, service.token.epoch));
            for instance in &service.instances {
                post.monitor.hurry(now, instance);
                self.timers
                    .set(Timer::Instance(name.clone(), instance.clone()), now);
            }
            self.touched.insert(name.clone());
        }
    }

    /// When a majority of voters, this node included, was last heard by it; for a leader only.
    pub(super) fn contact(&self, now: Instant) -> Option<Instant> {
        let mut heard: Vec<Instant> = self.contacts.values().copied().collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        match majority(self.settings.voters.len()) - 1 {
            0 => Some(now),
            others => heard.get(others - 1).copied(),
        }
    }

    /// Why this leader must not act now; `None` when it may.
    pub(super) fn held_back(&self, now: Instant, held: &Leadership) -> Option<Reason> {
        if self.settings.bugs.has(Bug::ActWithoutQuorum) {
            return None;
        }
        if !self
            .raft
            .as_ref()
            .is_some_and(|raft| raft.leads_committed())
        {
            return Some(Reason::new(
                "leader_new",
                "this leader has not committed anything in its term yet",
            ));
        }
        if now < held.acts_from {
            let text =
                "this leader waits until no order of the one before can still be carried out";
            return Some(Reason::new("leader_waits", text));
        }
        let fresh = self
            .contact(now)
            .is_some_and(|at| now.since(at) <= self.settings.timing.contact_fresh);
        if !fresh {
            return Some(Reason::new(
                "no_quorum",
                "this leader has not heard from a majority of voters lately",
            ));
        }
        let steady = self.is_steady(now);
        (!steady).then(|| {
            Reason::new(
                "paused",
                "this node was paused, and waits until its clock has been steady",
            )
        })
    }

    /// Plans for one service, and carries the plan out.
    pub(super) fn lead(&mut self, now: Instant, name: &ServiceName) {
        let Some(held) = self.leadership.clone() else {
            return;
        };
        self.count_votes(now, name);
        if let Some(reason) = self.held_back(now, &held) {
            self.report(name, vec![reason]);
            self.timers
                .set_earlier(Timer::Service(name.clone()), now + WAIT_PACE);
            return;
        }
        let Some(made) = self.make_plan(now, name) else {
            return;
        };
        let Plan {
            orders,
            decision,
            look,
            sealed,
            notes,
            mut reasons,
            wake,
        } = made;
        if let Some(desk) = self.posts.get_mut(name).and_then(|post| post.desk.as_mut()) {
            desk.sealed_since = if sealed {
                desk.sealed_since.or(Some(now))
            } else {
                None
            };
            for note in notes {
                desk.note(now, note);
                self.touched.insert(name.clone());
            }
        }
        if let Some(decision) = decision {
            self.propose(now, name, decision, reasons.clone());
        }
        for order in orders {
            self.order(now, name, order);
        }
        for instance in look {
            self.look_soon(now, name, &instance);
        }
        // What an order under way holds up past its time is woken by the outcome; an instant that has passed
        // would have this machine woken again and again in between.
        if let Some(at) = wake.filter(|at| *at > now) {
            self.timers.set_earlier(Timer::Service(name.clone()), at);
        }
        reasons.extend(self.agents.disputes(now, name));
        self.report(name, reasons);
    }

    fn make_plan(&self, now: Instant, name: &ServiceName) -> Option<Plan> {
        let (state, post) = (self.table.services.get(name)?, self.posts.get(name)?);
        let desk = post.desk.as_ref()?;
        let verdict = post.verdict.as_ref();
        let agents = self.agents.of(now, name);
        let sight = Sight {
            now,
            state,
            monitor: &post.monitor,
            verdict,
            desk,
            agents: &agents,
            bugs: &self.settings.bugs,
        };
        Some(plan::plan(&sight))
    }

    fn count_votes(&mut self, now: Instant, name: &ServiceName) {
        let (Some(service), Some(post)) = (self.table.services.get(name), self.posts.get_mut(name))
        else {
            return;
        };
        let Some(primary) = &service.primary else {
            return;
        };
        let voters = &self.settings.voters;
        let needed = service
            .settings
            .quorum
            .map_or(majority(voters.len()), |quorum| quorum as usize);
        let verdict = post.ballot.verdict(now, primary, voters, needed);
        if let Some(expiry) = post.ballot.next_expiry(now) {
            self.timers
                .set_earlier(Timer::Service(name.clone()), expiry);
        }
        let was_down = post.verdict.as_ref().is_some_and(Verdict::is_down);
        let instance = primary.instance.clone();
        let changed = post.verdict.as_ref() != Some(&verdict);
        post.view_stale |= changed;
        // A primary that ends to pause for a switchover is down by our own order.
        let planned = matches!(service.stage, Stage::Switching { .. }) || service.planned.is_some();
        let event = match (was_down, verdict.is_down()) {
            (false, true) | (true, false) if planned => None,
            (false, true) => {
                let witnesses: Vec<NodeName> = verdict.witnesses.keys().cloned().collect();
                Some(EventKind::PrimaryDown {
                    instance,
                    witnesses,
                    quorum: u32::try_from(needed).unwrap_or(u32::MAX),
                })
            }
            (true, false) => Some(EventKind::PrimaryDownRevoked { instance }),
            (true, true) | (false, false) => None,
        };
        post.verdict = Some(verdict);
        if let Some(event) = event {
            self.publish(name, event);
        }
    }

    /// Checks a decision once more, and proposes it unless one is under way already; whether it did.
    pub(super) fn propose(
        &mut self,
        now: Instant,
        name: &ServiceName,
        decision: Decision,
        reasons: Vec<Reason>,
    ) -> bool {
        let (Some(state), Some(post)) = (self.table.services.get(name), self.posts.get(name))
        else {
            return false;
        };
        let Some(desk) = &post.desk else {
            return false;
        };
        if desk
            .proposed
            .is_some_and(|(token, until)| token == state.token && now < until)
        {
            return false;
        }
        let verdict = post.verdict.as_ref();
        let agents = self.agents.of(now, name);
        let sight = Sight {
            now,
            state,
            monitor: &post.monitor,
            verdict,
            desk,
            agents: &agents,
            bugs: &self.settings.bugs,
        };
        if let Err(error) = check(&sight, &decision) {
            self.alarm(format!(
                "service {name}: a plan to {} was refused by its check: {error}",
                decision.word()
            ));
            return false;
        }
        let token = state.token;
        let proposal = Proposal {
            service: name.clone(),
            expect: Some(token),
            term: self.term(),
            decision,
            reasons,
        };
        let accepted = self
            .raft
            .as_mut()
            .is_some_and(|raft| raft.propose(codec::encode(&proposal)).is_ok());
        if let Some(desk) = self.posts.get_mut(name).and_then(|post| post.desk.as_mut())
            && accepted
        {
            desk.proposed = Some((token, now + PROPOSAL_PATIENCE));
            self.timers
                .set_earlier(Timer::Service(name.clone()), now + PROPOSAL_PATIENCE);
        }
        accepted
    }

    fn order(&mut self, now: Instant, name: &ServiceName, order: Order) {
        let Some(service) = self.table.services.get(name) else {
            return;
        };
        let (token, deadline) = (service.token, now + service.settings.action_deadline);
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        let id = ActionId {
            term: leadership.term,
            sequence: leadership.next_action,
        };
        leadership.next_action += 1;
        let Order { instance, kind } = order;
        let event = match &kind {
            ActionKind::Repoint { .. } => Some(EventKind::RepointSent {
                instance: instance.clone(),
            }),
            ActionKind::Rebuild { life, .. } if self.rebuilds(name, &instance) != Some(life) => {
                Some(EventKind::RebuildSent {
                    instance: instance.clone(),
                })
            }
            ActionKind::Rebuild { .. }
            | ActionKind::Freeze
            | ActionKind::StandDown { .. }
            | ActionKind::Unfreeze { .. }
            | ActionKind::Configure { .. }
            | ActionKind::Promote { .. }
            | ActionKind::Demote { .. }
            | ActionKind::Pause { .. }
            | ActionKind::Resume
            | ActionKind::RefuseWrites
            | ActionKind::AcceptWrites => None,
        };
        let action = Action {
            id,
            service: name.clone(),
            instance,
            token,
            deadline,
            kind,
        };
        if let Some(desk) = self.posts.get_mut(name).and_then(|post| post.desk.as_mut()) {
            desk.on_order(now, &action);
        }
        self.acts.insert(id, name.clone());
        self.hand_out(now, action);
        if let Some(event) = event {
            self.publish(name, event);
        }
    }

    /// Which life an instance is giving up by an order of ours.
    fn rebuilds(&self, name: &ServiceName, instance: &InstanceId) -> Option<&Incarnation> {
        let desk = self.posts.get(name)?.desk.as_ref()?;
        desk.rebuilding.get(instance)
    }

    pub(super) fn on_acted(&mut self, now: Instant, id: ActionId, outcome: &Outcome) {
        let Some(name) = self.acts.remove(&id) else {
            return;
        };
        let desk = self
            .posts
            .get_mut(&name)
            .and_then(|post| post.desk.as_mut());
        let Some((instance, order)) = desk.and_then(|desk| desk.on_outcome(now, id, outcome))
        else {
            return;
        };
        if let (Outcome::Done(facts), Some(post)) = (outcome, self.posts.get_mut(&name)) {
            let before = Before::of(post.monitor.get(&instance));
            post.monitor.on_facts(now, &instance, facts, order.given_at);
            self.refreshed.insert(name.clone());
            match order.kind {
                ActionKind::Repoint { .. } => self.publish(
                    &name,
                    EventKind::RepointDone {
                        instance: instance.clone(),
                    },
                ),
                ActionKind::Demote { .. } | ActionKind::Rebuild { .. } => self.publish(
                    &name,
                    EventKind::Demoted {
                        instance: instance.clone(),
                    },
                ),
                ActionKind::Freeze
                | ActionKind::StandDown { .. }
                | ActionKind::Unfreeze { .. }
                | ActionKind::Configure { .. }
                | ActionKind::Promote { .. }
                | ActionKind::Pause { .. }
                | ActionKind::Resume
                | ActionKind::RefuseWrites
                | ActionKind::AcceptWrites => {}
            }
            self.on_new_reading(now, &name, &instance, &before);
        }
        // Unknown is resolved by reading, and so is what an action changed at its end.
        self.look_now(now, &name, &instance);
        self.touched.insert(name);
    }

    fn look_soon(&mut self, now: Instant, name: &ServiceName, instance: &InstanceId) {
        let Some(post) = self.posts.get_mut(name) else {
            return;
        };
        // A probe that was turned away counts too: refusals come back at once, and would be asked for without a pause.
        let last = post
            .monitor
            .get(instance)
            .and_then(|watch| watch.asked_at());
        let at = last.map_or(now, |asked_at| (asked_at + LOOK_PACE).max(now));
        post.monitor.hurry(at, instance);
        self.timers
            .set_earlier(Timer::Instance(name.clone(), instance.clone()), at);
    }

    fn report(&mut self, name: &ServiceName, reasons: Vec<Reason>) {
        if let Some(post) = self.posts.get_mut(name)
            && post.report != reasons
        {
            post.report = reasons;
            post.view_stale = true;
        }
    }
}
