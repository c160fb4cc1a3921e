//! Names of the files of the write-ahead log: which segment holds a byte, and what its file is called.
//!
//! Pure. Knows no file system and no server.

use crate::history::Timeline;
use crate::lsn::Lsn;

/// Name of the file that tells where a timeline comes from.
pub(super) fn history_file(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

/// Bytes of one segment file; a power of two from 1 MB to 1 GB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentSize(pub(super) u64);

/// Number of a segment, counted from the beginning of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentNumber(pub(super) u64);

impl SegmentSize {
    /// The segment that holds the byte at this position.
    pub(super) fn segment_of(self, lsn: Lsn) -> SegmentNumber {
        SegmentNumber(lsn.0 / self.0)
    }

    /// What the name of a file says, if it is the name of a segment file.
    pub(super) fn parse_name(self, name: &str) -> Option<(Timeline, SegmentNumber)> {
        if name.len() != 24 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let number = |range| u32::from_str_radix(&name[range], 16).ok();
        let (timeline, high, low) = (number(0..8)?, number(8..16)?, number(16..24)?);
        let per_name = 0x1_0000_0000 / self.0;
        let segment = u64::from(high) * per_name + u64::from(low);
        Some((Timeline(timeline), SegmentNumber(segment)))
    }
}

/// Name of a segment's file.
pub(super) fn segment_file(
    timeline: Timeline,
    segment: SegmentNumber,
    size: SegmentSize,
) -> String {
    let per_name = 0x1_0000_0000 / size.0;
    let (high, low) = (segment.0 / per_name, segment.0 % per_name);
    format!("{:08X}{high:08X}{low:08X}", timeline.0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn segment_names_follow_the_segment_size() {
        let megabyte = SegmentSize(1 << 20);
        let usual = SegmentSize(16 << 20);
        let lsn: Lsn = "1/BFFE78".parse().unwrap();
        let name = "00000002000000010000000B";
        let parsed = megabyte.parse_name(name).unwrap();
        assert_eq!(parsed, (Timeline(2), megabyte.segment_of(lsn)));
        assert_eq!(segment_file(parsed.0, parsed.1, megabyte), name);
        let (_, segment) = usual.parse_name("000000010000000100000000").unwrap();
        assert_eq!(segment, usual.segment_of(lsn));
        for other in ["00000002.history", "00000001000000010000000B.partial", "x"] {
            assert_eq!(megabyte.parse_name(other), None, "{other}");
        }
    }
}
