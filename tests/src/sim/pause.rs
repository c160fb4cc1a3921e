//! The pause of a server of PostgreSQL's shape: its agent has a checkpoint written while the server takes writes, stops it
//! in good order, and starts it again by itself where that is safe and nobody is heard.
//!
//! The rules are the agent's own, written a second time. Does not know whether a switchover is wise.

use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::discovery::{Freshness, StageView};
use sentinel_core::id::Token;
use sentinel_core::observation::Facts;
use sentinel_core::time::Instant;

use super::agent::Via;
use super::event::{Event, PostgresEvent};
use super::instance::{Downstream, Duty, Process};
use super::invariant::Happening;
use super::nemesis::Undo;
use super::network::Place;
use super::postgres::record;
use super::settings::service_name;
use super::sql_orders::goes_on;
use super::world::World;

/// A server that was stopped for a switchover; durable, as the agent's file is.
#[derive(Debug)]
pub struct Pause {
    /// Of the order that stopped it.
    token: Token,
    limit: Duration,
    /// What the server said last; `None` while it stops.
    facts: Option<Box<Facts>>,
    /// Whether it was started again without an order.
    outlasted: bool,
}

/// What the agent remembers of pauses while it lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preparing {
    /// When the checkpoint is written, or was.
    written: Option<Instant>,
    /// Since when no leader is heard, and in which life of the node.
    alone: Option<(u32, Instant)>,
}

/// How long a checkpoint takes, in milliseconds.
const CHECKPOINT_MILLIS: (u64, u64) = (1, 1_500);

/// One that was written longer ago is written again.
const FRESH: Duration = Duration::from_secs(5);

/// How soon a stopping server looks whether everybody has its last record.
const STOP_PACE: Duration = Duration::from_millis(20);

/// For how long it waits for them, in looks.
const STOP_LOOKS: u32 = 40;

/// How often the agent of a paused server looks around.
const LOOK_PACE: Duration = Duration::from_millis(500);

/// Bytes of the record with which a server stops.
const LAST_RECORD_BYTES: u64 = 5;

impl World {
    /// An order to pause finds the server running.
    pub(super) fn pause_server(
        &mut self,
        i: usize,
        via: Via,
        action: &Action,
        limit: Duration,
    ) -> Option<Outcome> {
        if self.is_standby(i) {
            return Some(Outcome::Refused("not a primary".to_owned()));
        }
        let over = |pause: &Pause| pause.outlasted && pause.token >= action.token;
        if self.hosts[i].pause.as_ref().is_some_and(over) {
            let text = "the pause has ended by itself".to_owned();
            return Some(Outcome::Refused(text));
        }
        if !self.instances[i].postgres.stopping && !self.is_checkpointed(i) {
            return Some(goes_on("writing a checkpoint"));
        }
        self.await_end(i, via, action);
        if !self.instances[i].postgres.stopping {
            self.stop_for(i, action, limit);
        }
        None
    }

    /// An order to pause finds the server stopped.
    pub(super) fn told_of_pause(&self, i: usize) -> Outcome {
        let pause = self.hosts[i].pause.as_ref();
        match pause.and_then(|pause| pause.facts.clone()) {
            Some(facts) => Outcome::Done(facts),
            None => Outcome::Unknown("the server does not answer".to_owned()),
        }
    }

    /// Whether the checkpoint before the stop is written; begins it.
    fn is_checkpointed(&mut self, i: usize) -> bool {
        let now = self.now();
        let written = self.hosts[i].preparing.written;
        match written.filter(|at| now.since(*at) < FRESH) {
            Some(at) => at <= now,
            None => {
                let (shortest, longest) = CHECKPOINT_MILLIS;
                let at = now + self.chance.millis(shortest, longest);
                self.hosts[i].preparing.written = Some(at);
                false
            }
        }
    }

    /// No more sessions, a last record, and everybody who streams gets it.
    fn stop_for(&mut self, i: usize, action: &Action, limit: Duration) {
        let was = self.was(i);
        let value = self.number();
        self.hosts[i].preparing = Preparing::default();
        self.hosts[i].pause = Some(Pause {
            token: action.token,
            limit,
            facts: None,
            outlasted: false,
        });
        let instance = &mut self.instances[i];
        instance.postgres.stopping = true;
        instance.log.extend(record(value, LAST_RECORD_BYTES));
        let starts = instance.starts;
        self.cut_guards(i);
        self.push_all(i);
        self.trace_order(i, action, "stops by");
        self.tell(&Happening::Executed {
            instance: i,
            action,
            was: &was,
        });
        let event = PostgresEvent::Stopping {
            instance: i,
            starts,
            looks: 0,
        };
        self.schedule.after(STOP_PACE, Event::Postgres(event));
        self.look_at_pause(i, starts, limit);
    }

    pub(super) fn on_stopping(&mut self, i: usize, starts: u32, looks: u32) {
        let instance = &self.instances[i];
        if instance.starts != starts || instance.process != Process::Running {
            return;
        }
        let end = instance.offset();
        let behind = |seen: &Downstream| seen.streaming && seen.acknowledged < end;
        if looks < STOP_LOOKS && instance.downstream.values().any(behind) {
            let looks = looks + 1;
            let event = PostgresEvent::Stopping {
                instance: i,
                starts,
                looks,
            };
            self.schedule.after(STOP_PACE, Event::Postgres(event));
            return;
        }
        let facts = self.read_facts(i);
        if let Some(pause) = &mut self.hosts[i].pause {
            pause.facts = Some(facts.clone());
        }
        self.resolve(i, &Outcome::Done(facts));
        self.kill_instance(i);
    }

    /// Any other order ends what is being prepared.
    pub(super) fn give_up_pause(&mut self, i: usize, kind: &ActionKind) {
        if !matches!(kind, ActionKind::Pause { .. }) {
            self.hosts[i].preparing.written = None;
        }
    }

    /// An order to resume finds the server stopped.
    pub(super) fn resume_server(&mut self, i: usize) -> Outcome {
        if self.hosts[i].pause.take().is_none() {
            return Outcome::Refused("was not paused".to_owned());
        }
        self.start_server(i);
        goes_on("starting")
    }

    /// Whether the server is stopped for a switchover, and nobody but its agent starts it.
    pub(super) fn is_paused(&self, i: usize) -> bool {
        let pause = self.hosts[i].pause.as_ref();
        pause.is_some_and(|pause| !pause.outlasted)
    }

    fn look_at_pause(&mut self, i: usize, starts: u32, delay: Duration) {
        let event = PostgresEvent::PauseOver {
            instance: i,
            starts,
        };
        self.schedule.after(delay, Event::Postgres(event));
    }

    /// The time of a pause is over: the agent looks whether it ends it.
    pub(super) fn on_pause_over(&mut self, i: usize, starts: u32) {
        if self.instances[i].starts != starts || !self.is_paused(i) {
            return;
        }
        if self.agent_of(i).is_none_or(|n| self.nodes[n].is_retired()) {
            // A person sees to what no agent will.
            self.hosts[i].pause = None;
            if self.restart_server(i) {
                self.settle_later(i);
            }
            return;
        }
        let free = self.instances[i].process == Process::Dead && self.hosts[i].job.is_none();
        if free && self.may_come_back(i) {
            if let Some(pause) = &mut self.hosts[i].pause {
                pause.outlasted = true;
            }
            self.totals.outlasted += 1;
            self.start_server(i);
            return;
        }
        self.look_at_pause(i, starts, LOOK_PACE);
    }

    fn settle_later(&mut self, i: usize) {
        let undo = Undo::RestartInstance {
            instance: i,
            kept: u64::MAX,
        };
        self.schedule.after(LOOK_PACE, Event::Undo(undo));
    }

    fn may_come_back(&mut self, i: usize) -> bool {
        let Some(n) = self.agent_of(i).filter(|n| self.nodes[*n].is_running()) else {
            return false;
        };
        let Some(pause) = &self.hosts[i].pause else {
            return false;
        };
        let (token, limit) = (pause.token, pause.limit);
        let (clock, life) = (self.nodes[n].clock(self.now()), self.nodes[n].life);
        let view = self.nodes[n].view.clone();
        let fresh = view
            .as_ref()
            .is_some_and(|view| view.freshness(clock) == Freshness::Fresh);
        let service = view
            .as_ref()
            .and_then(|view| view.services.get(&service_name()));
        let accepted = self.hosts[i].token.epoch;
        let own = &self.addresses[i];
        if fresh {
            self.hosts[i].preparing.alone = None;
            return service.is_some_and(|service| {
                // A failover that chose nobody for so long needs its primary back.
                let waits = matches!(service.stage, StageView::Steady | StageView::Freezing);
                waits && service.primary.as_ref() == Some(own) && service.token.epoch >= accepted
            });
        }
        let chosen = service.and_then(|service| match &service.stage {
            StageView::Promoting(target) => Some((service.token, target)),
            StageView::Unadopted
            | StageView::Steady
            | StageView::Switching(_)
            | StageView::Freezing
            | StageView::Repointing => {
                let authorised = service.authorised.as_ref()?;
                Some((service.token, &authorised.instance))
            }
        });
        let replaced = chosen.is_some_and(|(newest, who)| who != own && newest >= token);
        let alone = &mut self.hosts[i].preparing.alone;
        let since = match alone {
            Some((of, since)) if *of == life => *since,
            Some(_) | None => {
                *alone = Some((life, clock));
                clock
            }
        };
        let waited = clock.since(since) >= limit;
        waited && accepted <= token.epoch && !replaced && self.is_followed(i, n)
    }

    /// Whether as many members of the write quorum in force follow a server as it needs, as far as its agent sees.
    fn is_followed(&self, i: usize, n: usize) -> bool {
        let Some(quorum) = &self.instances[i].saved.quorum else {
            return false;
        };
        let follows = |j: &usize| {
            self.network.open_both(Place::Node(n), Place::Instance(*j))
                && self.is_ready(*j)
                && self.instances[*j].duty == Duty::Follow(i)
        };
        let members = quorum
            .members
            .iter()
            .filter_map(|member| self.index_of(member));
        members.filter(follows).count() >= quorum.k as usize
    }
}
