//! The pause for a switchover: a checkpoint while the server takes writes, then a fast stop, and the place of the last
//! record.
//!
//! A checkpoint may take minutes, an order has a fraction of a second. So it is a job, which the repeated order joins. It
//! changes nothing and needs no authority; the stop does, and is begun by an order that is in time and of the highest
//! token. A paused server takes no writes because it does not run. The pause ends by order, or by itself when its time is
//! over.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::action::{Action, Outcome};
use sentinel_core::observation::{Facts, Role};
use sentinel_core::position::Offset;
use tokio::time::Instant;

use super::control::{self, Left};
use super::fence::Fence;
use super::host::Shared;
use super::pause_file::Kept;
use super::pausing::Phase;
use super::report::ServerState;
use super::senders;
use super::server::{self, StopMode};
use super::upstream;

/// A checkpoint that took longer than this is followed by another one, which has less to write: what it leaves is written
/// by the stop, while nobody can write.
const SHORT: Duration = Duration::from_secs(1);
const CHECKPOINTS_MAX: u32 = 3;

/// A checkpoint that was written longer ago is written again before the stop.
const FRESH: Duration = Duration::from_secs(5);

/// A pause that nobody has asked for so long is given up: it was called off, or its leader is gone.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(500);

/// How long a stop waits for standbys to confirm the last record. Less than the silence that voters tolerate by default:
/// a pause that takes longer ends in a failover.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);

/// Goes on with the pause as far as the order allows, and says how far it is.
pub(super) async fn pause(shared: &Arc<Shared>, action: &Action, limit: Duration) -> Outcome {
    if shared.pause_file.is_outlasted(action.token) {
        let text = "the pause of this switchover has ended by itself, because no leader was heard; the server takes writes";
        return Outcome::Refused(text.to_owned());
    }
    let mut phases = shared.pausing.changes();
    shared.pausing.ask();
    let mut joined = false;
    loop {
        let left = shared.time_left(action);
        let phase = phases.borrow_and_update().clone();
        if left.is_zero() {
            return Outcome::UnderWay(phase.to_string());
        }
        let begun = match phase {
            Phase::Stopped { facts, .. } => return Outcome::Done(facts),
            Phase::Failed(text) if joined => {
                shared.pausing.reach(Phase::Idle);
                return Outcome::Unknown(text);
            }
            Phase::Checkpointed { at } if at.elapsed() < FRESH => {
                begin(shared, action, Part::Stop { limit }).await
            }
            // A new agent finds a server that the one before stopped, or was about to stop.
            Phase::Idle | Phase::Failed(_) if is_down_for_pause(shared) => {
                begin(shared, action, Part::Stop { limit }).await
            }
            Phase::Idle | Phase::Failed(_) | Phase::Checkpointed { .. } => {
                begin(shared, action, Part::Checkpoint).await
            }
            Phase::Checkpointing { .. } | Phase::Stopping => {
                drop(tokio::time::timeout(left, phases.changed()).await);
                Ok(())
            }
        };
        if let Err(outcome) = begun {
            return outcome;
        }
        joined = true;
    }
}

fn is_down_for_pause(shared: &Shared) -> bool {
    let nobody = matches!(server::adopt(&shared.settings), Ok(None));
    nobody && shared.pause_file.kept().is_some()
}

/// The two parts of a pause.
#[derive(Clone, Copy, Debug)]
enum Part {
    Checkpoint,
    Stop { limit: Duration },
}

/// Begins a part, unless an order of more authority came meanwhile. The outcome says why not.
async fn begin(shared: &Arc<Shared>, action: &Action, part: Part) -> Result<(), Outcome> {
    let asked = tokio::time::timeout(shared.time_left(action), shared.facts());
    let facts = match asked.await {
        Ok(Some(facts)) => facts,
        Ok(None) | Err(_) => match shared.pause_file.kept() {
            Some(kept) if is_down_for_pause(shared) => *kept.facts,
            Some(_) | None => {
                let text = "the server does not answer";
                return Err(Outcome::Unknown(text.to_owned()));
            }
        },
    };
    if facts.role != Role::Primary {
        let text = "the instance is no primary";
        return Err(Outcome::Refused(text.to_owned()));
    }
    // Held so that nothing of more authority comes between the look and the beginning.
    let accepted = shared.accepted.lock().await;
    if action.token < accepted.highest() {
        let text = format!("an order of {} came meanwhile", accepted.highest());
        return Err(Outcome::Refused(text));
    }
    if shared.desk.is_busy() {
        return Err(Outcome::Refused(shared.at_work()));
    }
    let now = Instant::now();
    match (part, shared.pausing.phase()) {
        // Another order was quicker.
        (_, Phase::Checkpointing { .. } | Phase::Stopping | Phase::Stopped { .. }) => {}
        (Part::Checkpoint, Phase::Idle | Phase::Failed(_) | Phase::Checkpointed { .. }) => {
            let worker = Arc::clone(shared);
            let phase = Phase::Checkpointing { since: now };
            let spawn = || tokio::spawn(prepare(worker));
            shared.pausing.begin(phase, spawn);
        }
        // An order that is late by now stops nothing.
        (Part::Stop { .. }, _) if shared.time_left(action).is_zero() => {}
        (Part::Stop { limit }, Phase::Idle | Phase::Failed(_) | Phase::Checkpointed { .. }) => {
            let worker = Arc::clone(shared);
            let pause = Kept::new(action.token, limit, Box::new(facts));
            let spawn = || tokio::spawn(hold(worker, pause, now + limit));
            shared.pausing.begin(Phase::Stopping, spawn);
        }
    }
    Ok(())
}

/// The job while the server takes writes.
async fn prepare(shared: Arc<Shared>) {
    let instance = &shared.settings.instance;
    tracing::info!(%instance, "a checkpoint is written before the server is stopped for a switchover");
    shared
        .board
        .doing("writing a checkpoint before the stop for a switchover");
    let began = Instant::now();
    let phase = tokio::select! {
        written = checkpoints(&shared) => match written {
            Ok(()) => Phase::Checkpointed { at: Instant::now() },
            Err(text) => Phase::Failed(text),
        },
        () = until_unasked(&shared) => Phase::Idle,
    };
    tracing::info!(%instance, ?phase, took = ?began.elapsed(), "the checkpoint before the stop has ended");
    shared.board.idle();
    shared.pausing.reach(phase);
}

async fn until_unasked(shared: &Shared) {
    while shared.pausing.unasked() < ASKED_WITHIN {
        tokio::time::sleep(LOOK).await;
    }
}

/// An error says that somebody else has given the server an order meanwhile: it is not ours to stop any more.
async fn checkpoints(shared: &Shared) -> Result<(), String> {
    let settings = &shared.settings;
    let fence = Fence::raise(settings).await;
    for _ in 0..CHECKPOINTS_MAX {
        let began = Instant::now();
        let written = match upstream::connect(settings, &settings.instance).await {
            Ok(client) => client
                .batch_execute("CHECKPOINT")
                .await
                .map_err(|error| upstream::said(&error)),
            Err(error) => Err(error.to_string()),
        };
        // Without it the stop takes longer, and is as good.
        if let Err(error) = &written {
            tracing::warn!(error, "no checkpoint before the stop");
        }
        if written.is_err() || began.elapsed() < SHORT {
            break;
        }
    }
    match fence.stood().await {
        true => Ok(()),
        false => Err(
            "the server ended, or was given another order, while its checkpoint was written"
                .to_owned(),
        ),
    }
}

/// The job that stops the server. No order gives it up; a job that takes the server over, and a start, end it (`Pausing::end`).
async fn hold(shared: Arc<Shared>, pause: Kept, until: Instant) {
    let phase = match stop(&shared, pause).await {
        Ok(facts) => Phase::Stopped { facts, until },
        Err(text) => {
            tracing::warn!(instance = %shared.settings.instance, problem = text, "the pause failed");
            Phase::Failed(text)
        }
    };
    if let Phase::Stopped { .. } = &phase {
        shared.board.state(ServerState::Paused);
    }
    shared.pausing.reach(phase);
    shared.news.notify_one();
}

/// Stops the primary and gives its last facts.
async fn stop(shared: &Shared, pause: Kept) -> Result<Box<Facts>, String> {
    let settings = &shared.settings;
    let mut facts = pause.facts.clone();
    // Without a leader, and after the agent's own restart, this is all that tells a pause from an end.
    shared.pause_file.keep(pause).map_err(|error| {
        format!("the pause cannot be written down, so the server was not stopped: {error}")
    })?;
    let stop = server::stop(settings, &shared.programs, StopMode::Fast);
    tokio::pin!(stop);
    let stopped = tokio::select! {
        stopped = &mut stop => stopped,
        () = tokio::time::sleep(CONFIRMED_WITHIN) => {
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
    if let Some(position) = &mut facts.position {
        // The checkpoint is the last record: whoever has its first byte and only whole records has all of it.
        position.offset = Offset(control.checkpoint.0 + 1);
    }
    facts.replicas.clear();
    Ok(facts)
}

/// Ends the pause: a server that still runs goes on, one that is stopping is started when it has stopped.
pub(super) async fn resume(shared: &Arc<Shared>, action: &Action) -> Outcome {
    let mut phases = shared.pausing.changes();
    while *phases.borrow_and_update() == Phase::Stopping {
        let left = shared.time_left(action);
        if tokio::time::timeout(left, phases.changed()).await.is_err() {
            let text = "the server is stopping, and is started when it has stopped";
            return Outcome::UnderWay(text.to_owned());
        }
    }
    shared.end_pause().await;
    let started = tokio::time::timeout(shared.time_left(action), start(shared)).await;
    match (started, shared.facts_until(action).await) {
        (Ok(Err(text)), _) => Outcome::Refused(text),
        (Ok(Ok(())), Some(facts)) => Outcome::Done(Box::new(facts)),
        (Ok(Ok(())), None) | (Err(_), _) => Outcome::UnderWay("the server is starting".to_owned()),
    }
}

/// Starts the server again, if it is still the primary.
async fn start(shared: &Arc<Shared>) -> Result<(), String> {
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
        return Err(shared.at_work());
    }
    match server::start(&shared.settings, &shared.programs).await {
        Ok(_) => {
            shared.pause_file.forget();
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
