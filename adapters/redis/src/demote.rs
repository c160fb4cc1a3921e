//! What must be saved before an instance that was a primary follows another one, and how.
//!
//! Decides by comparing two histories: the instance's, and that of the primary which it is to
//! follow. What is a prefix of the primary's is not lost by following. Anything else exists here
//! only, and a full sync would wipe it: it is copied to this node's disk first, with writes paused,
//! so that the copy ends exactly where the instance does.
//!
//! A copy that takes longer than one action's deadline goes on in the background; the action is
//! then not done, and the next one finds the copy finished. A frozen instance cannot be copied (see
//! `copy`), nor one on a node without a folder for it: both are said in the log, and follow.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::observation::{Facts, Role};
use sentinel_core::position::Position;
use sentinel_core::runtime::Stop;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::copy::{self, Copy, CopyError, Source};
use crate::line::Line;
use crate::orders;
use crate::reading::Reading;
use crate::session::Session;

/// Longer than the pause between two attempts, and short enough to end by itself when nobody comes back.
const PAUSE: Duration = Duration::from_secs(5);

/// The copy of one instance, over several attempts to demote it.
#[derive(Debug, Default)]
pub(crate) enum Copying {
    #[default]
    Nothing,
    UnderWay(JoinHandle<Result<Copy, CopyError>>),
    Finished(Copy),
}

/// Saves what only this instance has. Afterwards it may follow.
pub(crate) async fn save(
    line: &Line,
    upstream: Option<&Arc<Line>>,
    session: &mut Session<'_>,
    copying: &mut Copying,
    found: &Reading,
) -> Result<(), Stop> {
    if !found.facts.holds_data {
        return Ok(());
    }
    let primary = match upstream {
        None => None,
        Some(upstream) => timeout(session.left() / 2, upstream.look()).await.ok(),
    };
    let Some(Ok(primary)) = primary else {
        return Err(session.stop(
            "the primary that it is to follow does not answer, so nobody can tell what only this instance has",
        ));
    };
    if is_part_of(&found.facts, &primary.facts) {
        return Ok(());
    }
    let instance = &line.instance;
    let Some(folder) = &line.settings.copies else {
        tracing::warn!(%instance, "diverged data are given up: this node has no folder for copies");
        return Ok(());
    };
    if found.facts.role != Role::Primary {
        tracing::warn!(%instance, "diverged data are given up: a frozen instance cannot be copied");
        return Ok(());
    }
    session.transact(orders::pause_writes(PAUSE)).await?;
    let paused = session.read().await?.facts;
    if let Copying::Finished(copy) = copying
        && Some(&copy.position) == paused.position.as_ref()
    {
        return Ok(());
    }
    let mut handle = match std::mem::take(copying) {
        Copying::UnderWay(handle) => handle,
        Copying::Nothing | Copying::Finished(_) => tokio::spawn(copy::fetch(Source {
            service: line.service.clone(),
            instance: instance.clone(),
            credentials: line.settings.credentials.clone(),
            folder: folder.clone(),
        })),
    };
    match timeout(session.left() / 2, &mut handle).await {
        Ok(Ok(Ok(copy))) => {
            tracing::info!(%instance, path = %copy.path.display(), bytes = copy.bytes, position = %copy.position, "diverged data saved");
            *copying = Copying::Finished(copy.clone());
            still_at(session, &copy.position).await
        }
        Ok(Ok(Err(error))) => Err(session.stop(&format!("diverged data not saved: {error}"))),
        Ok(Err(panic)) => Err(session.stop(&format!("diverged data not saved: {panic}"))),
        Err(_) => {
            *copying = Copying::UnderWay(handle);
            Err(session.stop("diverged data are being saved; the instance follows once they are"))
        }
    }
}

/// The copy is all that there is.
async fn still_at(session: &mut Session<'_>, position: &Position) -> Result<(), Stop> {
    if session.read().await?.facts.position.as_ref() == Some(position) {
        return Ok(());
    }
    Err(session.stop("the instance took writes while its data were saved; they are saved again"))
}

/// Whether everything that an instance holds is part of the primary's history.
fn is_part_of(own: &Facts, primary: &Facts) -> bool {
    let covers = |end: &Option<Position>, at: &Position| {
        end.as_ref()
            .is_some_and(|end| end.lineage == at.lineage && at.offset <= end.offset)
    };
    let inside = |at: &Position| covers(&primary.position, at) || covers(&primary.fork, at);
    let Some(position) = &own.position else {
        return false;
    };
    // A primary that restarted has a new lineage, and has added nothing to it if it stands at its beginning.
    let at_fork = own
        .fork
        .as_ref()
        .filter(|fork| fork.offset == position.offset);
    inside(position) || at_fork.is_some_and(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_core::id::Incarnation;
    use sentinel_core::observation::{Persistable, RestartGuard, Writes};
    use sentinel_core::position::{Lineage, Offset};

    fn at(lineage: &str, offset: u64) -> Option<Position> {
        Some(Position {
            lineage: Lineage::new(lineage),
            offset: Offset(offset),
        })
    }

    fn facts(position: Option<Position>, fork: Option<Position>) -> Facts {
        Facts {
            incarnation: Incarnation::new("i"),
            server: "i".into(),
            role: Role::Primary,
            position,
            fork,
            synced: true,
            holds_data: true,
            persistable: Persistable::Yes,
            priority: 100,
            write_quorum: None,
            replicas: Vec::new(),
            restart_guard: RestartGuard::None,
            writes: Writes::Itself,
            applied: None,
            trouble: None,
        }
    }

    #[test]
    fn a_prefix_of_the_primarys_history_is_not_lost() {
        let primary = facts(at("b", 70), at("a", 50));
        for (position, fork, part) in [
            (at("a", 50), None, true),
            (at("a", 51), None, false),
            (at("b", 70), at("a", 50), true),
            (at("b", 71), at("a", 50), false),
            (at("c", 40), at("a", 40), true),
            (at("c", 41), at("a", 40), false),
            (at("c", 60), at("a", 60), false),
            (at("z", 1), None, false),
            (None, None, false),
        ] {
            assert_eq!(
                is_part_of(&facts(position.clone(), fork), &primary),
                part,
                "{position:?}"
            );
        }
    }
}
