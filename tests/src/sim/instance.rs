//! A simulated database server: roles, lineages, resyncs, restarts; of Redis's shape, or of PostgreSQL's.
//!
//! Knows its own data and settings and what it last heard from its replicas. Does not know the
//! network, nor whether it ought to be primary. The log is the data: the offset of a write is the place in the
//! log at which its record ends, in every lineage that has it. What only PostgreSQL has is in `postgres.rs`.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::id::{Incarnation, InstanceId, Token};
use sentinel_core::observation::{
    Facts, Link, Persistable, ReplicaLink, RestartGuard, Role, Upstream, WriteQuorum, Writes,
};
use sentinel_core::position::{Lineage, Offset, Position};
use sentinel_core::time::Instant;

use super::postgres::{Postgres, last_byte};
use super::settings::Shape;

/// The process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It runs.
    Running,
    /// It is stopped (SIGSTOP): its kernel accepts connections, nobody answers.
    Hung,
    /// It is gone, and its memory with it.
    Dead,
}

/// What the server is told to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Take writes.
    Primary,
    /// Receive from this one.
    Follow(usize),
    /// Receive from nobody.
    Frozen,
}

/// State of a replica's link; the number tells one link from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Not connected.
    Broken,
    /// Waits for a full sync, or is in one.
    Syncing,
    /// Streams.
    Streaming,
}

/// A replica as its upstream sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// The link by which it is connected.
    pub link: u64,
    /// Whether it streams.
    pub streaming: bool,
    /// How far it has acknowledged.
    pub acknowledged: u64,
}

/// A standing connection of a write guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuardConnection {
    /// Which guard.
    pub guard: usize,
    /// Which connection of it.
    pub number: u64,
}

/// What survives the end of the process, besides the data.
#[derive(Clone, Debug)]
pub struct Saved {
    /// As CONFIG REWRITE left it.
    pub duty: Duty,
    /// The write quorum.
    pub quorum: Option<WriteQuorum>,
    /// Whether it was told to refuse writes; PostgreSQL's shape only.
    pub writes: Writes,
}

/// One server.
///
/// Invariants: `downstream` and `guards` are empty unless the process lives; `whole` is false from the
/// beginning of a full sync to its end; a lineage is written by one process in one incarnation only.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its address.
    pub id: InstanceId,
    /// Its index in the world.
    pub index: usize,
    /// Which engine's semantics it has.
    pub shape: Shape,
    /// The process.
    pub process: Process,
    /// How often it was started.
    pub starts: u32,
    /// What it is told to be.
    pub duty: Duty,
    /// What a restart finds.
    pub saved: Saved,
    /// The data.
    pub log: Vec<u64>,
    /// Its replication id.
    pub lineage: Lineage,
    /// The replication id before, and how far it is part of this one.
    pub parent: Option<Position>,
    /// A replica below this offset cannot resync in part: the backlog does not reach back so far.
    pub backlog_start: u64,
    /// Whether the data are whole.
    pub whole: bool,
    /// State of its link upwards.
    pub feed: Feed,
    /// Number of its link upwards.
    pub link: u64,
    /// Its replicas.
    pub downstream: BTreeMap<usize, Downstream>,
    /// Connections of write guards.
    pub guards: BTreeSet<GuardConnection>,
    /// The write quorum in force.
    pub quorum: Option<WriteQuorum>,
    /// Its priority for promotion.
    pub priority: u32,
    /// Until when it holds writes back, for a switchover; Redis's shape only.
    pub paused_until: Instant,
    /// How long it delays a full sync, in milliseconds.
    pub sync_delay_ms: u64,
    /// Highest token executed, as an agent would keep it durably.
    pub token: Token,
    /// What only PostgreSQL's shape has.
    pub postgres: Postgres,
}

/// Where the instance of this index listens.
pub fn address(index: usize) -> InstanceId {
    InstanceId::new("db", 6379 + u16::try_from(index).expect("few instances"))
}

/// A fresh replication id.
pub fn lineage(number: u64) -> Lineage {
    Lineage::new(format!("l{number}"))
}

impl Instance {
    /// A server that was just set up, with no data.
    pub fn new(index: usize, duty: Duty, lineage: Lineage, sync_delay_ms: u64) -> Self {
        Self {
            id: address(index),
            index,
            shape: Shape::Redis,
            process: Process::Running,
            starts: 1,
            duty,
            saved: Saved {
                duty,
                quorum: None,
                writes: Writes::Taken,
            },
            log: Vec::new(),
            lineage,
            parent: None,
            backlog_start: 0,
            whole: true,
            feed: Feed::Broken,
            link: 0,
            downstream: BTreeMap::new(),
            guards: BTreeSet::new(),
            quorum: None,
            priority: 100,
            paused_until: Instant::ORIGIN,
            sync_delay_ms,
            token: Token::default(),
            postgres: Postgres::default(),
        }
    }

    /// This life of it: ends with the process, or with the data folder.
    pub fn incarnation(&self) -> Incarnation {
        match self.shape {
            Shape::Redis => Incarnation::new(format!("{}#{}", self.index, self.starts)),
            Shape::Postgres => {
                Incarnation::new(format!("{}.{}", self.index, self.postgres.rebuilds))
            }
        }
    }

    /// Bytes of history that it holds.
    pub fn offset(&self) -> u64 {
        self.log.len() as u64
    }

    /// Where it is; unknown while its data are not whole.
    pub fn position(&self) -> Option<Position> {
        self.whole.then(|| Position {
            lineage: self.lineage.clone(),
            offset: Offset(self.offset()),
        })
    }

    /// Whether it holds this write.
    pub fn holds(&self, write: &super::history::Write) -> bool {
        let index = usize::try_from(write.offset).expect("few writes");
        index > 0 && self.log.get(index - 1) == Some(&last_byte(write.value))
    }

    /// Whether a replica may connect to it now.
    pub fn serves(&self) -> bool {
        let connected = match (self.shape, self.duty) {
            (Shape::Redis | Shape::Postgres, Duty::Primary) => true,
            (Shape::Redis, Duty::Follow(_)) => self.feed == Feed::Streaming,
            (Shape::Redis, Duty::Frozen) => false,
            (Shape::Postgres, Duty::Follow(_) | Duty::Frozen) => true,
        };
        self.process == Process::Running && self.whole && connected
    }

    /// Whether a replica at this position needs no full sync.
    pub fn continues(&self, replica: &Self) -> bool {
        let offset = replica.offset();
        let own = replica.lineage == self.lineage && offset <= self.offset();
        let parents = self
            .parent
            .as_ref()
            .is_some_and(|parent| parent.lineage == replica.lineage && offset <= parent.offset.0);
        replica.whole && offset >= self.backlog_start && (own || parents)
    }

    /// Takes over the replication id of an upstream from which it continues.
    pub fn adopt(&mut self, lineage: &Lineage) {
        if self.lineage != *lineage {
            self.parent = self.position();
            self.lineage = lineage.clone();
        }
    }

    /// Becomes primary of a new lineage.
    pub fn promote(&mut self, lineage: Lineage) {
        self.parent = self.position();
        self.lineage = lineage;
        self.duty = Duty::Primary;
    }

    /// The process ends; the data is what the disk keeps of it.
    pub fn die(&mut self) {
        self.process = Process::Dead;
        self.downstream.clear();
        self.guards.clear();
        self.feed = Feed::Broken;
        self.link += 1;
        self.postgres.promoting = None;
        self.paused_until = Instant::ORIGIN;
    }

    /// The process starts again with the oldest so many writes.
    pub fn restart(&mut self, kept: u64, fresh: Lineage) {
        let kept = if self.whole {
            kept.min(self.offset())
        } else {
            0
        };
        let lost_nothing = self.whole && kept == self.offset();
        self.log
            .truncate(usize::try_from(kept).expect("few writes"));
        self.process = Process::Running;
        self.starts += 1;
        self.duty = self.saved.duty;
        self.quorum = self.saved.quorum.clone();
        self.backlog_start = kept;
        let before = Position {
            lineage: self.lineage.clone(),
            offset: Offset(kept),
        };
        self.parent = None;
        match self.duty {
            Duty::Primary => {
                self.parent = lost_nothing.then_some(before);
                self.lineage = fresh;
                self.whole = true;
            }
            Duty::Follow(_) | Duty::Frozen => {
                self.whole = kept > 0;
                if kept == 0 {
                    self.lineage = fresh;
                }
            }
        }
    }

    /// What a probe reads.
    pub fn facts(&self, others: &[InstanceId]) -> Facts {
        let link = match self.feed {
            Feed::Broken => Link::Broken,
            Feed::Syncing => Link::Syncing,
            Feed::Streaming => Link::Streaming,
        };
        let follow = |upstream| Role::Replica { upstream, link };
        Facts {
            incarnation: self.incarnation(),
            server: format!("{}#{}", self.index, self.starts).as_str().into(),
            role: match self.duty {
                Duty::Primary => Role::Primary,
                Duty::Follow(upstream) => follow(Upstream::Instance(others[upstream].clone())),
                Duty::Frozen => follow(Upstream::Frozen),
            },
            position: self.position(),
            fork: self.parent.clone(),
            synced: self.whole && self.feed != Feed::Syncing,
            holds_data: self.shape == Shape::Postgres || !self.log.is_empty(),
            persistable: Persistable::Yes,
            priority: self.priority,
            write_quorum: self.quorum.clone(),
            replicas: self.replica_links(others),
            restart_guard: match self.shape {
                Shape::Redis => RestartGuard::Delay(self.sync_delay_ms),
                Shape::Postgres => RestartGuard::Unneeded,
            },
            writes: match self.shape {
                Shape::Redis => Writes::Itself,
                Shape::Postgres => self.postgres.writes,
            },
            applied: None,
            trouble: None,
        }
    }

    fn replica_links(&self, others: &[InstanceId]) -> Vec<ReplicaLink> {
        let link = |(index, seen): (&usize, &Downstream)| ReplicaLink {
            instance: others[*index].clone(),
            link: if seen.streaming {
                Link::Streaming
            } else {
                Link::Syncing
            },
            acknowledged: Offset(seen.acknowledged),
            applied: None,
        };
        self.downstream.iter().map(link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(index: usize, log: &[u64], id: u64) -> Instance {
        let mut server = Instance::new(index, Duty::Frozen, lineage(id), 2000);
        server.log = log.to_vec();
        server
    }

    #[test]
    fn a_sibling_continues_from_a_promoted_replica_up_to_the_fork() {
        let mut promoted = server(1, &[1, 2], 1);
        promoted.promote(lineage(2));
        promoted.log.push(9);
        assert!(promoted.continues(&server(2, &[1], 1)), "behind the fork");
        assert!(promoted.continues(&server(2, &[1, 2], 1)), "at the fork");
        assert!(!promoted.continues(&server(2, &[1, 2, 3], 1)), "beyond it");
        assert!(!promoted.continues(&server(2, &[1, 2], 7)), "a stranger");
    }

    #[test]
    fn the_backlog_ends_somewhere() {
        let mut primary = server(0, &[1, 2, 3], 1);
        primary.backlog_start = 2;
        assert!(primary.continues(&server(1, &[1, 2], 1)));
        assert!(!primary.continues(&server(1, &[1], 1)));
    }

    #[test]
    fn a_primary_that_restarts_is_a_new_lineage() {
        let mut primary = server(0, &[1, 2, 3], 1);
        primary.saved.duty = Duty::Primary;
        primary.die();
        primary.restart(2, lineage(5));
        assert_eq!(primary.duty, Duty::Primary);
        assert_eq!((primary.offset(), primary.parent.as_ref()), (2, None));
        assert_eq!(primary.incarnation().as_str(), "0#2");
        assert!(!primary.continues(&server(1, &[1, 2, 3], 1)));
    }

    #[test]
    fn a_replica_that_restarts_keeps_its_lineage_and_its_duty() {
        let mut replica = server(1, &[1, 2, 3], 1);
        replica.duty = Duty::Follow(0);
        replica.saved.duty = Duty::Frozen;
        replica.die();
        replica.restart(2, lineage(5));
        assert_eq!(replica.duty, Duty::Frozen, "as it was persisted");
        assert_eq!(replica.position().map(|p| p.offset), Some(Offset(2)));
        replica.die();
        replica.restart(0, lineage(6));
        assert_eq!(replica.position(), None, "empty: it needs a first sync");
    }
}
