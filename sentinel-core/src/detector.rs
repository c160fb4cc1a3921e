//! Judges one instance: facts and silence in, health out.
//!
//! Knows when the instance last answered and how it failed to. Does not know peers, quorum or
//! engines. A node that was itself paused calls [`Detector::excuse`], so that its own absence is not
//! charged to the instance.
//!
//! Rejected: counting missed probes, because the pace of probes changes under load.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::observation::ProbeFailure;
use crate::time::Instant;

/// One node's opinion of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// Never answered so far, and not for long enough to say more.
    Unknown,
    /// It answered within the last probes.
    Up,
    /// It is late, or refuses, not yet for long enough.
    Suspect,
    /// It is down.
    Down(Evidence),
}

/// Why an instance counts as down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// No answer for `down_after`.
    Silence,
    /// Connections were refused, twice in a row and for `refused_after`.
    Refusal,
    /// It answers in another incarnation than the one that was authorised: it restarted and may have lost data.
    Restarted,
    /// It answers, in the authorised incarnation, and says that it is no primary.
    NotPrimary,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silence => "silence",
            Self::Refusal => "refusal",
            Self::Restarted => "restarted",
            Self::NotPrimary => "not primary",
        })
    }
}

/// Invariants: `answered` never moves back; `refusals` counts refusals since the last answer.
#[derive(Clone, Debug)]
pub struct Detector {
    down_after: Duration,
    refused_after: Duration,
    late_after: Duration,
    answered: Option<Instant>,
    watched_since: Instant,
    refused_first: Option<Instant>,
    refusals: u32,
}

/// Refusals in a row that make evidence; a single one may be a server between two listen calls.
const REFUSALS_MIN: u32 = 2;

impl Detector {
    /// A detector of an instance that is watched from now on. `late_after` is when silence makes it suspect.
    pub fn new(
        now: Instant,
        down_after: Duration,
        refused_after: Duration,
        late_after: Duration,
    ) -> Self {
        Self {
            down_after,
            refused_after,
            late_after,
            answered: None,
            watched_since: now,
            refused_first: None,
            refusals: 0,
        }
    }

    /// The instance answered.
    pub fn on_answer(&mut self, now: Instant) {
        self.answered = Some(now.max(self.answered.unwrap_or(now)));
        self.refused_first = None;
        self.refusals = 0;
    }

    /// A probe failed.
    pub fn on_failure(&mut self, now: Instant, failure: &ProbeFailure) {
        match failure {
            ProbeFailure::Refused => {
                self.refused_first.get_or_insert(now);
                self.refusals = self.refusals.saturating_add(1);
            }
            // Silence ends a run of refusals: somebody accepted the connection.
            ProbeFailure::TimedOut => {
                self.refused_first = None;
                self.refusals = 0;
            }
            ProbeFailure::Reset | ProbeFailure::Rejected(_) => {}
        }
    }

    /// Forgets all evidence: this node was paused and cannot tell whose silence it was.
    pub fn excuse(&mut self, now: Instant) {
        if self.answered.is_some() {
            self.answered = Some(now);
        }
        self.watched_since = now;
        self.refused_first = None;
        self.refusals = 0;
    }

    /// What the evidence implies. Same evidence and instant, same answer.
    pub fn judge(&self, now: Instant) -> Health {
        if self.refusals >= REFUSALS_MIN
            && self
                .refused_first
                .is_some_and(|first| now.since(first) >= self.refused_after)
        {
            return Health::Down(Evidence::Refusal);
        }
        let silence = now.since(self.answered.unwrap_or(self.watched_since));
        if silence >= self.down_after {
            return Health::Down(Evidence::Silence);
        }
        match self.answered {
            None => Health::Unknown,
            Some(_) if silence >= self.late_after || self.refusals > 0 => Health::Suspect,
            Some(_) => Health::Up,
        }
    }

    /// The next instant after `now` at which the judgement may change without further evidence.
    pub fn changes_at(&self, now: Instant) -> Option<Instant> {
        let base = self.answered.unwrap_or(self.watched_since);
        let refused = self.refused_first.map(|first| first + self.refused_after);
        [
            Some(base + self.late_after),
            Some(base + self.down_after),
            refused,
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    /// Whether refusals have begun that are not evidence yet, so that the next probe should come soon.
    pub fn refusal_is_open(&self) -> bool {
        self.refusals > 0 && self.refusals <= REFUSALS_MIN + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + MS(ms)
    }

    fn detector() -> Detector {
        Detector::new(at(0), MS(1000), MS(100), MS(250))
    }

    #[test]
    fn silence() {
        let mut watched = detector();
        assert_eq!(watched.judge(at(10)), Health::Unknown);
        watched.on_answer(at(100));
        for (ms, wanted) in [
            (349, Health::Up),
            (350, Health::Suspect),
            (1099, Health::Suspect),
            (1100, Health::Down(Evidence::Silence)),
        ] {
            assert_eq!(watched.judge(at(ms)), wanted, "{ms} ms");
        }
    }

    #[test]
    fn refusal_needs_two_and_its_time() {
        let mut watched = detector();
        watched.on_answer(at(100));
        watched.on_failure(at(110), &ProbeFailure::Reset);
        watched.on_failure(at(111), &ProbeFailure::Refused);
        assert_eq!(
            watched.judge(at(300)),
            Health::Suspect,
            "one refusal is no evidence"
        );
        watched.on_failure(at(160), &ProbeFailure::Refused);
        assert_eq!(watched.judge(at(210)), Health::Suspect);
        assert_eq!(watched.judge(at(211)), Health::Down(Evidence::Refusal));
        watched.on_answer(at(220));
        assert_eq!(watched.judge(at(221)), Health::Up);
    }

    #[test]
    fn a_hang_is_not_a_refusal() {
        let mut watched = detector();
        watched.on_answer(at(0));
        watched.on_failure(at(10), &ProbeFailure::Refused);
        watched.on_failure(at(20), &ProbeFailure::TimedOut);
        watched.on_failure(at(30), &ProbeFailure::Refused);
        assert_eq!(watched.judge(at(500)), Health::Suspect);
    }

    #[test]
    fn a_pause_of_our_own_is_not_charged() {
        let mut watched = detector();
        watched.on_answer(at(0));
        watched.on_failure(at(1), &ProbeFailure::Refused);
        watched.on_failure(at(2), &ProbeFailure::Refused);
        watched.excuse(at(5000));
        assert_eq!(watched.judge(at(5001)), Health::Up);
        assert_eq!(watched.judge(at(6000)), Health::Down(Evidence::Silence));
    }

    #[test]
    fn an_instance_that_never_answered_goes_down_too() {
        assert_eq!(detector().judge(at(1000)), Health::Down(Evidence::Silence));
    }
}
