//! Decides whether a running standby may be pointed at another primary by a reload, or has to be brought over by its host.
//!
//! From what it received and replayed, and the primary's history. The rule is `hazard`'s; this file only reads.

use std::sync::Arc;

use sentinel_core::id::InstanceId;

use super::control;
use super::host::Shared;
use super::own_history;
use super::upstream;
use crate::hazard::{self, Judgement, Reached};
use crate::lsn::Lsn;

/// How a standby gets to another primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    /// By a reload.
    AsItIs,
    /// By a job of the agent; why.
    ByHost(&'static str),
}

const REACHED: &str = "SELECT pg_last_wal_receive_lsn()::text, pg_last_wal_replay_lsn()::text";

/// Judges our standby against this primary. An error says why nothing can be said, and that nothing was done.
pub(super) async fn judge(shared: &Arc<Shared>, primary: &InstanceId) -> Result<Crossing, String> {
    let settings = &shared.settings;
    let theirs = upstream::ask_history(settings, primary)
        .await
        .map_err(|error| error.to_string())?;
    let control = control::read(&shared.programs, &settings.data_dir)
        .await
        .map_err(|error| error.to_string())?;
    if control.system_identifier != theirs.system_identifier {
        return Err(format!(
            "the data folder holds the database {}, the primary {}: this is not the same service",
            control.system_identifier, theirs.system_identifier
        ));
    }
    let Ok(client) = upstream::connect(settings, &settings.instance).await else {
        return Ok(Crossing::ByHost("the standby does not answer"));
    };
    let own = own_history::own_history(settings, &control).map_err(|error| error.to_string())?;
    let row = client
        .query_one(REACHED, &[])
        .await
        .map_err(|error| upstream::said(&error))?;
    let lsn = |index| {
        row.get::<_, Option<&str>>(index)
            .and_then(|text| text.parse::<Lsn>().ok())
    };
    let reached = Reached {
        timeline: own.timeline(),
        fork: own.fork(),
        received: lsn(0),
        replayed: lsn(1).unwrap_or_default(),
    };
    Ok(
        match hazard::judge(reached, &theirs.history, control.segment_size.0) {
            Judgement::Safe => Crossing::AsItIs,
            Judgement::Hazard => Crossing::ByHost("what it received may end within a torn record"),
            Judgement::Diverged => Crossing::ByHost("it went on beyond the fork"),
        },
    )
}
