//! A timeline's history file, and where a standby stands to it.
//!
//! A history file of timeline n has one line for each earlier timeline on its path: its number, the
//! place at which the path left it, and a reason. Pure: knows texts, no server.

use sentinel_core::id::Incarnation;
use sentinel_core::position::{Lineage, Position};

use crate::lsn::Lsn;

/// The number of a timeline. Two servers can both be on "timeline 2" with different contents (rule S12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timeline(pub(crate) u32);

/// The path of one timeline from the first.
///
/// Invariant: the numbers of `left` rise, its places never fall, and all numbers are below `timeline`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    timeline: Timeline,
    /// Each earlier timeline, and where the path left it; oldest first.
    left: Vec<(Timeline, Lsn)>,
}

/// Why a text is no history; the text says which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the history of timeline {timeline} is damaged: {what}")]
pub(crate) struct DamagedHistory {
    timeline: u32,
    line: usize,
    what: &'static str,
}

/// A server that was promoted more often than this is refused rather than read without a bound.
const LINES_MAX: usize = 100_000;

impl History {
    /// The first timeline has no history file.
    pub(crate) fn first() -> Self {
        Self {
            timeline: Timeline(1),
            left: Vec::new(),
        }
    }

    /// Reads the history file of a timeline.
    pub(crate) fn parse(timeline: Timeline, text: &str) -> Result<Self, DamagedHistory> {
        let mut left: Vec<(Timeline, Lsn)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let damaged = |what| DamagedHistory {
                timeline: timeline.0,
                line: index + 1,
                what,
            };
            if index >= LINES_MAX {
                return Err(damaged("it is too long"));
            }
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let number = words
                .next()
                .and_then(|word| word.parse().ok())
                .map(Timeline)
                .ok_or_else(|| damaged("it does not begin with a timeline"))?;
            let place: Lsn = words
                .next()
                .and_then(|word| word.parse().ok())
                .ok_or_else(|| damaged("there is no place where the timeline was left"))?;
            let rises = left
                .last()
                .is_none_or(|(before, at)| *before < number && *at <= place);
            if !rises || number >= timeline {
                return Err(damaged("it is out of order"));
            }
            left.push((number, place));
        }
        if left.is_empty() && timeline != Timeline(1) {
            return Err(DamagedHistory {
                timeline: timeline.0,
                line: 1,
                what: "it is empty",
            });
        }
        Ok(Self { timeline, left })
    }

    /// The timeline whose path it is.
    pub(crate) fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Where the timeline left its parent; the beginning for the first.
    pub(crate) fn fork(&self) -> Lsn {
        self.left.last().map_or(Lsn(0), |(_, at)| *at)
    }

    /// Where the path left an earlier timeline; `None` when the timeline is not on it.
    pub(crate) fn left_at(&self, timeline: Timeline) -> Option<Lsn> {
        let found = self.left.iter().find(|(number, _)| *number == timeline);
        found.map(|(_, at)| *at)
    }

    /// The identity of the branch, unique up to siblings that were promoted at the very same place.
    pub(crate) fn lineage(&self, system: &SystemId) -> Lineage {
        lineage(system, self.timeline, self.fork())
    }

    /// The last place of the parent that is part of this branch; `None` for the first timeline.
    pub(crate) fn parent(&self, system: &SystemId) -> Option<Position> {
        let (parent, at) = self.left.last()?;
        let parents_fork = match self.left.len().checked_sub(2) {
            Some(index) => self.left[index].1,
            None => Lsn(0),
        };
        Some(Position {
            lineage: lineage(system, *parent, parents_fork),
            offset: (*at).into(),
        })
    }
}

/// Identity of a database cluster, drawn when it was made, kept by every copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SystemId(pub(crate) String);

impl SystemId {
    /// One life of a copy: `PG_VERSION` is written when a copy is made, and by nobody afterwards.
    pub(crate) fn incarnation(&self, version_file_changed: i64) -> Incarnation {
        Incarnation::new(format!("{}.{version_file_changed}", self.0))
    }
}

fn lineage(system: &SystemId, timeline: Timeline, fork: Lsn) -> Lineage {
    Lineage::new(format!("{}/{}@{fork}", system.0, timeline.0))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use sentinel_core::position::Offset;

    const THIRD: &str =
        "1\t0/974650\tno recovery target specified\n\n# a note\n2\t0/BFFE78\tbefore 2026-01-01\n";

    #[test]
    fn a_history_names_its_forks() {
        let history = History::parse(Timeline(3), THIRD).unwrap();
        let system = SystemId("77".into());
        assert_eq!(history.fork(), Lsn(0xBF_FE78));
        assert_eq!(history.left_at(Timeline(1)), Some(Lsn(0x97_4650)));
        assert_eq!(history.left_at(Timeline(3)), None);
        assert_eq!(history.lineage(&system).as_str(), "77/3@0/BFFE78");
        let parent = history.parent(&system).unwrap();
        assert_eq!(parent.lineage.as_str(), "77/2@0/974650");
        assert_eq!(parent.offset, Offset(0xBF_FE78));
    }

    #[test]
    fn the_first_timeline_has_no_parent() {
        let system = SystemId("77".into());
        assert_eq!(History::first().parent(&system), None);
        assert_eq!(History::first().lineage(&system).as_str(), "77/1@0/0");
        assert_eq!(History::parse(Timeline(1), "").unwrap(), History::first());
    }

    #[test]
    fn damage_is_told_with_its_line() {
        for (text, line) in [
            ("", 1),
            ("1 0/0\nx 0/1", 2),
            ("1", 1),
            ("1 0/10\n2 0/1", 2),
            ("2 0/1\n1 0/2", 2),
            ("3 0/1", 1),
            ("1 zz", 1),
        ] {
            let damage = History::parse(Timeline(3), text).unwrap_err();
            assert_eq!(damage.line, line, "{text}: {damage}");
        }
    }
}
