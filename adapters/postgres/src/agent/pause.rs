//! The pause for a switchover: a checkpoint, a fast stop, and the place of the last record.
//!
//! A paused server takes no writes because it does not run. The pause ends by order, or by itself when its time is over.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sentinel_core::observation::{Facts, Role};
use sentinel_core::position::Offset;
use tokio::time::Instant;

use super::control::{self, Left};
use super::host::{Paused, Shared};
use super::report::ServerState;
use super::senders;
use super::server::{self, StopMode};
use super::upstream;

/// The long part of a checkpoint is done before the stop; a stop writes what is left.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(30);

/// How long a stop waits for standbys to confirm the last record. Less than the silence that voters tolerate by default:
/// a pause that takes longer ends in a failover.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);

/// Stops the primary and gives its last facts. Called again, it goes on, or gives the same answer.
pub(super) async fn stop(shared: &Arc<Shared>, limit: Duration) -> Result<Box<Facts>, String> {
    let Paused { until, facts } = match shared.pause_now() {
        Some(paused) => paused,
        None => begin(shared, limit).await?,
    };
    let settings = &shared.settings;
    let stop = server::stop(settings, StopMode::Fast);
    tokio::pin!(stop);
    let stopped = tokio::select! {
        stopped = &mut stop => stopped,
        () = tokio::time::sleep_until(until - limit + CONFIRMED_WITHIN) => {
            senders::end(&settings.data_dir);
            stop.await
        }
    };
    stopped.map_err(|error| error.to_string())?;
    let control = control::read(&shared.programs, &settings.data_dir)
        .await
        .map_err(|error| error.to_string())?;
    if control.left != Left::ShutDown {
        return Err(
            "the server did not stop in time and was killed; its last record is not known"
                .to_owned(),
        );
    }
    let mut facts = facts;
    if let Some(position) = &mut facts.position {
        // The checkpoint is the last record: whoever has its first byte and only whole records has all of it.
        position.offset = Offset(control.checkpoint.0 + 1);
    }
    facts.replicas.clear();
    shared.board.state(ServerState::Paused);
    Ok(facts)
}

async fn begin(shared: &Arc<Shared>, limit: Duration) -> Result<Paused, String> {
    let facts = shared.facts().await.ok_or("the server does not answer")?;
    if facts.role != Role::Primary {
        return Err("the instance is no primary".to_owned());
    }
    let settings = &shared.settings;
    let checkpoint = async {
        match upstream::connect(settings, &settings.instance).await {
            Ok(client) => client
                .batch_execute("CHECKPOINT")
                .await
                .map_err(|error| upstream::said(&error)),
            Err(error) => Err(error.to_string()),
        }
    };
    // Without it the stop takes longer, and is as good.
    match tokio::time::timeout(CHECKPOINT_LIMIT, checkpoint).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error, "no checkpoint before the stop"),
        Err(_) => tracing::warn!("the checkpoint before the stop took too long"),
    }
    let paused = Paused {
        until: Instant::now() + limit,
        facts: Box::new(facts),
    };
    *shared.paused.lock().unwrap_or_else(PoisonError::into_inner) = Some(paused.clone());
    Ok(paused)
}

/// Starts the server again, if it is still the primary.
pub(super) async fn end(shared: &Arc<Shared>) -> Result<(), String> {
    let standing = shared.standing.borrow().clone();
    let ours = standing.primary.as_ref() == Some(&shared.settings.instance);
    if !ours && !shared.settings.is_standby() {
        return Err(format!(
            "the instance is not started, because the committed primary is {}",
            standing
                .primary
                .map_or("not known here".to_owned(), |primary| primary.to_string())
        ));
    }
    if shared.desk.is_busy() {
        return Err(format!(
            "the agent is at work: {}",
            shared.board.show().progress()
        ));
    }
    match server::start(&shared.settings, &shared.programs).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
