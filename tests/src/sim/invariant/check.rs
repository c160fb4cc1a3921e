//! How invariants look at the world: every happening, in order, with everything readable.
//!
//! Knows no property. The first violation ends a run, because what follows it proves nothing.

use std::fmt;

use sentinel_core::action::Action;
use sentinel_core::discovery::View;
use sentinel_core::id::Incarnation;
use sentinel_core::ledger::Table;
use sentinel_core::peer::PeerMessage;
use sentinel_core::position::Position;
use sentinel_core::time::Instant;

use super::{
    authority::OneAuthority, durability::NothingLost, eligibility::Eligible, epochs::EpochsRise,
    frozen::FrozenIsFrozen, histories::HistoriesApart, majority::MajorityDecides,
    memory::NothingForgotten, seal::Sealed, switchover::SwitchedWhole, tokens::TokensRise,
};
use crate::sim::history::Write;
use crate::sim::instance::Duty;
use crate::sim::world::World;

/// A server just before it was ordered something.
#[derive(Clone, Debug)]
pub struct Was {
    /// What it was told to be.
    pub duty: Duty,
    /// Whether its data were whole.
    pub whole: bool,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where it was.
    pub position: Option<Position>,
}

/// Something that an invariant may care about. The world is as it is right after it.
#[derive(Debug)]
pub enum Happening<'a> {
    /// An event was delivered, whatever it was.
    Stepped,
    /// A server carried out an action.
    Executed {
        instance: usize,
        action: &'a Action,
        was: &'a Was,
    },
    /// A node ordered an action.
    Ordered { node: usize, action: &'a Action },
    /// A node sent a message to a peer.
    Sent {
        node: usize,
        message: &'a PeerMessage,
    },
    /// A node answers from this view from now on.
    Answered { node: usize, view: &'a View },
    /// A node shows this table, after everything before it was carried out.
    Applied { node: usize, table: &'a Table },
    /// A node's disk has what it was told.
    Persisted { node: usize },
    /// A guard was told that a write is acknowledged.
    Acknowledged { write: &'a Write },
    /// A replica received history from its upstream.
    Fed { replica: usize, upstream: usize },
    /// A full sync is about to take a replica's data.
    Overwriting { replica: usize, upstream: usize },
    /// A server started again.
    Restarted { instance: usize },
    /// A standby asks for a history that is not its upstream's: it has replayed beyond the fork.
    Stranded { replica: usize, upstream: usize },
    /// A standby would go on with another history than its own that bears the same name.
    Mixed { replica: usize, upstream: usize },
    /// A person rebuilds a server.
    ByHand { instance: usize },
    /// A run has come to rest, everything is mended and caught up.
    Rested,
}

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
    /// When.
    pub at: Instant,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "VIOLATION of `{}` at {:?}: {}",
            self.invariant, self.at, self.text
        )
    }
}

/// One property.
pub trait Invariant: fmt::Debug {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Looks; an error says what is wrong.
    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String>;
}

/// All properties.
#[derive(Debug, Default)]
pub struct Invariants {
    all: Vec<Box<dyn Invariant>>,
}

impl Invariants {
    /// Every property that there is, having seen nothing.
    pub fn all() -> Self {
        Self {
            all: vec![
                Box::new(OneAuthority::default()),
                Box::new(EpochsRise::default()),
                Box::new(MajorityDecides::default()),
                Box::new(NothingLost::default()),
                Box::new(Sealed::default()),
                Box::new(TokensRise::default()),
                Box::new(FrozenIsFrozen::default()),
                Box::new(NothingForgotten::default()),
                Box::new(Eligible::default()),
                Box::new(HistoriesApart::default()),
                Box::new(SwitchedWhole::default()),
            ],
        }
    }

    /// Shows a happening to all, in order; the first violation.
    pub fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Option<Violation> {
        for invariant in &mut self.all {
            if let Err(text) = invariant.observe(world, seen) {
                return Some(Violation {
                    invariant: invariant.name(),
                    text,
                    at: world.now(),
                });
            }
        }
        None
    }
}
