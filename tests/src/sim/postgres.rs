//! What a simulated server has that is of PostgreSQL's shape: timelines, whole and torn records, replay.
//!
//! Pure: knows one server's own data, and at most the history of the one that it wants to follow. A timeline is named by
//! its number and the point at which it began, so that two siblings promoted at one point bear one name (rule S12).

use sentinel_core::observation::{WriteQuorum, Writes};
use sentinel_core::position::{Lineage, Offset, Position};
use sentinel_core::time::Instant;

use super::instance::{Duty, Feed, Instance};

/// Bits of a byte of the log that say how many bytes of its record follow it.
const LEFT_BITS: u32 = 4;

/// The longest record.
pub const RECORD_BYTES_MAX: u64 = 1 << LEFT_BITS;

/// After so long without movement, and without anybody to receive from, replay stands still (rule S16).
pub const STANDSTILL: std::time::Duration = std::time::Duration::from_secs(1);

/// The bytes of one write's record.
pub fn record(value: u64, bytes: u64) -> impl Iterator<Item = u64> {
    (0..bytes).rev().map(move |left| value << LEFT_BITS | left)
}

/// The byte with which the record of a write ends: that write is there as a whole.
pub fn last_byte(value: u64) -> u64 {
    value << LEFT_BITS
}

/// Where the last whole record ends.
pub fn whole_end(log: &[u64]) -> u64 {
    let ends = |byte: &u64| byte.trailing_zeros() >= LEFT_BITS;
    log.iter().rposition(ends).map_or(0, |index| index + 1) as u64
}

/// The name of a timeline.
pub fn timeline(number: u32, fork: u64) -> Lineage {
    Lineage::new(format!("{number}@{fork}"))
}

/// Replay of what was received: from one offset at one instant to the end at another.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Where it began.
    pub from: u64,
    /// When.
    pub begun: Instant,
    /// When it has caught up.
    pub done: Instant,
}

/// The part of a server's state that only this shape has.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// The number of its timeline.
    pub number: u32,
    /// The highest number of which it has the history: a promotion takes the next one.
    pub known: u32,
    /// The timelines before this one, oldest first, each with the point at which it was left.
    pub ancestors: Vec<Position>,
    /// Whether it streamed in this start: only then it can tell what it received.
    pub streamed: bool,
    /// Replay.
    pub replay: Replay,
    /// Before this it starts, and answers nothing else.
    pub ready_at: Instant,
    /// The promotion that goes on, by its number.
    pub promoting: Option<u64>,
    /// A write quorum to be put in force when the promotion is over: a planted bug alone does so.
    pub quorum_after: Option<WriteQuorum>,
    /// Whether it is being stopped in good order: it takes no more sessions.
    pub stopping: bool,
    /// Whether it takes writes.
    pub writes: Writes,
    /// How often it was rewound or rebuilt.
    pub rebuilds: u32,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            number: 1,
            known: 1,
            ancestors: Vec::new(),
            streamed: false,
            replay: Replay {
                from: 0,
                begun: Instant::ORIGIN,
                done: Instant::ORIGIN,
            },
            ready_at: Instant::ORIGIN,
            promoting: None,
            quorum_after: None,
            stopping: false,
            writes: Writes::Taken,
            rebuilds: 0,
        }
    }
}

/// What a server says to a standby that wants to stream from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It may go on from here; what it has beyond is a piece of a record, and is dropped.
    From(u64),
    /// It is ahead of this server, and asks again later.
    Ahead,
    /// It has replayed what is no part of this server's history: never, until it is rewound.
    Diverged,
}

impl Instance {
    /// What this server says to a standby, judged by the names of timelines as the engine does.
    pub fn entry_of(&self, standby: &Self) -> Entry {
        let offset = standby.offset();
        if standby.lineage == self.lineage {
            return if offset <= self.offset() {
                Entry::From(offset)
            } else {
                Entry::Ahead
            };
        }
        let ancestors = self.postgres.ancestors.iter().rev();
        let mut same = ancestors.filter(|left| left.lineage == standby.lineage);
        match same.next() {
            Some(left) if whole_end(&standby.log) <= left.offset.0 => {
                Entry::From(offset.min(left.offset.0))
            }
            Some(_) | None => Entry::Diverged,
        }
    }

    /// How far it has replayed.
    pub fn replayed(&self, now: Instant) -> u64 {
        let replay = &self.postgres.replay;
        let end = whole_end(&self.log);
        if now >= replay.done {
            return end;
        }
        let whole = replay.done.since(replay.begun).as_millis().max(1);
        let part = now.since(replay.begun).as_millis();
        let left = u128::from(end.saturating_sub(replay.from));
        replay.from + u64::try_from(left * part / whole).expect("a part of an offset")
    }

    /// What the server can tell of its position: nothing, from a standby's start until it streams or its replay stands
    /// still (rule S16).
    pub fn told_position(&self, now: Instant) -> Option<Position> {
        let at = |offset| {
            Some(Position {
                lineage: self.lineage.clone(),
                offset: Offset(offset),
            })
        };
        if self.duty == Duty::Primary || self.postgres.streamed {
            return at(self.offset());
        }
        let still = now >= self.postgres.replay.done + STANDSTILL && self.feed == Feed::Broken;
        if still {
            at(whole_end(&self.log))
        } else {
            None
        }
    }

    /// What an adapter tells that asks a standby which has just started for its position all the same.
    pub fn understated_position(&self, now: Instant) -> Position {
        let offset = Offset(self.replayed(now));
        let lineage = self.lineage.clone();
        Position { lineage, offset }
    }

    /// The promotion comes to its end: a new timeline, from the end of the last whole record.
    pub fn open_timeline(&mut self) {
        let fork = whole_end(&self.log);
        self.log
            .truncate(usize::try_from(fork).expect("few writes"));
        let left = Position {
            lineage: self.lineage.clone(),
            offset: Offset(fork),
        };
        self.parent = Some(left.clone());
        let own = &mut self.postgres;
        own.ancestors.push(left);
        own.known += 1;
        own.number = own.known;
        own.promoting = None;
        self.lineage = timeline(own.number, fork);
        self.duty = Duty::Primary;
        self.saved.duty = Duty::Primary;
    }

    /// Takes over the history of the server that it streams from.
    pub fn take_history(&mut self, from: &Self) {
        self.lineage = from.lineage.clone();
        self.parent = from.parent.clone();
        let own = &mut self.postgres;
        own.number = from.postgres.number;
        own.known = own.known.max(own.number);
        own.ancestors = from.postgres.ancestors.clone();
    }

    /// Becomes a copy of this server, under a new incarnation: rewound or rebuilt, and not started yet.
    pub fn become_copy(&mut self, of: &Self) {
        self.log = of.log.clone();
        self.postgres.known = 0;
        self.take_history(of);
        self.postgres.rebuilds += 1;
        self.whole = true;
    }

    /// The process starts again on what was flushed, which is everything.
    pub fn start(&mut self, ready_at: Instant, replay: Replay) {
        self.process = super::instance::Process::Running;
        self.starts += 1;
        self.duty = self.saved.duty;
        self.quorum = self.saved.quorum.clone();
        let own = &mut self.postgres;
        own.writes = self.saved.writes;
        own.streamed = false;
        own.promoting = None;
        own.quorum_after = None;
        own.stopping = false;
        own.ready_at = ready_at;
        own.replay = replay;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::sim::settings::Shape;

    fn server(index: usize, records: &[(u64, u64)]) -> Instance {
        let mut server = Instance::new(index, Duty::Frozen, timeline(1, 0), 0);
        server.shape = Shape::Postgres;
        for (value, bytes) in records {
            server.log.extend(record(*value, *bytes));
        }
        server
    }

    #[test]
    fn a_promotion_forks_at_the_end_of_the_last_whole_record() {
        let mut torn = server(1, &[(7, 3), (8, 4)]);
        torn.log.pop();
        torn.open_timeline();
        assert_eq!(torn.lineage.as_str(), "2@3");
        assert_eq!(torn.parent.as_ref().unwrap().offset, Offset(3));
        assert_eq!(torn.offset(), 3);
    }

    #[test]
    fn siblings_promoted_at_one_point_bear_one_name() {
        let (mut one, mut other) = (server(1, &[(7, 3)]), server(2, &[(7, 3)]));
        one.open_timeline();
        other.open_timeline();
        assert_eq!(one.lineage, other.lineage);
        // A third one takes the next number that it knows of.
        let mut third = server(3, &[(7, 3)]);
        third.take_history(&one);
        third.open_timeline();
        assert_eq!(third.lineage.as_str(), "3@3");
    }

    #[test]
    fn a_standby_beyond_the_fork_is_refused_and_a_torn_piece_is_not() {
        let mut primary = server(1, &[(7, 3)]);
        primary.open_timeline();
        primary.log.extend(record(9, 5));
        assert_eq!(primary.entry_of(&server(2, &[(7, 2)])), Entry::From(2));
        let mut torn = server(2, &[(7, 3), (8, 4)]);
        torn.log.pop();
        assert_eq!(primary.entry_of(&torn), Entry::From(3));
        let beyond = server(2, &[(7, 3), (8, 4)]);
        assert_eq!(primary.entry_of(&beyond), Entry::Diverged);
        let mut stranger = server(2, &[(7, 3)]);
        stranger.lineage = timeline(2, 9);
        assert_eq!(primary.entry_of(&stranger), Entry::Diverged);
    }

    #[test]
    fn a_started_standby_knows_its_position_when_it_streams_or_stands_still() {
        let at = |millis| Instant::ORIGIN + std::time::Duration::from_millis(millis);
        let mut standby = server(1, &[(7, 10), (8, 10)]);
        let replay = Replay {
            from: 10,
            begun: at(100),
            done: at(300),
        };
        standby.start(at(100), replay);
        assert_eq!(standby.told_position(at(200)), None);
        assert_eq!(standby.understated_position(at(200)).offset, Offset(15));
        assert_eq!(standby.told_position(at(1299)), None);
        let still = standby.told_position(at(1300)).unwrap();
        assert_eq!(still.offset, Offset(20));
        standby.postgres.streamed = true;
        assert!(standby.told_position(at(200)).is_some());
    }
}
