//! What a primary does with a write: takes it, waits for replicas, and says when enough have it.
//!
//! In Redis's shape the guard's own reading of the write quorum counts; in PostgreSQL's shape the server's, which
//! survives its restart, and the server waits for as long as it takes. Knows nothing of failovers.

use std::time::Duration;

use sentinel_core::observation::Writes;
use sentinel_core::planted::Bug;

use super::event::{Event, GuardEvent};
use super::instance::{Downstream, Duty, GuardConnection, Process};
use super::postgres::{RECORD_BYTES_MAX, record};
use super::settings::Shape;
use super::world::World;

/// A write that a primary took, for which replicas are awaited.
#[derive(Debug)]
pub struct Waiter {
    /// At which server.
    pub instance: usize,
    /// Whose it is.
    pub connection: GuardConnection,
    value: u64,
    offset: u64,
}

/// How long a server waits for replicas before it answers with a shortfall.
const WAIT_MILLIS: u64 = 400;

/// How soon a server that holds writes back looks at one again.
const PAUSE_PACE: Duration = Duration::from_millis(5);

/// How often a record is sent in two pieces, and how far apart they are.
const TORN_PERCENT: u64 = 10;
const TORN_MILLIS_MAX: u64 = 40;

impl World {
    pub(super) fn on_write(&mut self, connection: GuardConnection, instance: usize, value: u64) {
        let server = &self.instances[instance];
        if server.process != Process::Running || !server.guards.contains(&connection) {
            return;
        }
        match server.shape {
            Shape::Redis => self.write_and_wait(connection, instance, value),
            Shape::Postgres => self.commit(connection, instance, value),
        }
    }

    fn write_and_wait(&mut self, connection: GuardConnection, instance: usize, value: u64) {
        let paused_until = self.instances[instance].paused_until;
        if self.now() < paused_until {
            let GuardConnection { guard, number } = connection;
            let event = GuardEvent::Write {
                guard,
                number,
                instance,
                value,
            };
            self.schedule.after(PAUSE_PACE, Event::Guard(event));
            return;
        }
        let server = &mut self.instances[instance];
        let streaming = server.downstream.values().filter(|d| d.streaming).count();
        let wanted = server.quorum.as_ref().map_or(0, |quorum| quorum.k as usize);
        if streaming < wanted {
            self.reply(connection, instance, value, None);
            return;
        }
        server.log.extend(record(value, 1));
        let offset = server.offset();
        self.waiters.push(Waiter {
            instance,
            connection,
            value,
            offset,
        });
        self.push_all(instance);
        // A server whose write quorum is nobody acknowledges alone.
        self.settle(instance);
        let patience = Duration::from_millis(WAIT_MILLIS);
        let event = GuardEvent::WaitEnd { instance, value };
        self.schedule.after(patience, Event::Guard(event));
    }

    /// The transaction is visible at once and acknowledged when enough named standbys have flushed it; a client that
    /// gives up meanwhile knows nothing.
    fn commit(&mut self, connection: GuardConnection, instance: usize, value: u64) {
        let bytes = 1 + self.chance.below(RECORD_BYTES_MAX);
        let server = &mut self.instances[instance];
        if server.duty != Duty::Primary || server.postgres.writes == Writes::Refused {
            self.reply(connection, instance, value, None);
            return;
        }
        server.log.extend(record(value, bytes));
        let offset = server.offset();
        self.waiters.push(Waiter {
            instance,
            connection,
            value,
            offset,
        });
        self.send_records(instance, bytes);
        self.settle(instance);
    }

    /// A record is sent as it is flushed, at times in two pieces.
    fn send_records(&mut self, instance: usize, bytes: u64) {
        let torn = bytes > 1 && self.chance.percent(TORN_PERCENT);
        if !torn {
            return self.push_all(instance);
        }
        let missing = 1 + self.chance.below(bytes - 1);
        let pause = self.chance.millis(1, TORN_MILLIS_MAX);
        let upto = self.instances[instance].offset();
        self.push_upto(instance, upto - missing, Duration::ZERO);
        self.push_upto(instance, upto, pause);
    }

    pub(super) fn on_wait_end(&mut self, instance: usize, value: u64) {
        let waits = |w: &Waiter| w.instance == instance && w.value == value;
        if let Some(index) = self.waiters.iter().position(waits) {
            let waiter = self.waiters.remove(index);
            self.reply(waiter.connection, instance, value, None);
        }
    }

    /// Answers every write of a server that enough members hold.
    pub(super) fn settle(&mut self, instance: usize) {
        let mut index = 0;
        while index < self.waiters.len() {
            let waiter = &self.waiters[index];
            if waiter.instance == instance && self.is_acknowledged(waiter) {
                let waiter = self.waiters.remove(index);
                let offset = Some(waiter.offset);
                self.reply(waiter.connection, instance, waiter.value, offset);
            } else {
                index += 1;
            }
        }
    }

    fn is_acknowledged(&self, waiter: &Waiter) -> bool {
        let server = &self.instances[waiter.instance];
        let quorum = match server.shape {
            Shape::Redis => self.quorum_of(waiter.connection),
            Shape::Postgres => server.quorum.as_ref(),
        };
        let Some(quorum) = quorum else {
            // Without a write quorum PostgreSQL acknowledges alone, and a guard nothing.
            return server.shape == Shape::Postgres;
        };
        let anonymous = self.has(Bug::AnonymousCount);
        let counts = |(replica, seen): &(&usize, &Downstream)| {
            let named = quorum.members.contains(&self.addresses[**replica]);
            seen.streaming && seen.acknowledged >= waiter.offset && (named || anonymous)
        };
        server.downstream.iter().filter(counts).count() >= quorum.k as usize
    }

    fn reply(
        &mut self,
        connection: GuardConnection,
        instance: usize,
        value: u64,
        offset: Option<u64>,
    ) {
        let event = GuardEvent::Written {
            guard: connection.guard,
            number: connection.number,
            instance,
            value,
            offset,
        };
        self.send_guard(connection.guard, instance, event);
    }
}
