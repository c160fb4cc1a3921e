//! What the writers sent and what was acknowledged to them, in the order in which they heard of it.
//!
//! Remembers, and counts what the report needs from it. Knows no servers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sentinel_core::id::InstanceId;
use tokio::sync::watch;

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acked {
    pub(super) key: Key,
    pub(super) at: Instant,
    /// The server that executed it.
    pub(super) by: InstanceId,
}

/// Every write has a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) writer: usize,
    pub(super) number: u64,
}

impl Key {
    /// As the servers know it.
    pub(super) fn name(self) -> String {
        format!("demo:{}:{}", self.writer, self.number)
    }

    /// What is written under it.
    pub(super) fn value(self) -> String {
        format!("{}-{}", self.writer, self.number)
    }
}

/// All writes of a demonstration.
#[derive(Debug)]
pub(super) struct Journal {
    sent: AtomicU64,
    acked: Mutex<Vec<Acked>>,
    newest: watch::Sender<Option<Acked>>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            sent: AtomicU64::new(0),
            acked: Mutex::new(Vec::new()),
            newest: watch::Sender::new(None),
        }
    }

    /// A write is about to be sent.
    pub(super) fn sending(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A write was acknowledged.
    pub(super) fn acknowledged(&self, key: Key, by: InstanceId) {
        let acked = {
            let mut all = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
            // Taken under the lock, so that the order is that of the times.
            let at = Instant::now();
            let acked = Acked { key, at, by };
            all.push(acked.clone());
            acked
        };
        self.newest.send_replace(Some(acked));
    }

    /// How many were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Everything that was acknowledged so far.
    pub(super) fn acked(&self) -> Vec<Acked> {
        self.acked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits until a write after `since` was acknowledged by a server other than these.
    pub(super) async fn acknowledged_elsewhere(&self, since: Instant, than: &[InstanceId]) {
        let mut newest = self.newest.subscribe();
        let elsewhere = |newest: &Option<Acked>| {
            newest
                .as_ref()
                .is_some_and(|acked| is_elsewhere(acked, since, than))
        };
        // The sender lives as long as we do.
        drop(newest.wait_for(elsewhere).await);
    }
}

/// The first write after the fault that another server acknowledged.
pub(super) fn first_elsewhere<'a>(
    acked: &'a [Acked],
    since: Instant,
    than: &[InstanceId],
) -> Option<&'a Acked> {
    acked.iter().find(|acked| is_elsewhere(acked, since, than))
}

fn is_elsewhere(acked: &Acked, since: Instant, than: &[InstanceId]) -> bool {
    acked.at > since && !than.contains(&acked.by)
}

/// The longest time between two acknowledgements that follow each other, whoever got them.
pub(super) fn longest_gap(acked: &[Acked]) -> Option<Duration> {
    let pairs = acked.windows(2);
    pairs
        .map(|pair| pair[1].at.duration_since(pair[0].at))
        .max()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn at(port: u16) -> InstanceId {
        InstanceId::new("127.0.0.1", port)
    }

    #[test]
    fn gaps_and_firsts() {
        let start = Instant::now();
        let acked = |ms, port| Acked {
            key: Key {
                writer: 0,
                number: ms,
            },
            at: start + Duration::from_millis(ms),
            by: at(port),
        };
        let all = [acked(0, 1), acked(5, 1), acked(305, 2), acked(310, 2)];
        assert_eq!(longest_gap(&all), Some(Duration::from_millis(300)));
        assert_eq!(longest_gap(&all[..1]), None);
        let fault = start + Duration::from_millis(2);
        let first = first_elsewhere(&all, fault, &[at(1)]).unwrap();
        assert_eq!(first.key.number, 305);
        assert_eq!(first_elsewhere(&all, fault, &[at(1), at(2)]), None);
        let late = start + Duration::from_millis(400);
        assert_eq!(first_elsewhere(&all, late, &[at(1)]), None);
    }

    #[tokio::test]
    async fn the_wait_ends_with_an_acknowledgement_elsewhere() {
        let journal = Journal::new();
        let start = Instant::now();
        let key = Key {
            writer: 1,
            number: 2,
        };
        journal.sending();
        journal.acknowledged(key, at(1));
        let than = [at(1)];
        let waited = tokio::time::timeout(
            Duration::from_millis(20),
            journal.acknowledged_elsewhere(start, &than),
        );
        assert!(waited.await.is_err(), "the old primary does not count");
        journal.acknowledged(key, at(2));
        journal.acknowledged_elsewhere(start, &than).await;
        assert_eq!((journal.sent(), journal.acked().len()), (1, 2));
    }
}
