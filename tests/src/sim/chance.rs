//! Chance from a seed: splitmix64, so that a run depends on its seed and on nothing else.
//!
//! Does not know what is drawn. No library's generator, because its stream may change with its version
//! and would take every recorded seed with it.

use std::time::Duration;

/// A stream of drawn numbers. Equal seeds give equal streams.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed ^ 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// A stream of its own, so that draws for one purpose do not shift those for another.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_number())
    }

    /// The next 64 bits.
    pub fn next_number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0. The bias of the remainder does not matter here.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            0
        } else {
            self.next_number() % end
        }
    }

    /// An index below `end`.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a usize")
    }

    /// True in so many of a hundred draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A duration from `shortest` to `longest`, both in microseconds.
    pub fn micros(&mut self, shortest: u64, longest: u64) -> Duration {
        Duration::from_micros(shortest + self.below(longest - shortest + 1))
    }

    /// A duration from `shortest` to `longest`, both in milliseconds.
    pub fn millis(&mut self, shortest: u64, longest: u64) -> Duration {
        self.micros(shortest * 1000, longest * 1000)
    }

    /// One of these; `None` of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        let index = self.index(from.len());
        from.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams_and_others_differ() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.next_number()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn draws_stay_within_their_bounds() {
        let mut chance = Chance::new(1);
        for _ in 0..1000 {
            assert!(chance.below(3) < 3);
            let drawn = chance.millis(2, 4);
            assert!((Duration::from_millis(2)..=Duration::from_millis(4)).contains(&drawn));
        }
        assert_eq!(chance.below(0), 0);
        assert_eq!(chance.pick::<u8>(&[]), None);
    }
}
