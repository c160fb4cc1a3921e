//! What `pg_controldata` says of a data folder, whether its server runs or not.
//!
//! Reads the words of the C locale. Right after a promotion the control file still shows the timeline before it, until
//! a checkpoint has ended: nobody takes a running primary's timeline from here.

use std::path::Path;
use std::time::Duration;

use super::programs::{ProgramError, Programs};
use super::wal::SegmentSize;
use crate::history::Timeline;
use crate::lsn::Lsn;

/// How a data folder was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// A primary that was stopped: its shutdown checkpoint is the last record.
    ShutDown,
    /// A standby that was stopped.
    ShutDownInRecovery,
    /// A primary that runs, crashed, or was killed.
    InProduction,
    /// A standby that runs, crashed, or was killed.
    InRecovery,
    /// Killed on the way down or on the way up.
    Between,
}

/// The control file of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Control {
    pub(super) system_identifier: String,
    pub(super) left: Left,
    pub(super) timeline: Timeline,
    pub(super) checkpoint: Lsn,
    /// The timeline of that position; zero on a primary.
    pub(super) minimum_recovery_timeline: Timeline,
    /// A standby has replayed at least so far; `0/0` on a primary.
    pub(super) minimum_recovery_end: Lsn,
    pub(super) segment_size: SegmentSize,
}

/// Why the control file could not be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// The program failed: no data folder of PostgreSQL, another major version, or a damaged control file.
    #[error("the control file of the data folder could not be read: {0}")]
    Program(#[from] ProgramError),
    /// A line that is needed is missing or holds something else.
    #[error(
        "pg_controldata gave no usable `{0}`; the data folder may belong to a version that this agent does not know"
    )]
    Line(&'static str),
}

/// The program reads one small file.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads the control file of a data folder.
pub(super) async fn read(programs: &Programs, data_dir: &Path) -> Result<Control, ControlError> {
    let mut command = programs.command("pg_controldata");
    command.arg("-D").arg(data_dir);
    let output = programs.run("pg_controldata", command, LIMIT).await?;
    parse(&output)
}

fn parse(text: &str) -> Result<Control, ControlError> {
    let value = |name: &'static str| {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
            .ok_or(ControlError::Line(name))
    };
    let lsn = |name| {
        let parsed: Result<Lsn, _> = value(name)?.parse();
        parsed.map_err(|_| ControlError::Line(name))
    };
    let left = match value("Database cluster state")? {
        "shut down" => Left::ShutDown,
        "shut down in recovery" => Left::ShutDownInRecovery,
        "in production" => Left::InProduction,
        "in archive recovery" => Left::InRecovery,
        "in crash recovery" | "shutting down" | "starting up" => Left::Between,
        _ => return Err(ControlError::Line("Database cluster state")),
    };
    let number = |name: &'static str| -> Result<u64, ControlError> {
        value(name)?.parse().map_err(|_| ControlError::Line(name))
    };
    let timeline = |name| -> Result<Timeline, ControlError> {
        let number = u32::try_from(number(name)?).map_err(|_| ControlError::Line(name))?;
        Ok(Timeline(number))
    };
    let segment = number("Bytes per WAL segment")?;
    if !segment.is_power_of_two() || !(1 << 20..=1 << 30).contains(&segment) {
        return Err(ControlError::Line("Bytes per WAL segment"));
    }
    Ok(Control {
        system_identifier: value("Database system identifier")?.to_owned(),
        left,
        timeline: timeline("Latest checkpoint's TimeLineID")?,
        checkpoint: lsn("Latest checkpoint location")?,
        minimum_recovery_timeline: timeline("Min recovery ending loc's timeline")?,
        minimum_recovery_end: lsn("Minimum recovery ending location")?,
        segment_size: SegmentSize(segment),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const TEXT: &str = "pg_control version number:            1300\n\
        Database system identifier:           7312345678901234567\n\
        Database cluster state:               in production\n\
        Latest checkpoint location:           0/3000060\n\
        Latest checkpoint's REDO location:    0/3000028\n\
        Latest checkpoint's TimeLineID:       1\n\
        Time of latest checkpoint:            Mon 01 Jan 2024 10:11:12 AM UTC\n\
        Minimum recovery ending location:     0/0\n\
        Min recovery ending loc's timeline:   0\n\
        Bytes per WAL segment:                1048576\n";

    #[test]
    fn a_control_file_is_read() {
        let control = parse(TEXT).unwrap();
        assert_eq!(control.system_identifier, "7312345678901234567");
        assert_eq!(control.left, Left::InProduction);
        assert_eq!(control.timeline, Timeline(1));
        assert_eq!(control.checkpoint, Lsn(0x300_0060));
        assert_eq!(control.segment_size, SegmentSize(1 << 20));
    }

    #[test]
    fn a_line_that_is_missing_or_strange_is_named() {
        for (from, to) in [
            ("in production", "dreaming"),
            ("Latest checkpoint location:", "Letzter Checkpoint:"),
            ("0/3000060", "nowhere"),
            ("1048576", "1000000"),
            ("TimeLineID:       1", "TimeLineID:       99999999999"),
        ] {
            let text = TEXT.replace(from, to);
            assert!(matches!(parse(&text), Err(ControlError::Line(_))), "{to}");
        }
    }
}
