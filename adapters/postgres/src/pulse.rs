//! Watches whether a primary still writes its log to disk.
//!
//! Knows flush positions and the time. A primary whose log does not move is given one small record a
//! second at most; the record takes no transaction number and waits for nobody. A disk that hangs lets
//! sessions answer questions while every commit waits: the record then stays unflushed, and a probe has
//! to say that it got no answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::lsn::Lsn;

/// The record. Replicas and logical decoders get it under this prefix.
pub(crate) const RECORD: &str = "SELECT pg_logical_emit_message(false, 'sentinel', '')::text";

/// How often, at most, and how long a record may stay unflushed. The server's own writer flushes it
/// within `wal_writer_delay`, a fifth of a second by default.
const PACE: Duration = Duration::from_secs(1);

/// What a probe should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing: the log moves, or there is time left.
    Fine,
    /// Write a record.
    Write,
    /// A record stayed unflushed: the disk hangs.
    Hanging,
}

/// What was seen of one server process, over all connections to it: one that hangs in writing its
/// record is given up, and the next must not look as if the disk worked.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    flushed: Option<Lsn>,
    /// When a record was written behind `flushed`, and is not known to be flushed.
    awaited: Option<Instant>,
    written: Option<Instant>,
}

impl Pulse {
    /// Judges a reading of the flush position.
    pub(crate) fn beat(&mut self, flushed: Lsn, now: Instant) -> Beat {
        if self.flushed.replace(flushed) != Some(flushed) {
            self.awaited = None;
            return Beat::Fine;
        }
        if let Some(since) = self.awaited {
            let late = now.duration_since(since) >= PACE;
            return if late { Beat::Hanging } else { Beat::Fine };
        }
        let due = self
            .written
            .is_none_or(|written| now.duration_since(written) >= PACE);
        if !due {
            return Beat::Fine;
        }
        self.written = Some(now);
        self.awaited = Some(now);
        Beat::Write
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_moves_is_left_alone() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        for n in 0..50u64 {
            let now = start + Duration::from_millis(100 * n);
            assert_eq!(pulse.beat(Lsn(n), now), Beat::Fine);
        }
    }

    #[test]
    fn a_record_a_second_keeps_an_idle_server_alive() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        let mut end = 10;
        let mut records = 0;
        for n in 0..50u64 {
            let now = start + Duration::from_millis(100 * n);
            match pulse.beat(Lsn(end), now) {
                Beat::Write => {
                    records += 1;
                    end += 5;
                }
                Beat::Fine => {}
                Beat::Hanging => panic!("flushed all the time"),
            }
        }
        assert!((4..=6).contains(&records), "{records}");
    }

    #[test]
    fn an_unflushed_record_is_a_hang_after_its_time_and_until_it_is_flushed() {
        let mut pulse = Pulse::default();
        let start = Instant::now();
        assert_eq!(pulse.beat(Lsn(1), start), Beat::Fine);
        assert_eq!(pulse.beat(Lsn(1), start), Beat::Write);
        assert_eq!(pulse.beat(Lsn(1), start + PACE / 2), Beat::Fine);
        for n in 1..5 {
            assert_eq!(pulse.beat(Lsn(1), start + PACE * n), Beat::Hanging);
        }
        assert_eq!(pulse.beat(Lsn(2), start + PACE * 5), Beat::Fine);
    }
}
