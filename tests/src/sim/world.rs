//! The whole simulated world, and one step of it: the next event goes to whom it concerns, then every
//! invariant looks.
//!
//! Holds all parts; what each does with its events is in the part's own file.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_core::ledger::{ServiceState, Table};
use sentinel_core::observation::WriteQuorum;
use sentinel_core::planted::Bug;
use sentinel_core::position::Lineage;
use sentinel_core::time::Instant;

use super::admin::Connection;
use super::agent::{Awaited, Host};
use super::chance::Chance;
use super::commit::Waiter;
use super::event::{Event, GuardEvent, ReplicationEvent};
use super::guard::Guard;
use super::history::{Totals, Write};
use super::instance::{Duty, Feed, Instance, Process, lineage};
use super::invariant::{Happening, Invariants, Violation};
use super::nemesis::Nemesis;
use super::network::{Network, Place};
use super::node::Node;
use super::postgres::timeline;
use super::settings::{Settings, Shape, service_name};
use super::trace::Trace;

/// Everything there is in a run.
#[derive(Debug)]
pub struct World {
    /// The run's settings.
    pub settings: Settings,
    /// Virtual time.
    pub schedule: Schedule,
    /// The network.
    pub network: Network,
    /// Delays of disks, kernels and copies.
    pub chance: Chance,
    /// Our nodes.
    pub nodes: Vec<Node>,
    /// The database servers.
    pub instances: Vec<Instance>,
    /// Their addresses.
    pub addresses: Vec<InstanceId>,
    /// Their hosts.
    pub hosts: Vec<Host>,
    /// Orders that go on.
    pub awaited: Vec<Awaited>,
    /// The write guards.
    pub guards: Vec<Guard>,
    /// Administrative connections by number.
    pub connections: BTreeMap<u64, Connection>,
    /// Writes that wait for replicas.
    pub waiters: Vec<Waiter>,
    /// What was promised.
    pub acknowledged: Vec<Write>,
    /// Totals.
    pub totals: Totals,
    /// The record.
    pub trace: Trace,
    /// Who breaks things.
    pub nemesis: Nemesis,
    /// The first violation.
    pub violation: Option<Violation>,
    /// The newest table that any node showed.
    pub newest: Table,
    invariants: Invariants,
    deferred: BTreeMap<Place, Vec<Event>>,
    numbers: u64,
}

/// Events in a second of virtual time, on average, above which a run is stuck; usual are some 800.
const EVENTS_PER_SECOND_MAX: u64 = 20_000;

type Schedule = super::schedule::Schedule<Event>;

impl World {
    /// A world at rest: servers replicate, nodes are started.
    pub fn new(settings: Settings) -> Self {
        let mut chance = Chance::new(settings.seed);
        let network = Network::new(chance.fork());
        let nemesis = Nemesis::new(chance.fork());
        let sync_delay = settings.service().restart_delay;
        let sync_delay_ms = u64::try_from(sync_delay.as_millis()).expect("seconds");
        let make = |index: usize| {
            let duty = if index == 0 {
                Duty::Primary
            } else {
                Duty::Follow(0)
            };
            let first = match settings.shape {
                Shape::Redis => lineage(1),
                Shape::Postgres => timeline(1, 0),
            };
            let mut instance = Instance::new(index, duty, first, sync_delay_ms);
            instance.shape = settings.shape;
            instance
        };
        let instances: Vec<Instance> = (0..settings.instances).map(make).collect();
        let mut world = Self {
            addresses: instances.iter().map(|i| i.id.clone()).collect(),
            hosts: instances.iter().map(|_| Host::default()).collect(),
            awaited: Vec::new(),
            instances,
            nodes: Vec::new(),
            guards: (0..settings.guards).map(|_| Guard::default()).collect(),
            trace: Trace::new(settings.text),
            schedule: Schedule::default(),
            network,
            nemesis,
            connections: BTreeMap::new(),
            waiters: Vec::new(),
            acknowledged: Vec::new(),
            totals: Totals::default(),
            violation: None,
            newest: Table::default(),
            invariants: Invariants::all(),
            deferred: BTreeMap::new(),
            numbers: 1,
            chance,
            settings,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for replica in 1..self.instances.len() {
            self.reconnect(replica, Duration::ZERO);
        }
        for guard in 0..self.guards.len() {
            let pace = self.chance.millis(1, 50);
            self.schedule
                .after(pace, Event::Guard(GuardEvent::Tick { guard }));
        }
        let names = (0..self.settings.voters).map(Node::name_of).collect();
        for index in 0..self.settings.voters {
            let node = Node::new(index, &names, &self.settings, &mut self.chance);
            self.nodes.push(node);
        }
        for node in 0..self.nodes.len() {
            self.start_node(node);
        }
        if self.is_postgres() {
            self.expect_hand();
        }
    }

    /// Now, on the world's clock.
    pub fn now(&self) -> Instant {
        self.schedule.now()
    }

    /// Whether this rule is left out.
    pub fn has(&self, bug: Bug) -> bool {
        self.settings.bugs.contains(&bug)
    }

    /// A number never used before in this run.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A replication id never used before in this run.
    pub fn fresh_lineage(&mut self) -> Lineage {
        lineage(self.number())
    }

    /// The index of an instance of this run.
    pub fn index_of(&self, instance: &InstanceId) -> Option<usize> {
        self.addresses.iter().position(|known| known == instance)
    }

    /// The service as the newest table has it.
    pub fn service(&self) -> Option<&ServiceState> {
        self.newest.services.get(&service_name())
    }

    /// Runs until an instant or the first violation.
    pub fn run_until(&mut self, until: Instant) {
        while self.violation.is_none() && self.step(until) {}
    }

    /// One event; false when none is left before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        let Some(event) = self.schedule.next_until(until) else {
            return false;
        };
        self.totals.events += 1;
        self.trace.fold_numbers(&[self.schedule.now().as_nanos()]);
        self.trace.fold_numbers(&event.digest());
        match event.place() {
            Some(place) if self.stands_still(place) => {
                self.deferred.entry(place).or_default().push(event);
            }
            Some(_) | None => self.dispatch(event),
        }
        self.tell(&Happening::Stepped);
        self.notice_storm();
        true
    }

    /// Virtual time that does not pass, or events out of all proportion, would hang the run.
    fn notice_storm(&mut self) {
        let seconds = self.now().since(Instant::ORIGIN).as_secs() + 10;
        if self.totals.events > seconds * EVENTS_PER_SECOND_MAX && self.violation.is_none() {
            self.violation = Some(Violation {
                invariant: "a storm",
                text: format!("{} events in {seconds} s", self.totals.events),
                at: self.now(),
            });
        }
    }

    fn stands_still(&self, place: Place) -> bool {
        match place {
            Place::Node(node) => self.nodes[node].is_paused(),
            Place::Instance(instance) => self.instances[instance].process == Process::Hung,
            Place::Guard(_) => false,
        }
    }

    /// Gives a place what came while it stood still, in order.
    pub fn resume(&mut self, place: Place) {
        for event in self.deferred.remove(&place).unwrap_or_default() {
            let now = self.now();
            self.schedule.at(now, event);
        }
    }

    /// Forgets what came while it stood still: the process is gone.
    pub fn forget(&mut self, place: Place) {
        self.deferred.remove(&place);
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Wake { node, life } => self.on_wake(node, life),
            Event::Durable { node, life } => self.on_durable(node, life),
            Event::Peer {
                from,
                to,
                sent,
                message,
            } => self.on_peer(from, to, sent, message),
            Event::Admin(event) => self.on_admin(&event),
            Event::Replication(event) => self.on_replication(event),
            Event::Guard(event) => self.on_guard(event),
            Event::Postgres(event) => self.on_postgres(event),
            Event::Trouble => self.trouble(),
            Event::Undo(undo) => self.undo(undo),
        }
    }

    /// Enters traffic between servers.
    pub fn replicate(&mut self, delay: Duration, event: ReplicationEvent) {
        self.schedule.after(delay, Event::Replication(event));
    }

    /// Shows a happening to every invariant.
    pub fn tell(&mut self, happening: &Happening<'_>) {
        if self.violation.is_some() {
            return;
        }
        let mut invariants = std::mem::take(&mut self.invariants);
        self.violation = invariants.observe(self, happening);
        self.invariants = invariants;
        if let Some(violation) = &self.violation {
            let text = violation.to_string();
            self.trace.line(self.schedule.now(), || text);
        }
    }

    /// Members of a write quorum that could acknowledge writes of this primary at this instant.
    pub fn could_acknowledge(&self, primary: usize, quorum: &WriteQuorum) -> usize {
        let streams = |replica: &&Instance| {
            quorum.members.contains(&replica.id)
                && replica.process == Process::Running
                && replica.duty == Duty::Follow(primary)
                && replica.feed == Feed::Streaming
                && self.instances[primary]
                    .downstream
                    .get(&replica.index)
                    .is_some_and(|seen| seen.streaming && seen.link == replica.link)
        };
        self.instances.iter().filter(streams).count()
    }
}
