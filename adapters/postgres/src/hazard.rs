//! Judges whether a standby may be pointed at a newly promoted server by a mere reload.
//!
//! Knows four places: where the new branch left the standby's (`fork`), how far the standby received
//! and replayed, and the size of a segment. Pure; does not know whether anybody will act upon it.
//!
//! A standby that received a part of a record which straddles the end of the segment that holds the
//! fork stops replicating, or its server exits, after it is pointed at a promoted sibling: it waits for
//! the rest of the record in the next segment, asks the new server for that segment alone, and never
//! gets the bytes between the fork and the segment's end. Which places do this depends on the minor
//! version; the region below holds all of them, on every version measured (`docs/boundary-standby.md`).
//! Rejected: narrower regions by version, because what they save is one restart in a rare case.

use sentinel_core::position::Offset;

use crate::history::{History, Timeline};
use crate::lsn::Lsn;

/// Size of a page of the log. A server built with another one is not known to this rule.
pub(crate) const PAGE: u64 = 8192;

/// A standby before it is pointed elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The timeline on which it is.
    pub(crate) timeline: Timeline,
    /// Where that timeline began.
    pub(crate) fork: Lsn,
    /// The end of what it received since its server started; unknown after a restart.
    pub(crate) received: Option<Lsn>,
    /// The end of what it replayed.
    pub(crate) replayed: Lsn,
}

/// How far a standby is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// The end of what it received since its server started; unknown after a restart.
    pub received: Option<Offset>,
    /// The end of what it replayed.
    pub replayed: Offset,
}

/// What pointing a standby at a server would bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes on streaming.
    Safe,
    /// It holds history that the server does not have: it needs a rewind or a rebuild.
    Diverged,
    /// It may stop replicating, or its server may exit once.
    Hazard,
}

/// Judges a standby against the history of the server at which it is to be pointed.
pub(crate) fn judge(standby: Reached, server: &History, segment: u64) -> Judgement {
    if standby.timeline == server.timeline() {
        // The same number with another beginning is a sibling's branch (rule S12).
        return if standby.fork == server.fork() {
            Judgement::Safe
        } else {
            Judgement::Diverged
        };
    }
    match server.left_at(standby.timeline) {
        None => Judgement::Diverged,
        Some(fork) => at_fork(fork, standby.received, standby.replayed, segment),
    }
}

/// The same for somebody who knows the places and not the histories: a standby of the branch that was left at `fork`.
pub fn judge_places(standby: Places, fork: Offset, segment: u64) -> Judgement {
    let received = standby.received.map(|received| Lsn(received.0));
    at_fork(Lsn(fork.0), received, Lsn(standby.replayed.0), segment)
}

/// The rule itself: what was replayed beyond the fork has diverged; what was received beyond it, and
/// reaches into the last two pages of the fork's segment or past its end, is the hazard.
///
/// Two pages, because an older server (16.2 does, 15.18 and 16.14 do not) that finds a page without a header
/// goes on waiting for the end of that page instead of reading its record anew. No upper end, because
/// there that page may lie in any later segment; and the newer ones do the same within the first bytes
/// of the next segment, before the header of its first page is whole.
fn at_fork(fork: Lsn, received: Option<Lsn>, replayed: Lsn, segment: u64) -> Judgement {
    if replayed > fork {
        return Judgement::Diverged;
    }
    let Some(received) = received else {
        return Judgement::Hazard;
    };
    let end = segment_end(fork, segment);
    if fork < received && received.0 > end.0.saturating_sub(2 * PAGE) {
        Judgement::Hazard
    } else {
        Judgement::Safe
    }
}

/// The end of the segment that holds a place. A place on a boundary belongs to the segment that it begins.
fn segment_end(place: Lsn, segment: u64) -> Lsn {
    let segment = segment.max(1);
    Lsn((place.0 / segment)
        .saturating_add(1)
        .saturating_mul(segment))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const MEGABYTE: u64 = 1 << 20;
    const FORK: Lsn = Lsn(0xBF_FE78);
    const END: u64 = 0xC0_0000;

    fn standby(received: Option<u64>, replayed: u64) -> Reached {
        Reached {
            timeline: Timeline(1),
            fork: Lsn(0),
            received: received.map(Lsn),
            replayed: Lsn(replayed),
        }
    }

    fn server() -> History {
        History::parse(Timeline(2), &format!("1\t{FORK}\tx")).unwrap()
    }

    /// The rows are those of the measured table.
    #[test]
    fn the_measured_places() {
        for (received, wanted) in [
            (Some(END), Judgement::Hazard),
            (Some(END - 40), Judgement::Hazard),
            (Some(END - 300), Judgement::Hazard),
            (Some(END - 380), Judgement::Hazard),
            (Some(FORK.0), Judgement::Safe),
            (Some(FORK.0 + 24), Judgement::Hazard),
            (Some(END + 8), Judgement::Hazard),
            (Some(END + 1000), Judgement::Hazard),
            (Some(END + 8192), Judgement::Hazard),
            (Some(END + 9192), Judgement::Hazard),
            (None, Judgement::Hazard),
        ] {
            let judged = judge(standby(received, FORK.0), &server(), MEGABYTE);
            assert_eq!(judged, wanted, "{received:?}");
        }
    }

    #[test]
    fn two_pages_earlier_is_safe() {
        let server = History::parse(Timeline(2), "1\t0/BFBE48\tx").unwrap();
        for (received, wanted) in [
            (END - 16_424, Judgement::Safe),
            (END - 16_384, Judgement::Safe),
            (END - 12_000, Judgement::Hazard),
            (END - 8232, Judgement::Hazard),
            (END - 8192, Judgement::Hazard),
            (END - 40, Judgement::Hazard),
        ] {
            let judged = judge(standby(Some(received), 0xBF_BE48), &server, MEGABYTE);
            assert_eq!(judged, wanted, "{received:X}");
        }
    }

    #[test]
    fn what_was_replayed_past_the_fork_has_diverged() {
        let judged = judge(standby(Some(END), FORK.0 + 1), &server(), MEGABYTE);
        assert_eq!(judged, Judgement::Diverged);
    }

    #[test]
    fn a_branch_that_is_not_on_the_servers_path_has_diverged() {
        let mut sibling = standby(Some(FORK.0), FORK.0);
        sibling.timeline = Timeline(2);
        sibling.fork = Lsn(FORK.0 - 8);
        assert_eq!(judge(sibling, &server(), MEGABYTE), Judgement::Diverged);
        sibling.fork = FORK;
        assert_eq!(judge(sibling, &server(), MEGABYTE), Judgement::Safe);
        sibling.timeline = Timeline(5);
        assert_eq!(judge(sibling, &server(), MEGABYTE), Judgement::Diverged);
    }

    #[test]
    fn a_fork_on_a_boundary_belongs_to_the_segment_that_it_begins() {
        assert_eq!(segment_end(Lsn(END), MEGABYTE), Lsn(END + MEGABYTE));
        assert_eq!(segment_end(Lsn(END - 1), MEGABYTE), Lsn(END));
    }
}
