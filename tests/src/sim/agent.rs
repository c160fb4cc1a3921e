//! Agents: a node's hand on the host of a server, which starts, stops, rewinds and rebuilds it.
//!
//! An agent keeps the highest token durably and refuses a lower one. Its jobs outlive the deadline of the order that began
//! them; one that is broken off is begun again when the node is back. Where there is no agent, a person comes by after a
//! while (`World::on_hand`). Knows hosts, not whether an order is wise.

use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, Incarnation, Token};
use sentinel_core::ledger::Stage;
use sentinel_core::peer::AgentState;
use sentinel_core::planted::Bug;
use sentinel_core::sentinel::Input;

use super::event::{Event, PostgresEvent, Reply, RequestId};
use super::instance::{Duty, Process};
use super::invariant::Happening;
use super::network::Place;
use super::pause::{Pause, Preparing};
use super::postgres::Entry;
use super::settings::service_name;
use super::sql_orders::goes_on;
use super::world::World;

/// By which way an order came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Over a connection to the server.
    Connection(u64),
    /// By the agent on its host, in this life of the node.
    Agent { node: usize, life: u32 },
}

/// An order that goes on, and whom its end is told.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    /// At which server.
    pub instance: usize,
    /// By which way it came.
    pub via: Via,
    /// Which order.
    pub id: ActionId,
}

/// A data folder that is being rewound or copied.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Tells one attempt from the one before.
    pub number: u64,
    /// From whom.
    pub upstream: usize,
    /// Who works on it; a broken-off job waits for its agent.
    pub by: Worker,
}

/// Who works on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// The agent.
    Agent,
    /// Nobody, since the agent was killed.
    Nobody,
    /// A person.
    Hand,
}

/// The host of a server.
#[derive(Debug, Default)]
pub struct Host {
    /// Highest token that the agent accepted; durable.
    pub token: Token,
    /// What is being done to the data folder; durable, as the agent's journal is.
    pub job: Option<Job>,
    /// The pause of a primary that was stopped for a switchover; durable.
    pub pause: Option<Pause>,
    /// What its agent knows of a pause besides.
    pub preparing: Preparing,
}

/// How long a rewind or a copy takes, in milliseconds.
const JOB_MILLIS: (u64, u64) = (200, 4_000);

/// How soon a job whose upstream is out of reach is tried again.
const JOB_RETRY: Duration = Duration::from_millis(500);

/// How often a person comes by.
const HAND_PACE: Duration = Duration::from_secs(5);

impl World {
    /// The node that is the agent of a server, whether it lives or not.
    pub fn agent_of(&self, i: usize) -> Option<usize> {
        (self.is_postgres() && i < self.settings.agents).then_some(i)
    }

    fn has_live_agent(&self, i: usize) -> bool {
        self.agent_of(i).is_some_and(|n| self.nodes[n].is_alive())
    }

    /// A node orders its own agent something.
    pub(super) fn ask_agent(&mut self, n: usize, action: Box<Action>) {
        let delay = self.chance.micros(100, 2_000);
        let life = self.nodes[n].life;
        let event = PostgresEvent::Act {
            node: n,
            life,
            action,
        };
        self.schedule.after(delay, Event::Postgres(event));
    }

    pub(super) fn on_postgres(&mut self, event: PostgresEvent) {
        match event {
            PostgresEvent::Act { node, life, action } => self.on_act(node, life, &action),
            PostgresEvent::Acted {
                node,
                life,
                id,
                outcome,
            } => {
                if self.nodes[node].life == life {
                    self.feed(node, Input::Acted { id, outcome });
                }
            }
            PostgresEvent::Note {
                node,
                life,
                instance,
            } => self.on_note(node, life, instance),
            PostgresEvent::AnswerDue { id } => self.on_answer_due(id),
            PostgresEvent::Promoted { instance, number } => self.on_promoted(instance, number),
            PostgresEvent::Stopping {
                instance,
                starts,
                looks,
            } => self.on_stopping(instance, starts, looks),
            PostgresEvent::PauseOver { instance, starts } => self.on_pause_over(instance, starts),
            PostgresEvent::Job { instance, number } => self.on_job(instance, number),
            PostgresEvent::QuorumAfter { instance } => self.on_quorum_after(instance),
            PostgresEvent::Hand => self.on_hand(),
        }
    }

    fn on_act(&mut self, n: usize, life: u32, action: &Action) {
        let via = Via::Agent { node: n, life };
        let Some(i) = self.index_of(&action.instance) else {
            return;
        };
        if self.nodes[n].life != life {
            return;
        }
        if action.deadline <= self.nodes[n].clock(self.now()) {
            let late = Outcome::Refused("too late when it came to its agent".to_owned());
            return self.report(i, via, action.id, &late);
        }
        if action.token < self.hosts[i].token && !self.has(Bug::AcceptLowerToken) {
            let refused = Outcome::Refused("a newer token was here".to_owned());
            return self.report(i, via, action.id, &refused);
        }
        self.hosts[i].token = action.token.max(self.hosts[i].token);
        if !self.has(Bug::NoConnectionClosing) {
            self.close_others(i, None);
        }
        if let Some(outcome) = self.carry_out_on_host(i, via, action) {
            self.report(i, via, action.id, &outcome);
        }
    }

    fn carry_out_on_host(&mut self, i: usize, via: Via, action: &Action) -> Option<Outcome> {
        if self.instances[i].process == Process::Running && !self.is_ready(i) {
            return Some(goes_on("starting"));
        }
        self.give_up_pause(i, &action.kind);
        match (&action.kind, self.instances[i].process) {
            (ActionKind::Rebuild { primary, .. }, _) => {
                Some(self.rejoin(i, via, action, primary, true))
            }
            (ActionKind::StandDown { life }, Process::Running | Process::Dead)
                if !self.is_standby(i) =>
            {
                Some(self.stand_down(i, action, life))
            }
            (ActionKind::Demote { primary }, Process::Hung | Process::Dead) => {
                Some(self.rejoin(i, via, action, primary, false))
            }
            (ActionKind::Demote { primary }, Process::Running) if !self.is_standby(i) => {
                Some(self.rejoin(i, via, action, primary, false))
            }
            (ActionKind::Repoint { primary }, Process::Dead) => {
                Some(self.rejoin(i, via, action, primary, false))
            }
            (ActionKind::Pause { limit }, Process::Running) => {
                self.pause_server(i, via, action, *limit)
            }
            (ActionKind::Pause { .. }, Process::Dead) => Some(self.told_of_pause(i)),
            (ActionKind::Resume, Process::Dead) => Some(self.resume_server(i)),
            (ActionKind::Resume, Process::Running) => Some(Outcome::Done(self.read_facts(i))),
            (_, Process::Running) => self.carry_out_sql(i, via, action),
            (_, Process::Hung) => Some(Outcome::Unknown("the server does not answer".to_owned())),
            (_, Process::Dead) => Some(Outcome::Refused("the server does not run".to_owned())),
        }
    }

    /// A primary becomes a standby of nobody, with what it has.
    fn stand_down(&mut self, i: usize, action: &Action, life: &Incarnation) -> Outcome {
        if self.hosts[i].job.is_some() || self.instances[i].incarnation() != *life {
            return Outcome::Refused("what it holds is not what is trusted".to_owned());
        }
        let was = self.was(i);
        self.hosts[i].pause = None;
        self.trace_order(i, action, "stands down by");
        self.tell(&Happening::Executed {
            instance: i,
            action,
            was: &was,
        });
        self.kill_instance(i);
        self.instances[i].saved.duty = Duty::Frozen;
        self.start_server(i);
        goes_on("starting as a standby of nobody")
    }

    /// A server becomes a standby of this primary: started as one if its history allows, else rewound or copied.
    fn rejoin(
        &mut self,
        i: usize,
        via: Via,
        action: &Action,
        primary: &sentinel_core::id::InstanceId,
        copy: bool,
    ) -> Outcome {
        let was = self.was(i);
        let upstream = match self.upstream_named(i, primary) {
            Ok(upstream) => upstream,
            Err(why) => return Outcome::Refused(why),
        };
        if let Some(job) = self.hosts[i].job
            && job.upstream == upstream
            && job.by == Worker::Agent
        {
            return goes_on("rewinding");
        }
        let entry = match self.entry_seen(i, via, upstream) {
            Ok(entry) => entry,
            Err(why) => return Outcome::Refused(why),
        };
        self.hosts[i].pause = None;
        self.trace_order(i, action, "rejoins by");
        self.tell(&Happening::Executed {
            instance: i,
            action,
            was: &was,
        });
        if entry == Entry::Diverged || copy || !self.instances[i].whole {
            self.begin_job(i, upstream);
        } else {
            self.kill_instance(i);
            self.instances[i].saved.duty = Duty::Follow(upstream);
            self.start_server(i);
        }
        goes_on("rejoining")
    }

    /// The server is stopped, and its data folder is no server's until the job is done.
    pub(super) fn begin_job(&mut self, i: usize, upstream: usize) {
        self.work_on(i, upstream, Worker::Agent);
    }

    fn work_on(&mut self, i: usize, upstream: usize, by: Worker) {
        self.tell(&Happening::Overwriting {
            replica: i,
            upstream,
        });
        self.kill_instance(i);
        self.totals.rewinds += 1;
        self.instances[i].whole = false;
        let number = self.number();
        self.hosts[i].job = Some(Job {
            number,
            upstream,
            by,
        });
        let delay = self.chance.millis(JOB_MILLIS.0, JOB_MILLIS.1);
        self.schedule_job(i, number, delay);
    }

    fn schedule_job(&mut self, i: usize, number: u64, delay: Duration) {
        let event = PostgresEvent::Job {
            instance: i,
            number,
        };
        self.schedule.after(delay, Event::Postgres(event));
    }

    fn on_job(&mut self, i: usize, number: u64) {
        let Some(job) = self.hosts[i].job.filter(|job| job.number == number) else {
            return;
        };
        let up = job.upstream;
        let open = self
            .network
            .open_both(Place::Instance(i), Place::Instance(up));
        if !open || !self.is_ready(up) || !self.instances[up].whole || self.is_standby(up) {
            return self.schedule_job(i, number, JOB_RETRY);
        }
        let source = self.instances[up].clone();
        self.hosts[i].job = None;
        let instance = &mut self.instances[i];
        instance.become_copy(&source);
        instance.saved.duty = Duty::Follow(up);
        instance.saved.writes = sentinel_core::observation::Writes::Taken;
        self.tell(&Happening::Fed {
            replica: i,
            upstream: up,
        });
        self.start_server(i);
    }

    /// A node dies, and what its agent worked on stays as it is.
    pub(super) fn break_off_job(&mut self, n: usize) {
        if let Some(host) = self.hosts.get_mut(n)
            && let Some(job) = &mut host.job
            && job.by == Worker::Agent
        {
            job.by = Worker::Nobody;
            job.number = 0;
        }
    }

    /// A node is back: its agent begins again what it finds in its journal, and says what runs.
    pub(super) fn take_up_agent(&mut self, n: usize) {
        if self.agent_of(n).is_none() || n >= self.instances.len() {
            return;
        }
        if let Some(job) = self.hosts[n].job
            && job.by == Worker::Nobody
        {
            self.work_on(n, job.upstream, Worker::Agent);
        }
        self.note_process(n);
    }

    /// Tells the agent's node that the server's process began or ended.
    pub(super) fn note_process(&mut self, i: usize) {
        if let Some(n) = self.agent_of(i) {
            let event = PostgresEvent::Note {
                node: n,
                life: self.nodes[n].life,
                instance: i,
            };
            let delay = self.chance.micros(500, 5_000);
            self.schedule.after(delay, Event::Postgres(event));
        }
    }

    fn on_note(&mut self, n: usize, life: u32, i: usize) {
        if self.nodes[n].life != life {
            return;
        }
        let state = AgentState {
            runs: Some(self.instances[i].process != Process::Dead),
            doing: String::new(),
            kept: None,
        };
        let input = Input::Noted {
            service: service_name(),
            instance: self.addresses[i].clone(),
            state,
        };
        self.feed(n, input);
    }

    /// Every order that goes on at a server has come to its end.
    pub(super) fn resolve(&mut self, i: usize, outcome: &Outcome) {
        let (ended, open) = self.awaited.iter().partition(|it| it.instance == i);
        self.awaited = open;
        let ended: Vec<Awaited> = ended;
        for it in ended {
            self.report(i, it.via, it.id, outcome);
        }
    }

    fn on_answer_due(&mut self, id: ActionId) {
        if let Some(index) = self.awaited.iter().position(|it| it.id == id) {
            let it = self.awaited.remove(index);
            if self.instances[it.instance].process == Process::Running {
                self.report(it.instance, it.via, id, &goes_on("under way"));
            }
        }
    }

    fn report(&mut self, i: usize, via: Via, id: ActionId, outcome: &Outcome) {
        match via {
            Via::Connection(number) => {
                let reply = Reply::Outcome(outcome.clone());
                self.answer(number, RequestId::Action(id), reply);
            }
            Via::Agent { node, life } => {
                let name = self.addresses[i].clone();
                self.trace.line(self.schedule.now(), || {
                    format!("the agent of {name} reports {id}: {outcome:?}")
                });
                let delay = self.chance.micros(100, 1_000);
                let event = PostgresEvent::Acted {
                    node,
                    life,
                    id,
                    outcome: outcome.clone(),
                };
                self.schedule.after(delay, Event::Postgres(event));
            }
        }
    }

    /// A server that does not run starts again, unless its agent knows better: somebody else is primary, it was stopped for a
    /// switchover, or the data folder is being worked on. Returns whether it is to be tried once more.
    pub(super) fn restart_server(&mut self, i: usize) -> bool {
        if self.instances[i].process != Process::Dead || self.hosts[i].job.is_some() {
            return false;
        }
        if self.is_paused(i) {
            return true;
        }
        let answer = self.agent_of(i).and_then(|n| {
            let view = self.nodes[n].view.as_ref()?;
            view.services.get(&service_name())?.primary.clone()
        });
        let deposed = answer.is_some_and(|primary| primary != self.addresses[i]);
        if deposed && self.instances[i].saved.duty == Duty::Primary {
            return true;
        }
        self.start_server(i);
        false
    }

    /// Lets a person come by now and then.
    pub(super) fn expect_hand(&mut self) {
        self.schedule
            .after(HAND_PACE, Event::Postgres(PostgresEvent::Hand));
    }

    /// A person rebuilds what no agent can.
    fn on_hand(&mut self) {
        self.expect_hand();
        let Some((primary, barred)) = self.service().and_then(|service| {
            let steady = service.stage == Stage::Steady;
            let primary = service.primary.as_ref().filter(|_| steady)?;
            let barred = service.barred.keys().filter_map(|i| self.index_of(i));
            Some((
                self.index_of(&primary.instance)?,
                barred.collect::<Vec<_>>(),
            ))
        }) else {
            return;
        };
        if !self.is_ready(primary) || self.is_standby(primary) {
            return;
        }
        for i in 0..self.instances.len() {
            if i != primary && !self.has_live_agent(i) && self.needs_hand(i, primary, &barred) {
                self.trace.line(self.schedule.now(), || {
                    format!("a person rebuilds {}", self.addresses[i])
                });
                self.tell(&Happening::ByHand { instance: i });
                self.work_on(i, primary, Worker::Hand);
            }
        }
    }

    fn needs_hand(&self, i: usize, primary: usize, barred: &[usize]) -> bool {
        let instance = &self.instances[i];
        match (self.hosts[i].job, instance.process) {
            (Some(job), _) => job.by == Worker::Nobody || job.upstream != primary,
            (None, Process::Hung) => false,
            (None, Process::Dead) => !instance.whole,
            (None, Process::Running) => {
                !self.is_standby(i) || self.is_diverged(i, primary) || barred.contains(&i)
            }
        }
    }
}
