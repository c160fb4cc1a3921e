//! What the guards were promised: every acknowledged write, and the totals of a run.
//!
//! Knows results only. Whether a promise was kept is the invariants' question.

use sentinel_core::id::Incarnation;
use sentinel_core::position::Lineage;
use sentinel_core::time::Instant;

/// One write that a guard was told to be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Unique in a run.
    pub value: u64,
    /// Its place in the history.
    pub offset: u64,
    /// Who acknowledged it.
    pub instance: usize,
    /// In which life.
    pub incarnation: Incarnation,
    /// In which lineage.
    pub lineage: Lineage,
    /// When.
    pub at: Instant,
}

/// Totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events delivered.
    pub events: u64,
    /// Faults that took effect.
    pub faults: u64,
    /// Promotions executed.
    pub promotions: u64,
    /// Failovers given up.
    pub aborts: u64,
    /// Joint changes of write quorums.
    pub changes: u64,
    /// New incarnations accepted.
    pub readmissions: u64,
    /// Writes sent.
    pub sent: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Writes of which the guard cannot know.
    pub unknown: u64,
    /// Losses of memory.
    pub memory_losses: u64,
    /// Full syncs begun.
    pub full_syncs: u64,
    /// Rewinds and copies begun.
    pub rewinds: u64,
    /// Switchovers begun.
    pub switchovers: u64,
    /// Switchovers called off.
    pub called_off: u64,
    /// Pauses that an agent ended by itself.
    pub outlasted: u64,
}

impl Totals {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.faults += other.faults;
        self.promotions += other.promotions;
        self.aborts += other.aborts;
        self.changes += other.changes;
        self.readmissions += other.readmissions;
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.memory_losses += other.memory_losses;
        self.full_syncs += other.full_syncs;
        self.rewinds += other.rewinds;
        self.switchovers += other.switchovers;
        self.called_off += other.called_off;
        self.outlasted += other.outlasted;
    }
}
