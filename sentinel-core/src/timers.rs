//! One pending instant per key, and the earliest of all at hand.
//!
//! Setting, cancelling and finding the earliest cost the logarithm of what is pending, so that
//! watching more costs nothing while nothing is due.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Instant;

/// Invariant: `by_time` and `by_key` hold the same pairs.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            by_time: BTreeSet::new(),
            by_key: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets the key's timer, replacing an earlier setting.
    pub fn set(&mut self, key: K, at: Instant) {
        if let Some(old) = self.by_key.insert(key.clone(), at) {
            self.by_time.remove(&(old, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    /// Sets the key's timer unless an earlier one is pending.
    pub fn set_earlier(&mut self, key: K, at: Instant) {
        if self.by_key.get(&key).is_none_or(|&old| at < old) {
            self.set(key, at);
        }
    }

    /// The earliest pending instant.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one key that is due, the longest overdue first.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Instant {
        Instant::from_nanos(n)
    }

    #[test]
    fn a_key_has_one_timer() {
        let mut timers = Timers::default();
        timers.set("a", at(5));
        timers.set("a", at(9));
        timers.set_earlier("a", at(12));
        timers.set("b", at(7));
        assert_eq!(timers.next(), Some(at(7)));
        assert_eq!(timers.pop_due(at(6)), None);
        assert_eq!(timers.pop_due(at(20)), Some("b"));
        assert_eq!(timers.pop_due(at(20)), Some("a"));
        assert_eq!(timers.pop_due(at(20)), None);
    }
}
