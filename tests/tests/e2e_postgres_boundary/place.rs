//! Where the stream ends: which record straddles the segment's end, and at which of its bytes the cut is.

use std::fmt;

use sentinel_core::position::Offset;

/// A record, and a place in it or next to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) Record, pub(crate) Cut);

/// The record across the end of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Begins on the segment's last page and ends on the next segment's first.
    OnePage,
    /// Begins three pages before the end and ends pages behind it.
    Pages,
}

/// The first byte that does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// So many bytes behind the record's beginning, which becomes the fork.
    Fork(i64),
    /// So many bytes behind the end of the segment.
    End(i64),
}

impl Place {
    /// Where the record begins, when its segment ends there.
    pub(crate) fn fork(self, end: Offset) -> Offset {
        let before = match self.0 {
            Record::OnePage => 392,
            Record::Pages => 2 * 8192 + 440,
        };
        Offset(end.0 - before)
    }

    /// How long the message is of which the record consists.
    pub(crate) fn message_bytes(self) -> u64 {
        match self.0 {
            Record::OnePage => 2000,
            Record::Pages => 60_000,
        }
    }

    /// Where the stream ends.
    pub(crate) fn cut(self, end: Offset) -> Offset {
        let (from, by) = match self.1 {
            Cut::Fork(by) => (self.fork(end), by),
            Cut::End(by) => (end, by),
        };
        Offset(from.0.saturating_add_signed(by))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, by) = match self.1 {
            Cut::Fork(by) => ("fork", by),
            Cut::End(by) => ("E", by),
        };
        let record = match self.0 {
            Record::OnePage => "one page",
            Record::Pages => "pages",
        };
        match by {
            0 => write!(f, "{record}, {from}"),
            by => write!(f, "{record}, {from}{by:+}"),
        }
    }
}
