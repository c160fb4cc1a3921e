//! Virtual time: what happens next, by (instant, sequence). Time jumps from one event to the next.
//!
//! Does not know what the events are. Events of one instant happen in the order in which they were entered.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use sentinel_core::time::Instant;

/// Invariants: `now` never goes back; no entry lies before `now`; sequences are unique.
#[derive(Debug)]
pub struct Schedule<E> {
    now: Instant,
    sequence: u64,
    heap: BinaryHeap<Entry<E>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Instant,
    sequence: u64,
    event: E,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self {
            now: Instant::ORIGIN,
            sequence: 0,
            heap: BinaryHeap::new(),
        }
    }
}

impl<E> Schedule<E> {
    /// The present.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Enters an event; one that lies in the past happens next.
    pub fn at(&mut self, at: Instant, event: E) {
        self.sequence += 1;
        self.heap.push(Entry {
            at: at.max(self.now),
            sequence: self.sequence,
            event,
        });
    }

    /// Enters an event so much later.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Goes to the next event that happens at `until` at the latest; else to `until`.
    pub fn next_until(&mut self, until: Instant) -> Option<E> {
        if self.heap.peek().is_none_or(|entry| entry.at > until) {
            self.now = self.now.max(until);
            return None;
        }
        let entry = self.heap.pop().expect("one was just seen");
        self.now = entry.at;
        Some(entry.event)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_entry() {
        let mut schedule = Schedule::default();
        let at = |ms| Instant::ORIGIN + Duration::from_millis(ms);
        for (ms, name) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            schedule.at(at(ms), name);
        }
        let mut seen = Vec::new();
        while let Some(name) = schedule.next_until(at(5)) {
            seen.push((schedule.now(), name));
        }
        assert_eq!(
            seen,
            [(at(1), "a"), (at(2), "b"), (at(5), "c"), (at(5), "d")]
        );
    }

    #[test]
    fn time_stops_at_the_bound() {
        let mut schedule = Schedule::default();
        let at = |ms| Instant::ORIGIN + Duration::from_millis(ms);
        schedule.at(at(10), ());
        assert_eq!(schedule.next_until(at(9)), None);
        assert_eq!(schedule.now(), at(9));
        assert_eq!(schedule.next_until(at(10)), Some(()));
        schedule.at(at(1), ());
        assert_eq!(schedule.next_until(at(10)), Some(()), "the past is now");
        assert_eq!(schedule.now(), at(10));
    }
}
