//! Write guards: clients that write unique values and believe a write only when named members have it.
//!
//! A guard finds the primary in some node's view, reads the write quorum from the primary itself on each
//! new connection, and calls a write acknowledged iff enough members have it on that same connection.
//! Everything else is unknown. It knows nothing of failovers.

use std::collections::BTreeSet;

use sentinel_core::id::Incarnation;
use sentinel_core::observation::WriteQuorum;
use sentinel_core::position::Lineage;
use sentinel_core::time::Instant;

use super::event::{Event, GuardEvent};
use super::history::Write;
use super::instance::{Duty, GuardConnection};
use super::invariant::Happening;
use super::network::Place;
use super::settings::service_name;
use super::world::World;

/// What a primary said when a guard connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Which lineage.
    pub lineage: Lineage,
    /// Who must hold a write.
    pub quorum: WriteQuorum,
}

/// A guard.
#[derive(Debug, Default)]
pub struct Guard {
    number: u64,
    line: Line,
}

#[derive(Debug, Default)]
enum Line {
    #[default]
    Idle,
    Opening {
        instance: usize,
        since: Instant,
    },
    Open {
        instance: usize,
        promise: Box<Promise>,
        outstanding: Option<(u64, Instant)>,
    },
}

/// After so long a guard gives a connection or a write up.
const PATIENCE_MILLIS: u64 = 1_000;

/// How often a client of PostgreSQL asks no node for the primary.
const DIRECT_PERCENT: u64 = 30;

/// What a guard takes for the write quorum of a server that has none.
fn nobody() -> WriteQuorum {
    WriteQuorum {
        version: Default::default(),
        k: 0,
        members: Default::default(),
    }
}

impl World {
    pub(super) fn on_guard(&mut self, event: GuardEvent) {
        match event {
            GuardEvent::Tick { guard } => self.on_tick(guard),
            GuardEvent::Open {
                guard,
                number,
                instance,
            } => self.on_guard_open(guard, number, instance),
            GuardEvent::Opened {
                guard,
                number,
                instance,
                promise,
            } => self.on_guard_opened(guard, number, instance, promise),
            GuardEvent::Write {
                guard,
                number,
                instance,
                value,
            } => self.on_write(GuardConnection { guard, number }, instance, value),
            GuardEvent::WaitEnd { instance, value } => self.on_wait_end(instance, value),
            GuardEvent::Written {
                guard,
                number,
                instance,
                value,
                offset,
            } => self.on_written(GuardConnection { guard, number }, instance, value, offset),
            GuardEvent::Closed {
                guard,
                number,
                instance,
            } => {
                let heard = self
                    .network
                    .open(Place::Instance(instance), Place::Guard(guard));
                if heard && self.guards[guard].number == number {
                    self.give_up(guard);
                }
            }
        }
    }

    fn on_tick(&mut self, guard: usize) {
        let (shortest, longest) = self.settings.write_every_ms;
        let pace = self.chance.millis(shortest, longest);
        self.schedule
            .after(pace, Event::Guard(GuardEvent::Tick { guard }));
        let now = self.now();
        let late = |since: Instant| now.since(since).as_millis() > u128::from(PATIENCE_MILLIS);
        match &self.guards[guard].line {
            Line::Idle => self.look_for_primary(guard),
            Line::Opening { since, .. } if late(*since) => self.give_up(guard),
            Line::Open {
                outstanding: Some((_, since)),
                ..
            } if late(*since) => self.give_up(guard),
            Line::Opening { .. }
            | Line::Open {
                outstanding: Some(_),
                ..
            } => {}
            Line::Open {
                outstanding: None, ..
            } => self.write(guard),
        }
    }

    /// Any node is asked, and a stale one may answer.
    fn look_for_primary(&mut self, guard: usize) {
        // A client of PostgreSQL may know all addresses and take whoever calls itself primary.
        if self.is_postgres() && self.chance.percent(DIRECT_PERCENT) {
            let instance = self.chance.index(self.instances.len());
            return self.connect(guard, instance);
        }
        let n = self.chance.index(self.nodes.len());
        let reachable = self.network.open_both(Place::Guard(guard), Place::Node(n));
        if !reachable || !self.nodes[n].is_running() {
            return;
        }
        let answer = self.nodes[n]
            .view
            .as_ref()
            .and_then(|view| view.services.get(&service_name()))
            .and_then(|service| service.primary.clone());
        let Some(instance) = answer.and_then(|primary| self.index_of(&primary)) else {
            return;
        };
        self.connect(guard, instance);
    }

    pub(super) fn connect(&mut self, guard: usize, instance: usize) {
        let number = self.number();
        self.guards[guard].number = number;
        self.guards[guard].line = Line::Opening {
            instance,
            since: self.schedule.now(),
        };
        let event = GuardEvent::Open {
            guard,
            number,
            instance,
        };
        self.send_server(guard, instance, event);
    }

    fn send_server(&mut self, guard: usize, instance: usize, event: GuardEvent) {
        if self
            .network
            .open(Place::Guard(guard), Place::Instance(instance))
        {
            let delay = self.network.segment();
            self.schedule.after(delay, Event::Guard(event));
        }
    }

    pub(super) fn send_guard(&mut self, guard: usize, instance: usize, event: GuardEvent) {
        if self
            .network
            .open(Place::Instance(instance), Place::Guard(guard))
        {
            let delay = self.network.segment();
            self.schedule.after(delay, Event::Guard(event));
        }
    }

    fn on_guard_open(&mut self, guard: usize, number: u64, instance: usize) {
        let stopping = self.instances[instance].postgres.stopping;
        let ready = self.is_ready(instance) && !stopping;
        // Before the first write quorum is in force nobody relies on PostgreSQL; later it may be missing only by a fault.
        let formed = self.is_postgres() && !self.acknowledged.is_empty();
        let server = &mut self.instances[instance];
        let quorum = match server.duty {
            Duty::Primary if ready => server.quorum.clone().or_else(|| formed.then(nobody)),
            Duty::Primary | Duty::Follow(_) | Duty::Frozen => None,
        };
        let promise = quorum.map(|quorum| {
            Box::new(Promise {
                incarnation: server.incarnation(),
                lineage: server.lineage.clone(),
                quorum,
            })
        });
        if promise.is_some() {
            server.guards.insert(GuardConnection { guard, number });
        }
        let event = GuardEvent::Opened {
            guard,
            number,
            instance,
            promise,
        };
        self.send_guard(guard, instance, event);
    }

    fn on_guard_opened(
        &mut self,
        guard: usize,
        number: u64,
        instance: usize,
        promise: Option<Box<Promise>>,
    ) {
        if self.guards[guard].number != number {
            return;
        }
        match (promise, &self.guards[guard].line) {
            (Some(promise), Line::Opening { .. }) => {
                self.guards[guard].line = Line::Open {
                    instance,
                    promise,
                    outstanding: None,
                };
            }
            (None, Line::Opening { .. }) => self.give_up(guard),
            (Some(_) | None, Line::Idle | Line::Open { .. }) => {}
        }
    }

    fn write(&mut self, guard: usize) {
        let value = self.number();
        let since = self.now();
        let number = self.guards[guard].number;
        let Line::Open {
            instance,
            outstanding,
            ..
        } = &mut self.guards[guard].line
        else {
            return;
        };
        *outstanding = Some((value, since));
        let instance = *instance;
        self.totals.sent += 1;
        let event = GuardEvent::Write {
            guard,
            number,
            instance,
            value,
        };
        self.send_server(guard, instance, event);
    }

    /// The write quorum that a guard read when it connected.
    pub(super) fn quorum_of(&self, connection: GuardConnection) -> Option<&WriteQuorum> {
        let guard = &self.guards[connection.guard];
        match &guard.line {
            Line::Open { promise, .. } if guard.number == connection.number => {
                Some(&promise.quorum)
            }
            Line::Open { .. } | Line::Opening { .. } | Line::Idle => None,
        }
    }

    fn on_written(
        &mut self,
        connection: GuardConnection,
        instance: usize,
        value: u64,
        offset: Option<u64>,
    ) {
        let at = self.now();
        let guard = &mut self.guards[connection.guard];
        let Line::Open {
            promise,
            outstanding,
            ..
        } = &mut guard.line
        else {
            return;
        };
        if guard.number != connection.number || outstanding.is_none_or(|(sent, _)| sent != value) {
            return;
        }
        *outstanding = None;
        let Some(offset) = offset else {
            self.totals.unknown += 1;
            return;
        };
        let write = Write {
            value,
            offset,
            instance,
            incarnation: promise.incarnation.clone(),
            lineage: promise.lineage.clone(),
            at,
        };
        self.totals.acknowledged += 1;
        self.trace.line(at, || {
            format!(
                "write {value} is acknowledged by {} at {offset}",
                self.addresses[instance]
            )
        });
        self.acknowledged.push(write.clone());
        self.tell(&Happening::Acknowledged { write: &write });
    }

    /// The guard closes its connection; a write under way is unknown to it.
    pub(super) fn give_up(&mut self, guard: usize) {
        let number = self.guards[guard].number;
        let line = std::mem::take(&mut self.guards[guard].line);
        match line {
            Line::Open {
                instance,
                outstanding,
                ..
            } => {
                self.totals.unknown += u64::from(outstanding.is_some());
                let connection = GuardConnection { guard, number };
                self.instances[instance].guards.remove(&connection);
                self.waiters
                    .retain(|waiter| waiter.connection != connection);
            }
            Line::Opening { instance, .. } => {
                let connection = GuardConnection { guard, number };
                self.instances[instance].guards.remove(&connection);
            }
            Line::Idle => {}
        }
    }

    /// Places of all guards that can reach this server's own side of a cut.
    pub fn guard_places(&self) -> BTreeSet<Place> {
        (0..self.guards.len()).map(Place::Guard).collect()
    }
}
