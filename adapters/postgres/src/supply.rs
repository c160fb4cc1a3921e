//! Whether the upstream of a standby still has the log that the standby needs next.
//!
//! A standby whose upstream has removed it stays where it is for ever, and no view of either server says so. So the
//! upstream is asked what the standby's own receiver asks: to stream from the segment that comes next. It is asked for
//! standbys only that stand still, without a receiver, in a life in which they have asked their upstream already; and for
//! the latest segment that they can possibly need, so that its absence leaves no doubt. Asked without a slot: what counts
//! is the log, and a slot that is lost can be done without.
//!
//! Rejected: the oldest file in the upstream's listing, because listing its log is a privilege and costs it more than the
//! question; and the standby's own log, because where that goes, and in which language, is its owner's choice.

use std::time::Duration;

use sentinel_core::id::{InstanceId, ServerId};
use sentinel_core::runtime::ConnectionError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::conninfo;
use crate::facts;
use crate::history::{History, SystemId, Timeline};
use crate::lsn::Lsn;
use crate::query::{Place, Status};
use crate::replication::{Replication, Stock};
use crate::service::PostgresService;

/// How long a standby stands still before its upstream is asked. Its receiver tries every five seconds, by default.
const STANDSTILL: Duration = Duration::from_secs(2);

/// The same for one that has an archive to restore from, which may be slow.
const STANDSTILL_WITH_ARCHIVE: Duration = Duration::from_secs(60);

/// How soon an upstream is asked again that could not say, or had it.
const AGAIN: Duration = Duration::from_secs(5);

/// How long the answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What one standby needs. The same need has the same answer, once that is that the upstream has removed it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    standby: ServerId,
    system: SystemId,
    upstream: InstanceId,
    timeline: Timeline,
    /// Start of the segment that it needs next, or of a later one.
    from: Lsn,
    /// Where it stands; as long as it does, nothing has changed.
    place: (Option<Lsn>, Lsn),
}

/// What is known of one standby's need.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    need: Option<(Need, Instant)>,
    asked_at: Option<Instant>,
    answer: Option<oneshot::Receiver<Result<Stock, ConnectionError>>>,
    /// Its upstream has removed what it needs.
    removed: bool,
}

impl Supply {
    /// Whether the upstream is known to have removed what the standby needs. Asks behind the probe, and tells later.
    pub(crate) fn is_gone(
        &mut self,
        status: &Status,
        history: Option<&History>,
        service: &PostgresService,
    ) -> bool {
        let Some(need) = need(status, history) else {
            *self = Self::default();
            return false;
        };
        if self.need.as_ref().is_none_or(|(known, _)| *known != need) {
            *self = Self {
                need: Some((need.clone(), Instant::now())),
                ..Self::default()
            };
        }
        self.hear();
        if !self.removed && self.is_due(status) {
            self.ask(need, service.clone());
        }
        self.removed
    }

    /// Takes an answer that has come.
    fn hear(&mut self) {
        let Some(answer) = &mut self.answer else {
            return;
        };
        match answer.try_recv() {
            Ok(answer) => {
                self.removed = answer == Ok(Stock::Removed);
                self.answer = None;
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
            Err(oneshot::error::TryRecvError::Closed) => self.answer = None,
        }
    }

    fn is_due(&self, status: &Status) -> bool {
        let Place::Standby(place) = &status.place else {
            return false;
        };
        let patience = match status.settings.restores {
            true => STANDSTILL_WITH_ARCHIVE,
            false => STANDSTILL,
        };
        let stands = |(_, since): &(Need, Instant)| since.elapsed() >= patience;
        place.receiver.is_none()
            && self.answer.is_none()
            && self.need.as_ref().is_some_and(stands)
            && self.asked_at.is_none_or(|at| at.elapsed() >= AGAIN)
    }

    fn ask(&mut self, need: Need, service: PostgresService) {
        let (told, answer) = oneshot::channel();
        self.asked_at = Some(Instant::now());
        self.answer = Some(answer);
        tokio::spawn(async move {
            let asked = timeout(ANSWER_LIMIT, question(&need, &service)).await;
            let late = || ConnectionError::Unreachable("no answer in time".into());
            // Nobody waits for it any more when the standby has moved on.
            let _ = told.send(asked.unwrap_or_else(|_| Err(late())));
        });
    }
}

async fn question(need: &Need, service: &PostgresService) -> Result<Stock, ConnectionError> {
    let mut connection = Replication::open(&need.upstream, service).await?;
    if connection.system().await? != need.system {
        return Ok(Stock::Unknown);
    }
    connection.stock(need.from, need.timeline).await
}

/// What a standby needs that follows somebody; `None` when it cannot be told for certain.
fn need(status: &Status, history: Option<&History>) -> Option<Need> {
    let Place::Standby(place) = &status.place else {
        return None;
    };
    // Nothing was asked of the upstream in this life: there may be more in its own log than it has replayed.
    let asked = place.asked?;
    let segment = status.settings.segment.max(1);
    let reached = asked.max(place.replayed);
    Some(Need {
        standby: facts::server(status),
        system: status.system.clone(),
        upstream: conninfo::read(&status.settings.conninfo.0).instance?,
        timeline: history?.timeline(),
        from: Lsn(reached.0 / segment * segment),
        place: (place.asked, place.replayed),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::facts::tests::{standby, status};

    const SEGMENT: u64 = 1 << 20;

    fn needed(asked: Option<u64>, replayed: u64) -> Option<u64> {
        let mut place = standby(None, replayed);
        place.asked = asked.map(Lsn);
        let need = need(&status(Place::Standby(place)), Some(&History::first()))?;
        Some(need.from.0)
    }

    #[test]
    fn the_latest_segment_that_a_standby_can_need_is_asked_for() {
        let at = |segments: u64, bytes: u64| segments * SEGMENT + bytes;
        for (asked, replayed, wanted) in [
            (None, at(3, 40), None),
            (Some(at(3, 0)), at(3, 40), Some(at(3, 0))),
            // A part of a record at the end of its log: it asks for the segment after that.
            (Some(at(4, 0)), at(3, SEGMENT - 40), Some(at(4, 0))),
            (Some(at(5, 80)), at(3, 40), Some(at(5, 0))),
            // Restored from an archive since it asked.
            (Some(at(3, 0)), at(6, 1), Some(at(6, 0))),
        ] {
            assert_eq!(needed(asked, replayed), wanted, "{asked:?} {replayed}");
        }
    }

    #[test]
    fn who_follows_nobody_needs_nothing() {
        let mut place = standby(None, SEGMENT);
        place.asked = Some(Lsn(SEGMENT));
        let mut frozen = status(Place::Standby(place));
        assert!(need(&frozen, Some(&History::first())).is_some());
        assert!(need(&frozen, None).is_none());
        frozen.settings.conninfo.0.clear();
        assert!(need(&frozen, Some(&History::first())).is_none());
    }

    #[test]
    fn an_answer_holds_for_as_long_as_the_standby_stands_where_it_stood() {
        let mut place = standby(None, SEGMENT);
        place.asked = Some(Lsn(SEGMENT));
        place.receiver = None;
        let here = status(Place::Standby(place.clone()));
        place.replayed = Lsn(SEGMENT + 8);
        let moved = status(Place::Standby(place));
        let (history, service) = (History::first(), PostgresService::default());
        let mut supply = Supply::default();
        assert!(!supply.is_gone(&here, Some(&history), &service));
        assert!(!supply.is_due(&here), "it has only just been seen");
        let (_, since) = supply.need.as_mut().unwrap();
        *since = since.checked_sub(STANDSTILL).unwrap();
        assert!(supply.is_due(&here));
        let (told, answer) = oneshot::channel();
        supply.answer = Some(answer);
        assert!(!supply.is_due(&here), "one question at a time");
        told.send(Ok(Stock::Removed)).unwrap();
        assert!(supply.is_gone(&here, Some(&history), &service));
        assert!(!supply.is_gone(&moved, Some(&history), &service));
        assert!(!supply.is_gone(&here, Some(&history), &service));
    }
}
