//! The election timeout of a node: a pure function of seed, node, term and role.
//!
//! raft-rs draws it from the thread's random numbers whenever its state changes, which no seed reaches. Timeouts must
//! differ between nodes and terms, or votes split for ever; they need not be unpredictable.

use crate::config::Timing;

/// Bounds of an election timeout in beats, both included, and the seed that places it between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ElectionTimeout {
    /// Beats before the earliest election.
    pub(super) shortest: usize,
    /// Beats before the latest election.
    pub(super) longest: usize,
    seed: u64,
}

/// What the timeout of a node depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    /// Raft number of the node.
    pub(super) number: u64,
    /// Its term.
    pub(super) term: u64,
    /// Its role, by raft-rs's number.
    pub(super) role: u64,
}

impl ElectionTimeout {
    pub(super) fn new(timing: &Timing, seed: u64) -> Self {
        Self {
            shortest: timing.election_ticks_min as usize,
            longest: timing.election_ticks_max as usize,
            seed,
        }
    }

    /// Beats of silence after which the node stands for election.
    pub(super) fn ticks(self, draw: Draw) -> usize {
        let hash = [draw.number, draw.term, draw.role]
            .into_iter()
            .fold(mixed(self.seed), |hash, part| mixed(hash ^ part));
        let spread = (self.longest - self.shortest + 1) as u64;
        self.shortest + (hash % spread) as usize
    }
}

/// The finisher of splitmix64: every bit of the input moves every bit of the output.
pub(super) fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_timeout_between_the_bounds_is_drawn_and_no_other() {
        let timing = Timing::default();
        let drawn: BTreeSet<_> = (0..1000)
            .map(|term| {
                ElectionTimeout::new(&timing, 5).ticks(Draw {
                    number: 3,
                    term,
                    role: 0,
                })
            })
            .collect();
        let bounds = timing.election_ticks_min as usize..=timing.election_ticks_max as usize;
        assert_eq!(drawn, bounds.collect());
    }

    #[test]
    fn two_nodes_do_not_stay_in_step() {
        let timeout = ElectionTimeout::new(&Timing::default(), 5);
        let ticks = |number, term| {
            timeout.ticks(Draw {
                number,
                term,
                role: 0,
            })
        };
        let same = (0..1000).filter(|&term| ticks(1, term) == ticks(2, term));
        assert!(same.count() < 300, "a seventh is expected");
    }
}
