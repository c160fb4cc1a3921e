//! Servers of PostgreSQL's shape in time: a standby connects, a server starts, a promotion comes to its end.
//!
//! Judges by the names of timelines, as the engine does; where names lie (rule S12) it says so to the invariants. Does
//! not know who ordered what.

use std::time::Duration;

use sentinel_core::action::Outcome;
use sentinel_core::position::Position;

use super::event::{Event, PostgresEvent, ReplicationEvent};
use super::instance::{Downstream, Duty, Feed, Process};
use super::invariant::Happening;
use super::postgres::{Entry, Replay};
use super::settings::Shape;
use super::world::World;

/// How long a server starts before it answers, in milliseconds.
const START_MILLIS: (u64, u64) = (30, 400);

/// How long a started standby replays what it has, in milliseconds, at the longest.
const REPLAY_MILLIS_MAX: u64 = 1_500;

/// How much a started standby replays again, in bytes, at the most.
const REPLAY_BYTES_MAX: u64 = 300;

/// From the end of replay to the first write of a promoted server, in milliseconds.
const PROMOTION_MILLIS: (u64, u64) = (5, 60);

/// How late a write quorum is that comes after the promotion.
const QUORUM_LATE: Duration = Duration::from_millis(300);

/// Time between two attempts to stream, in milliseconds.
const RETRY_MILLIS: (u64, u64) = (100, 1_000);

impl World {
    /// Whether the servers are of PostgreSQL's shape.
    pub fn is_postgres(&self) -> bool {
        self.settings.shape == Shape::Postgres
    }

    /// Whether a server runs and has started.
    pub fn is_ready(&self, i: usize) -> bool {
        let instance = &self.instances[i];
        instance.process == Process::Running && instance.postgres.ready_at <= self.now()
    }

    /// The position that an adapter reads.
    pub fn read_position(&self, i: usize) -> Option<Position> {
        let instance = &self.instances[i];
        match instance.shape {
            Shape::Redis => instance.position(),
            Shape::Postgres if !instance.whole => None,
            Shape::Postgres => {
                let told = instance.told_position(self.now());
                let believes = self.has(sentinel_core::planted::Bug::UnderstatedPosition);
                let guessed = || believes.then(|| instance.understated_position(self.now()));
                told.or_else(guessed)
            }
        }
    }

    /// What an adapter reads.
    pub fn read_facts(&self, i: usize) -> Box<sentinel_core::observation::Facts> {
        let mut facts = self.instances[i].facts(&self.addresses);
        facts.position = self.read_position(i);
        Box::new(facts)
    }

    /// A standby asks its upstream for the history from where it is.
    pub(super) fn on_standby_connect(&mut self, replica: usize, upstream: usize, link: u64) {
        let now = self.now();
        let standby = &self.instances[replica];
        // What is there is replayed before anything is received.
        let replays = !standby.postgres.streamed && now < standby.postgres.replay.done;
        let entry = self.instances[upstream].entry_of(standby);
        let ready = self.is_ready(upstream) && self.is_ready(replica) && !replays;
        match entry {
            Entry::From(offset) if ready => self.attach_standby(replica, upstream, link, offset),
            Entry::Diverged if ready => {
                self.tell(&Happening::Stranded { replica, upstream });
                self.retry_standby(replica, link);
            }
            Entry::From(_) | Entry::Diverged | Entry::Ahead => self.retry_standby(replica, link),
        }
    }

    fn retry_standby(&mut self, replica: usize, link: u64) {
        let delay = self.chance.millis(RETRY_MILLIS.0, RETRY_MILLIS.1);
        self.replicate(delay, ReplicationEvent::Connect { replica, link });
    }

    fn attach_standby(&mut self, replica: usize, upstream: usize, link: u64, from: u64) {
        let end = usize::try_from(from).expect("few writes");
        self.instances[replica].log.truncate(end);
        let source = self.instances[upstream].clone();
        if source.log.get(..end) != Some(self.instances[replica].log.as_slice()) {
            self.tell(&Happening::Mixed { replica, upstream });
            return;
        }
        let seen = Downstream {
            link,
            streaming: true,
            acknowledged: 0,
        };
        self.instances[upstream].downstream.insert(replica, seen);
        self.trace.line(self.schedule.now(), || {
            format!(
                "{} streams from {} from {from} of {}",
                self.addresses[replica], self.addresses[upstream], source.lineage
            )
        });
        if self.instances[replica].lineage != source.lineage {
            self.drop_downstream(replica);
        }
        let standby = &mut self.instances[replica];
        standby.take_history(&source);
        standby.postgres.streamed = true;
        standby.feed = Feed::Streaming;
        self.acknowledge(replica, upstream, link, from);
        let upto = source.offset();
        if upto > from {
            self.push(replica, link, upto);
        }
    }

    /// A server starts on what it has flushed.
    pub(super) fn start_server(&mut self, i: usize) {
        let now = self.now();
        let ready_at = now + self.chance.millis(START_MILLIS.0, START_MILLIS.1);
        let again = self.chance.below(REPLAY_BYTES_MAX);
        let longest = self.chance.below(REPLAY_MILLIS_MAX);
        let replay = Replay {
            from: super::postgres::whole_end(&self.instances[i].log).saturating_sub(again),
            begun: now,
            done: ready_at + self.chance.millis(0, longest),
        };
        self.instances[i].start(ready_at, replay);
        self.trace.line(self.schedule.now(), || {
            format!(
                "{} starts as {:?} at {:?}",
                self.addresses[i],
                self.instances[i].duty,
                self.instances[i].position()
            )
        });
        self.tell(&Happening::Restarted { instance: i });
        let delay = ready_at.since(now) + self.chance.millis(1, 300);
        self.reconnect(i, delay);
        self.note_process(i);
    }

    /// The server was told to promote: it does so when it has replayed what it received, whatever it is told meanwhile.
    pub(super) fn begin_promotion(&mut self, i: usize) {
        let number = self.number();
        self.totals.promotions += 1;
        let caught_up = self.instances[i].postgres.replay.done.max(self.now());
        let own = &mut self.instances[i].postgres;
        own.promoting = Some(number);
        let at = caught_up + self.chance.millis(PROMOTION_MILLIS.0, PROMOTION_MILLIS.1);
        let event = PostgresEvent::Promoted {
            instance: i,
            number,
        };
        self.schedule.at(at, Event::Postgres(event));
    }

    pub(super) fn on_promoted(&mut self, i: usize, number: u64) {
        if self.instances[i].postgres.promoting != Some(number) {
            return;
        }
        self.unlink(i);
        self.drop_downstream(i);
        self.instances[i].open_timeline();
        self.trace.line(self.schedule.now(), || {
            format!(
                "{} is primary of {} from {:?}",
                self.addresses[i], self.instances[i].lineage, self.instances[i].parent
            )
        });
        self.instances[i].saved.quorum = self.instances[i].quorum.clone();
        if self.instances[i].postgres.quorum_after.is_some() {
            let event = PostgresEvent::QuorumAfter { instance: i };
            self.schedule.after(QUORUM_LATE, Event::Postgres(event));
        }
        let facts = self.read_facts(i);
        self.resolve(i, &Outcome::Done(facts));
    }

    /// The planted bug: the write quorum comes into force only now.
    pub(super) fn on_quorum_after(&mut self, i: usize) {
        let instance = &mut self.instances[i];
        if let Some(quorum) = instance.postgres.quorum_after.take() {
            instance.quorum = Some(quorum.clone());
            instance.saved.quorum = Some(quorum);
        }
    }

    /// A standby's replay falls behind for so long.
    pub(super) fn slow_replay(&mut self, i: usize, lag: Duration) {
        let now = self.now();
        let from = self.instances[i].replayed(now);
        self.instances[i].postgres.replay = Replay {
            from,
            begun: now,
            done: now + lag,
        };
    }

    /// Whether a standby has a position beyond what this server's history has of it.
    pub(super) fn is_diverged(&self, i: usize, upstream: usize) -> bool {
        self.instances[upstream].entry_of(&self.instances[i]) == Entry::Diverged
    }

    /// Whether a server is a standby or a primary that nobody has promoted yet in this world's order.
    pub(super) fn is_standby(&self, i: usize) -> bool {
        self.instances[i].duty != Duty::Primary
    }
}
