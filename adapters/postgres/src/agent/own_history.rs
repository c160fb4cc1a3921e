//! By which path of timelines a data folder came to where it is, as its own files tell.
//!
//! Reads the folder of a server that may be stopped. Knows nothing of the primary.

use std::collections::BTreeSet;
use std::fs;

use super::boundary;
use super::control::Control;
use super::rejoin::{RejoinError, io};
use super::settings::AgentSettings;
use super::wal::history_file;
use crate::history::{History, Timeline};

/// The path of the folder's newest timeline. One of which it holds no more than a file that ends before the fork is not
/// counted: nothing of it has been replayed, or told to anybody.
pub(super) fn own_history(
    settings: &AgentSettings,
    control: &Control,
) -> Result<History, RejoinError> {
    let named = control.timeline.max(control.minimum_recovery_timeline);
    for logged in logged_timelines(settings, control)?.into_iter().rev() {
        if logged <= named {
            break;
        }
        let history = history_of(settings, logged)?;
        let size = control.segment_size;
        if !boundary::ends_before_fork(&settings.data_dir, &history, size)
            .map_err(io("the write-ahead log cannot be read"))?
        {
            return Ok(history);
        }
    }
    history_of(settings, named)
}

fn history_of(settings: &AgentSettings, timeline: Timeline) -> Result<History, RejoinError> {
    if timeline == Timeline(1) {
        return Ok(History::first());
    }
    let path = settings
        .data_dir
        .join("pg_wal")
        .join(history_file(timeline));
    let text =
        fs::read_to_string(path).map_err(io("the folder's own timeline history cannot be read"))?;
    Ok(History::parse(timeline, &text)?)
}

/// The timelines of the folder's log: right after a promotion only it names the newest.
fn logged_timelines(
    settings: &AgentSettings,
    control: &Control,
) -> Result<BTreeSet<Timeline>, RejoinError> {
    let entries = fs::read_dir(settings.data_dir.join("pg_wal"))
        .map_err(io("the write-ahead log cannot be listed"))?;
    let logged = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let (timeline, _) = control.segment_size.parse_name(name.to_str()?)?;
        Some(timeline)
    });
    Ok(logged.collect())
}
