//! The one question of every probe, and its answer as it stands: a row of texts, parsed and not judged.
//!
//! One round trip for everything, because what is read together must belong together. Columns come as
//! texts, so that a version's other type is no other code. Does not know earlier answers.

use std::str::FromStr;

use tokio_postgres::Row;

use crate::history::{SystemId, Timeline};
use crate::lsn::Lsn;

/// Functions that fail on the other role stand behind `CASE`; a promotion between two of them makes the
/// whole question fail with 55000, and it is asked again.
pub(crate) const STATUS: &str = r"
SELECT s.system_identifier::text AS system_identifier,
       extract(epoch FROM (pg_stat_file('PG_VERSION')).change)::bigint::text AS pg_version,
       (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text AS started,
       current_setting('port') AS port,
       md5(current_setting('data_directory')) AS data_directory,
       r.standby::text AS standby,
       CASE WHEN NOT r.standby THEN pg_current_wal_flush_lsn()::text END AS flushed,
       CASE WHEN NOT r.standby THEN pg_walfile_name(pg_current_wal_flush_lsn()) END AS log_file,
       CASE WHEN r.standby THEN pg_last_wal_receive_lsn()::text END AS received,
       CASE WHEN r.standby THEN pg_last_wal_replay_lsn()::text END AS replayed,
       CASE WHEN r.standby THEN pg_is_wal_replay_paused()::text END AS replay_paused,
       CASE WHEN r.standby THEN (SELECT a.wait_event FROM pg_stat_activity a WHERE a.backend_type = 'startup') END
           AS startup_waits,
       CASE WHEN r.standby THEN (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'walreceiver')::text END
           AS receivers,
       w.status AS receiver_status,
       w.received_tli::text AS receiver_timeline,
       w.flushed_lsn::text AS receiver_flushed,
       current_setting('primary_conninfo') AS primary_conninfo,
       current_setting('primary_slot_name') AS primary_slot_name,
       current_setting('recovery_min_apply_delay') AS recovery_min_apply_delay,
       current_setting('restore_command', true) AS restore_command,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       current_setting('fsync') AS fsync,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('default_transaction_read_only') AS default_transaction_read_only,
       current_setting('allow_alter_system', true) AS allow_alter_system,
       current_setting('sentinel.priority', true) AS priority,
       (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') AS wal_segment_size,
       p.names, p.states, p.flushed_by, p.priorities, p.replayed_by
FROM pg_control_system() s
CROSS JOIN (SELECT pg_is_in_recovery() AS standby) r
LEFT JOIN pg_stat_wal_receiver w ON true
CROSS JOIN (SELECT array_agg(application_name ORDER BY backend_start) AS names,
                   array_agg(coalesce(state, '') ORDER BY backend_start) AS states,
                   array_agg(coalesce(flush_lsn, '0/0')::text ORDER BY backend_start) AS flushed_by,
                   array_agg(coalesce(sync_priority, 0)::text ORDER BY backend_start) AS priorities,
                   array_agg(coalesce(replay_lsn, '0/0')::text ORDER BY backend_start) AS replayed_by
            FROM pg_stat_replication) p";

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) system: SystemId,
    /// When `PG_VERSION` changed last, in seconds since 1970.
    pub(crate) version_file_changed: i64,
    /// When the server process started, in microseconds since 1970.
    pub(crate) started: i64,
    pub(crate) port: String,
    /// Digest of the path of the data folder.
    pub(crate) folder: String,
    pub(crate) place: Place,
    pub(crate) settings: Settings,
    /// Whoever receives from it, oldest connection first.
    pub(crate) receivers: Vec<ReceiverRow>,
}

/// Where it is in the log, by role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Primary { flushed: Lsn, timeline: Timeline },
    Standby(StandbyPlace),
}

/// What a standby says of its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandbyPlace {
    /// Unknown since the server's start until it has received something.
    pub(crate) received: Option<Lsn>,
    /// The same as the server says it, which may be no more than from where it asked; unknown until it has asked.
    pub(crate) asked: Option<Lsn>,
    pub(crate) replayed: Lsn,
    pub(crate) replay_paused: bool,
    /// For what the startup process waits.
    pub(crate) startup_waits: Option<String>,
    /// Whether there is a receiver's process, connected or not.
    pub(crate) receiver_runs: bool,
    /// The WAL receiver, if one is connected.
    pub(crate) receiver: Option<Receiver>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) status: String,
    pub(crate) timeline: Timeline,
    pub(crate) flushed: Lsn,
}

/// Settings in force, as the session sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// May hold a password: never shown.
    pub(crate) conninfo: Hidden,
    pub(crate) slot_name: String,
    pub(crate) apply_delay: String,
    pub(crate) sync_names: String,
    pub(crate) fsync: String,
    pub(crate) synchronous_commit: String,
    pub(crate) read_only: String,
    /// Unknown to servers before 17.
    pub(crate) allow_alter_system: Option<String>,
    pub(crate) priority: Option<String>,
    pub(crate) segment: u64,
    /// Whether a standby may find log in an archive.
    pub(crate) restores: bool,
}

/// A text that `Debug` hides.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Hidden(pub(crate) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

/// One row of `pg_stat_replication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverRow {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) flushed: Lsn,
    /// By its last word, which may be some seconds old when nothing is written.
    pub(crate) replayed: Lsn,
    /// Whether its sender counts it for synchronous commits: by the setting that the sender has read.
    pub(crate) synchronous: bool,
}

/// Why a row is no status: the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's {0} cannot be read; give the role what `sentinel postgres grants` prints, or report its version"
)]
pub(crate) struct Unreadable(&'static str);

/// Takes the row of [`STATUS`] apart.
pub(crate) fn read(row: &Row) -> Result<Status, Unreadable> {
    let standby = text(row, "standby")? == "true";
    let settings = settings(row)?;
    let place = if standby {
        let replayed = maybe(row, "replayed")?.unwrap_or_default();
        let receipt = |at: &Lsn| is_receipt(*at, replayed, settings.segment);
        Place::Standby(StandbyPlace {
            received: maybe(row, "received")?.filter(receipt),
            asked: maybe(row, "received")?,
            replayed,
            replay_paused: maybe_text(row, "replay_paused")?.as_deref() == Some("true"),
            startup_waits: maybe_text(row, "startup_waits")?,
            receiver_runs: maybe_text(row, "receivers")?.is_some_and(|count| count != "0"),
            receiver: receiver(row, receipt)?,
        })
    } else {
        Place::Primary {
            flushed: parsed(row, "flushed")?,
            timeline: timeline_of(&text(row, "log_file")?).ok_or(Unreadable("log_file"))?,
        }
    };
    Ok(Status {
        system: SystemId(text(row, "system_identifier")?),
        version_file_changed: parsed(row, "pg_version")?,
        started: parsed(row, "started")?,
        port: text(row, "port")?,
        folder: text(row, "data_directory")?,
        place,
        settings,
        receivers: receivers(row)?,
    })
}

fn settings(row: &Row) -> Result<Settings, Unreadable> {
    Ok(Settings {
        conninfo: Hidden(text(row, "primary_conninfo")?),
        slot_name: text(row, "primary_slot_name")?,
        apply_delay: text(row, "recovery_min_apply_delay")?,
        sync_names: text(row, "synchronous_standby_names")?,
        fsync: text(row, "fsync")?,
        synchronous_commit: text(row, "synchronous_commit")?,
        read_only: text(row, "default_transaction_read_only")?,
        allow_alter_system: maybe_text(row, "allow_alter_system")?,
        priority: maybe_text(row, "priority")?,
        segment: parsed(row, "wal_segment_size")?,
        restores: maybe_text(row, "restore_command")?.is_some_and(|command| !command.is_empty()),
    })
}

/// Whether a standby can have received up to here, or only asked from here.
///
/// When it asks for another timeline, the place from which it asks, always the start of a segment, stands
/// where otherwise the end of what it received stands. Beyond what it replayed that is a claim without a
/// byte behind it: a standby that is turned away at the boundary (see `hazard`) claims a whole segment's
/// end, keeps claiming it without a receiver, and would outrank one that has the writes.
fn is_receipt(at: Lsn, replayed: Lsn, segment: u64) -> bool {
    at <= replayed || !at.0.is_multiple_of(segment)
}

/// A receiver that has just started has written nothing yet and says so with NULL.
fn receiver(row: &Row, receipt: impl Fn(&Lsn) -> bool) -> Result<Option<Receiver>, Unreadable> {
    let Some(status) = maybe_text(row, "receiver_status")? else {
        return Ok(None);
    };
    let timeline = maybe(row, "receiver_timeline")?.unwrap_or_default();
    Ok(Some(Receiver {
        status,
        timeline: Timeline(timeline),
        flushed: maybe(row, "receiver_flushed")?
            .filter(receipt)
            .unwrap_or_default(),
    }))
}

fn receivers(row: &Row) -> Result<Vec<ReceiverRow>, Unreadable> {
    let column = |name: &'static str| -> Result<Vec<String>, Unreadable> {
        let values: Option<Vec<String>> = row.try_get(name).map_err(|_| Unreadable(name))?;
        Ok(values.unwrap_or_default())
    };
    let lsn = |text: &str| text.parse().map_err(|_| Unreadable("pg_stat_replication"));
    let places = column("flushed_by")?
        .into_iter()
        .zip(column("replayed_by")?);
    let who = column("names")?.into_iter().zip(column("states")?);
    let rows = who.zip(places).zip(column("priorities")?);
    rows.map(|(((name, state), (flushed, replayed)), priority)| {
        Ok(ReceiverRow {
            name,
            state,
            flushed: lsn(&flushed)?,
            replayed: lsn(&replayed)?,
            synchronous: priority != "0",
        })
    })
    .collect()
}

/// The name of a log file begins with its timeline, in eight hexadecimal digits.
fn timeline_of(file: &str) -> Option<Timeline> {
    u32::from_str_radix(file.get(..8)?, 16).ok().map(Timeline)
}

fn maybe_text(row: &Row, column: &'static str) -> Result<Option<String>, Unreadable> {
    row.try_get(column).map_err(|_| Unreadable(column))
}

fn text(row: &Row, column: &'static str) -> Result<String, Unreadable> {
    maybe_text(row, column)?.ok_or(Unreadable(column))
}

fn maybe<T: FromStr>(row: &Row, column: &'static str) -> Result<Option<T>, Unreadable> {
    let text = maybe_text(row, column)?;
    text.map(|text| text.parse().map_err(|_| Unreadable(column)))
        .transpose()
}

fn parsed<T: FromStr>(row: &Row, column: &'static str) -> Result<T, Unreadable> {
    maybe(row, column)?.ok_or(Unreadable(column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_names_its_timeline() {
        assert_eq!(timeline_of("0000000A0000000000000009"), Some(Timeline(10)));
        assert_eq!(timeline_of("nonsense"), None);
        assert_eq!(timeline_of("1"), None);
    }

    #[test]
    fn where_it_asks_from_is_not_what_it_received() {
        let segment = 1 << 20;
        let replayed = Lsn(0xBF_FE78);
        for (at, wanted) in [
            (0xC0_0000, false),
            (0xC0_0008, true),
            (0xBF_FFD8, true),
            // Before what it replayed it does no harm, and there it stands after every change of timeline.
            (0xB0_0000, true),
        ] {
            assert_eq!(is_receipt(Lsn(at), replayed, segment), wanted, "{at:X}");
        }
    }

    #[test]
    fn a_connection_string_does_not_show() {
        let settings = Settings {
            conninfo: Hidden("password=hunter2".into()),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
