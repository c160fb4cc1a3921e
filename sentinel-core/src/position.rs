//! Positions in a replication history, and the chain of lineages of which they may be part.
//!
//! A position compares with another only within one lineage. The chain (rule S1) lists the lineage
//! of every authorised primary with the offset at which it began; a position that lies on the chain
//! is a prefix of the authorised history, so on-chain positions compare by offset. A position off
//! the chain belongs to a history that was given up, and is comparable with nothing.
//!
//! Rejected: equality with the newest lineage. It is safe, but a primary that dies before anybody
//! followed it would make every replica ineligible for ever (`docs/safety.md`, rule S1).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Identity of one branch of history; opaque to the core, made by the adapter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(Arc<str>);

impl Lineage {
    /// Wraps the engine's own id of a branch of history.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The engine's own id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far an instance has got, in bytes of its lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which branch of history.
    pub lineage: Lineage,
    /// Bytes of history received and kept.
    pub offset: Offset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of lineage {}", self.offset, self.lineage)
    }
}

/// Bytes from the beginning of history. Offsets compare only between positions on one chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One authorised primary's branch of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainElement {
    /// Unknown between the decision to promote and the observation of the promotion.
    pub lineage: Option<Lineage>,
    /// Where this branch left the one before it.
    pub start: Offset,
    /// Up to here the branch before it holds nothing whole beyond `start`: the primary of this branch had received so
    /// much, and what was no whole record it dropped when it was promoted.
    pub torn_until: Offset,
}

/// The lineages of all authorised primaries of a service, oldest first.
///
/// Invariants: never empty after adoption; starts never decrease; only the last element may lack its lineage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    elements: Vec<ChainElement>,
}

/// Elements kept. An instance that missed this many failovers is off the chain and resyncs in full.
const CHAIN_ELEMENTS_MAX: usize = 64;

impl Chain {
    /// The chain of a service whose first primary has this lineage.
    pub fn adopted(lineage: Lineage) -> Self {
        Self {
            elements: vec![ChainElement {
                lineage: Some(lineage),
                start: Offset(0),
                torn_until: Offset(0),
            }],
        }
    }

    /// Elements, oldest first.
    pub fn elements(&self) -> &[ChainElement] {
        &self.elements
    }

    /// The newest element.
    pub fn last(&self) -> Option<&ChainElement> {
        self.elements.last()
    }

    /// Whether this lineage is the newest of the chain.
    pub fn ends_with(&self, lineage: &Lineage) -> bool {
        self.last()
            .is_some_and(|last| last.lineage.as_ref() == Some(lineage))
    }

    /// Opens a branch of a primary about to be promoted; its lineage is not known yet.
    pub fn open(&mut self, start: Offset) {
        self.open_torn(start, start);
    }

    /// The same for one that has left the branch before it already, and held that up to `held` when it did.
    pub fn open_torn(&mut self, start: Offset, held: Offset) {
        self.give_up_unnamed();
        self.elements.push(ChainElement {
            lineage: None,
            start,
            torn_until: held.max(start),
        });
        if self.elements.len() > CHAIN_ELEMENTS_MAX {
            self.elements.remove(0);
        }
    }

    /// Gives up a branch that was opened and never observed: nothing followed it, so positions on
    /// the branch before it are not bounded by its start (rule S10).
    pub fn give_up_unnamed(&mut self) {
        if self.last().is_some_and(|last| last.lineage.is_none()) {
            self.elements.pop();
        }
    }

    /// Names the branch that was opened last, and says where it left the one before: at the start that was foreseen, or
    /// before it, because what was received last was no whole record.
    pub fn name_last(&mut self, lineage: Lineage, fork: Offset) {
        if let Some(last) = self.elements.last_mut() {
            last.lineage = Some(lineage);
            last.start = last.start.min(fork);
        }
    }

    /// The offset of a position that is part of the authorised history, else `None`.
    pub fn offset_of(&self, position: &Position) -> Option<Offset> {
        let index = self
            .elements
            .iter()
            .rposition(|e| e.lineage.as_ref() == Some(&position.lineage))?;
        match self.elements.get(index + 1) {
            Some(next) if position.offset > next.torn_until => None,
            // What lies beyond the start is a piece of a record that nobody has whole.
            Some(next) => Some(position.offset.min(next.start)),
            None => Some(position.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lineage: &str, offset: u64) -> Position {
        Position {
            lineage: Lineage::new(lineage),
            offset: Offset(offset),
        }
    }

    fn chain() -> Chain {
        let mut chain = Chain::adopted(Lineage::new("a"));
        chain.open(Offset(10));
        chain.name_last(Lineage::new("b"), Offset(10));
        chain
    }

    #[test]
    fn a_position_is_on_the_chain_up_to_the_next_start() {
        for (position, wanted) in [
            (at("a", 9), Some(Offset(9))),
            (at("a", 10), Some(Offset(10))),
            (at("a", 11), None),
            (at("b", 500), Some(Offset(500))),
            (at("c", 1), None),
        ] {
            assert_eq!(chain().offset_of(&position), wanted, "{position}");
        }
    }

    #[test]
    fn a_torn_record_counts_as_its_beginning() {
        let mut chain = chain();
        chain.open(Offset(30));
        chain.name_last(Lineage::new("c"), Offset(24));
        for (position, wanted) in [
            (at("b", 23), Some(Offset(23))),
            (at("b", 24), Some(Offset(24))),
            (at("b", 30), Some(Offset(24))),
            (at("b", 31), None),
            (at("c", 25), Some(Offset(25))),
        ] {
            assert_eq!(chain.offset_of(&position), wanted, "{position}");
        }
    }

    #[test]
    fn a_branch_that_nobody_observed_is_replaced() {
        let mut chain = chain();
        chain.open(Offset(20));
        chain.open(Offset(15));
        assert_eq!(chain.elements().len(), 3);
        assert_eq!(chain.last().map(|e| e.start), Some(Offset(15)));
        assert_eq!(chain.offset_of(&at("b", 16)), None);
    }

    #[test]
    fn the_chain_is_bounded() {
        let mut chain = chain();
        for n in 0..1000u64 {
            chain.open(Offset(20 + n));
            chain.name_last(Lineage::new(format!("l{n}")), Offset(20 + n));
        }
        assert_eq!(chain.elements().len(), CHAIN_ELEMENTS_MAX);
    }
}
