//! Decides how a data folder stands to the primary that it is to follow: as it is, after a rewind, or only as a new copy.
//!
//! Pure: from the control file, the two histories, and whether log lies beyond the fork. What is unclear is never
//! rewound: `pg_rewind` compares timeline *numbers*, finds two siblings of one number equal, and says that all is well.

use super::control::{Control, Left};
use crate::history::{History, Timeline};
use crate::lsn::Lsn;

/// What a data folder says of itself.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) control: Control,
    /// The history of the newest timeline that its log or its control file names.
    pub(super) history: History,
    pub(super) role: OwnRole,
}

/// What the server of this folder was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnRole {
    Primary,
    Standby,
}

/// What the primary says of itself.
#[derive(Clone, Debug)]
pub(super) struct Theirs {
    pub(super) system_identifier: String,
    pub(super) history: History,
}

/// Where two histories part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    /// The last timeline that both were on.
    pub(super) timeline: Timeline,
    /// The first byte on it that they do not share.
    pub(super) at: Lsn,
}

/// How the folder stands to the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Another database altogether. It is not touched.
    Foreign,
    /// Nothing that was replayed or written is missing on the primary: it only has to be told that it is a standby.
    Follows(Option<Parting>),
    /// It went on beyond the parting: it is rewound.
    Diverged(Parting),
    /// It can only be replaced by a copy; why, and where they part if that is known.
    Replaced(&'static str, Option<Parting>),
}

/// Judges a folder whose server is stopped.
pub(super) fn judge(own: &Own, theirs: &Theirs) -> Relation {
    if own.control.system_identifier != theirs.system_identifier {
        return Relation::Foreign;
    }
    let (mine, other) = (own.history.timeline(), theirs.history.timeline());
    let parting = parting_of(own, theirs);
    if mine == other && own.history.fork() == theirs.history.fork() {
        return match own.role {
            OwnRole::Standby => Relation::Follows(None),
            OwnRole::Primary => Relation::Replaced(
                "it was a primary on a timeline of the same number and beginning as the primary's",
                parting,
            ),
        };
    }
    if mine >= other {
        return Relation::Replaced(
            "its timeline is as new as the primary's, on another branch",
            parting,
        );
    }
    let Some(parting) = parting else {
        return Relation::Replaced("the two histories have nothing in common", None);
    };
    let reached = match own.role {
        OwnRole::Standby => own.control.minimum_recovery_end > parting.at,
        OwnRole::Primary => wrote_beyond(&own.control, parting.at),
    };
    // A later timeline of its own began at the parting or beyond.
    match reached || mine != parting.timeline {
        true => Relation::Diverged(parting),
        false => Relation::Follows(Some(parting)),
    }
}

/// From where on the folder's log is its own. Two primaries on a timeline of one number and beginning share that beginning
/// and nothing after it; a standby there has only what its primary has.
pub(super) fn parting_of(own: &Own, theirs: &Theirs) -> Option<Parting> {
    let same = own.history.timeline() == theirs.history.timeline()
        && own.history.fork() == theirs.history.fork();
    match (same, own.role) {
        (true, OwnRole::Primary) => Some(Parting {
            timeline: own.history.timeline(),
            at: own.history.fork(),
        }),
        (true, OwnRole::Standby) => None,
        (false, _) => parting(&own.history, &theirs.history),
    }
}

/// A primary that was stopped wrote its shutdown checkpoint last. A fork lies at the end of a record: if it lies behind
/// the beginning of that checkpoint, it lies behind its end. One that was killed has to recover first, and its own
/// recovery writes a record that the new primary does not have.
fn wrote_beyond(control: &Control, fork: Lsn) -> bool {
    match control.left {
        Left::ShutDown => control.checkpoint >= fork,
        Left::ShutDownInRecovery | Left::InProduction | Left::InRecovery | Left::Between => true,
    }
}

/// The last timeline that both paths were on, and where the first of them left it.
fn parting(one: &History, other: &History) -> Option<Parting> {
    let newest = one.timeline().min(other.timeline());
    let mut begun: Option<Parting> = None;
    for number in 1..=newest.0 {
        let timeline = Timeline(number);
        let ends = [one, other].map(|history| {
            let end = history.left_at(timeline);
            let last = (history.timeline() == timeline).then_some(Lsn(u64::MAX));
            end.or(last)
        });
        match ends {
            [Some(one), Some(other)] => {
                let at = one.min(other);
                begun = Some(Parting { timeline, at });
                if one != other {
                    break;
                }
            }
            [None, None] => {}
            // One path has a timeline here that the other has not: they parted before.
            [Some(_), None] | [None, Some(_)] => break,
        }
    }
    begun
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::wal::SegmentSize;
    use super::*;

    fn history(timeline: u32, text: &str) -> History {
        History::parse(Timeline(timeline), text).unwrap()
    }

    fn own(role: OwnRole, left: Left, history: History, reached: u64) -> Own {
        Own {
            control: Control {
                system_identifier: "7".into(),
                left,
                timeline: history.timeline(),
                checkpoint: Lsn(reached),
                minimum_recovery_timeline: history.timeline(),
                minimum_recovery_end: Lsn(reached),
                segment_size: SegmentSize(1 << 20),
            },
            history,
            role,
        }
    }

    fn second() -> Theirs {
        Theirs {
            system_identifier: "7".into(),
            history: history(2, "1\t0/1000\tx"),
        }
    }

    fn at(timeline: u32, at: u64) -> Parting {
        let timeline = Timeline(timeline);
        let at = Lsn(at);
        Parting { timeline, at }
    }

    #[test]
    fn a_deposed_primary_is_rewound_unless_it_stopped_before_the_fork() {
        let first = || history(1, "");
        for (left, checkpoint, wanted) in [
            (
                Left::ShutDown,
                0xf00,
                Relation::Follows(Some(at(1, 0x1000))),
            ),
            (Left::ShutDown, 0x1000, Relation::Diverged(at(1, 0x1000))),
            (Left::InProduction, 0xf00, Relation::Diverged(at(1, 0x1000))),
            (Left::Between, 0xf00, Relation::Diverged(at(1, 0x1000))),
        ] {
            let own = own(OwnRole::Primary, left, first(), checkpoint);
            assert_eq!(judge(&own, &second()), wanted, "{left:?}");
        }
    }

    #[test]
    fn a_standby_is_judged_by_what_it_replayed() {
        for (replayed, wanted) in [
            (0x1000, Relation::Follows(Some(at(1, 0x1000)))),
            (0x1001, Relation::Diverged(at(1, 0x1000))),
        ] {
            let left = Left::ShutDownInRecovery;
            let own = own(OwnRole::Standby, left, history(1, ""), replayed);
            assert_eq!(judge(&own, &second()), wanted);
        }
    }

    #[test]
    fn a_sibling_of_the_same_number_is_never_rewound() {
        for text in ["1\t0/1000\tx", "1\t0/900\tx", "1\t0/2000\tx"] {
            let own = own(OwnRole::Primary, Left::ShutDown, history(2, text), 0x3000);
            let judged = judge(&own, &second());
            assert!(
                matches!(judged, Relation::Replaced(..)),
                "{text}: {judged:?}"
            );
        }
        let newer = own(
            OwnRole::Standby,
            Left::ShutDownInRecovery,
            history(3, "1\t0/900\tx\n2\t0/a00\tx"),
            0x900,
        );
        assert!(matches!(judge(&newer, &second()), Relation::Replaced(..)));
    }

    #[test]
    fn a_standby_of_the_same_branch_follows_and_a_foreign_one_is_not_touched() {
        let mut standby = own(
            OwnRole::Standby,
            Left::ShutDownInRecovery,
            history(2, "1\t0/1000\tx"),
            0x3000,
        );
        assert_eq!(judge(&standby, &second()), Relation::Follows(None));
        standby.control.system_identifier = "8".into();
        assert_eq!(judge(&standby, &second()), Relation::Foreign);
    }

    #[test]
    fn paths_part_where_the_first_of_them_leaves() {
        let first = history(1, "");
        let second = history(2, "1\t0/1000\tx");
        let sibling = history(2, "1\t0/900\tx");
        let third = history(3, "1\t0/1000\tx\n2\t0/5000\tx");
        let third_of_sibling = history(3, "1\t0/900\tx");
        assert_eq!(parting(&first, &second), Some(at(1, 0x1000)));
        assert_eq!(parting(&second, &sibling), Some(at(1, 0x900)));
        assert_eq!(parting(&second, &third), Some(at(2, 0x5000)));
        assert_eq!(parting(&second, &third_of_sibling), Some(at(1, 0x900)));
        assert_eq!(parting(&third, &third), Some(at(3, u64::MAX)));
    }
}
