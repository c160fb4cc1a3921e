//! Minds the server between orders: notices its end at once, and does about it what the policy says. Begins jobs, for an
//! order or for the policy, and tells how they end.
//!
//! One loop, which looks anew each time something changed; it remembers only how often a start failed.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::id::{Epoch, InstanceId};
use tokio::time::Instant;

use super::configuration;
use super::desk::{Aim, Progress, Verdict};
use super::followers;
use super::host::Shared;
use super::journal::Journal;
use super::mandate::Mandate;
use super::pausing::Phase;
use super::policy::{self, Decision, Folder, Pause, Situation};
use super::postmaster::{self, Found};
use super::postmaster_file::Readiness;
use super::rejoin::{Rejoin, RejoinError};
use super::report::ServerState;
use super::server::{self, Running};
use super::stand_down;
use super::standing::Standing;

/// A server that ran so long has got over what it failed of before.
const RAN_WELL: Duration = Duration::from_secs(30);
/// Without any news, things are looked at so often: a server that somebody else started is found.
const LOOK: Duration = Duration::from_secs(1);

/// What is remembered of a server that does not run.
#[derive(Debug, Default)]
struct Down {
    since: Option<Instant>,
    failures: u32,
    tried: Option<Instant>,
}

/// Minds the server until the agent ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut standing = shared.standing.clone();
    let mut down = Down::default();
    loop {
        if shared.desk.is_busy() {
            shared.board.state(ServerState::Busy);
            let mut changes = shared.desk.changes();
            drop(
                changes
                    .wait_for(|progress| progress.as_ref().is_none_or(Progress::is_over))
                    .await,
            );
            down = Down::default();
            continue;
        }
        match server::adopt(&shared.settings) {
            Ok(Some(running)) => watch(&shared, &running, &mut down).await,
            Ok(None) => {
                let wait = about_down(&shared, &mut down).await;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shared.news.notified() => {}
                    changed = standing.changed() => if changed.is_err() {
                        tokio::time::sleep(wait).await;
                    },
                }
            }
            Err(problem) => {
                shared.board.update(|status| status.problem = Some(problem));
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Waits for the end of a server that runs.
async fn watch(shared: &Arc<Shared>, running: &Running, down: &mut Down) {
    shared.board.state(ServerState::Running);
    let began = Instant::now();
    tokio::select! {
        text = running.ended() => {
            if began.elapsed() >= RAN_WELL {
                *down = Down::default();
            }
            let (instance, pid) = (&shared.settings.instance, running.pid());
            match shared.desk.is_busy() || shared.pausing.holds() {
                true => tracing::info!(%instance, pid, how = text, "the server ended by order"),
                false => tracing::warn!(%instance, pid, how = text, "the server ended"),
            }
            shared.board.update(|status| status.last_exit = Some(text));
            down.since = Some(Instant::now());
        }
        () = shared.news.notified() => {}
        () = outlived(shared) => {
            shared.pausing.end().await;
            shared.pause_file.outlast();
        }
        primary = deposed(shared) => {
            let instance = &shared.settings.instance;
            tracing::warn!(%instance, %primary, "it runs as a primary while another one is, and was not told: it may hang");
            let mandate = own_mandate(shared).await;
            if let Err(problem) = begin(shared, Aim::Follow { primary }, mandate).await {
                shared.board.update(|status| status.problem = Some(problem));
            }
        }
    }
}

/// Until a server that was stopped for a switchover is seen to run, whoever started it: the next time that it ends is
/// another matter.
async fn outlived(shared: &Shared) {
    loop {
        tokio::time::sleep(LOOK).await;
        let runs = match postmaster::find(&shared.settings.data_dir) {
            Found::Running(_, file) => file.readiness == Some(Readiness::Ready),
            Found::Nobody | Found::Unclear(_) => false,
        };
        if runs && shared.pause_file.kept().is_some() && shared.pausing.phase() != Phase::Stopping {
            return;
        }
    }
}

/// Until a server that runs as a primary has been replaced for so long that it would have been told, if it answered. A
/// server that hangs would do so forever, and go on as a primary at the end of it.
async fn deposed(shared: &Shared) -> InstanceId {
    let mut since: Option<(InstanceId, Instant)> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let standing = shared.standing.borrow().clone();
        let accepted = epoch_here(shared).await;
        let folder = folder(shared).unwrap_or(Folder::Unfinished);
        let own = &shared.settings.instance;
        since = policy::deposed(own, folder, &standing, accepted).map(|primary| match &since {
            Some((before, at)) if before == primary => (primary.clone(), *at),
            Some(_) | None => (primary.clone(), Instant::now()),
        });
        if let Some((primary, at)) = &since
            && at.elapsed() >= shared.settings.restart_after
        {
            return primary.clone();
        }
    }
}

/// The highest epoch of which an order was carried out here: by the agent, or over SQL, as a promotion is.
async fn epoch_here(shared: &Shared) -> Epoch {
    let accepted = shared.accepted.lock().await.highest().epoch;
    let set = configuration::quorum(&shared.settings.data_dir);
    accepted.max(set.map(|quorum| quorum.version.epoch).unwrap_or_default())
}

/// Does what the policy says; gives how long nothing more is to be done.
async fn about_down(shared: &Arc<Shared>, down: &mut Down) -> Duration {
    if shared.pausing.holds() {
        shared.board.state(ServerState::Paused);
        return LOOK;
    }
    let since = *down.since.get_or_insert_with(Instant::now);
    let standing = shared.standing.borrow().clone();
    // Taken before the look: what comes after it is another matter.
    let mandate = own_mandate(shared).await;
    let folder = match folder(shared) {
        Ok(folder) => folder,
        Err(problem) => {
            shared.board.state(ServerState::Down);
            shared.board.update(|status| status.problem = Some(problem));
            return LOOK;
        }
    };
    let decision = policy::decide(&Situation {
        own: &shared.settings.instance,
        folder,
        standing: &standing,
        accepted: epoch_here(shared).await,
        down: since.elapsed(),
        failures: down.failures,
        tried: down.tried.map(|tried| tried.elapsed()),
        restart_after: shared.settings.restart_after,
        pause: shared.pause_file.kept().map(|kept| Pause {
            token: kept.token(),
            limit: kept.limit(),
        }),
        unheard: standing
            .silence
            .as_ref()
            .map_or(Duration::ZERO, |silence| shared.unheard(silence)),
    });
    match decision {
        Decision::Wait(time) => {
            shared.board.state(ServerState::Down);
            time.min(LOOK)
        }
        Decision::Leave(reason) => {
            leave(shared, reason);
            LOOK
        }
        Decision::Return => come_back(shared, down, &standing).await,
        Decision::Start => {
            start(shared, down, &standing).await;
            Duration::ZERO
        }
        Decision::Follow(primary) => {
            let aim = Aim::Follow { primary };
            if let Err(problem) = begin(shared, aim, mandate).await {
                shared.board.update(|status| status.problem = Some(problem));
            }
            shared.board.state(ServerState::Down);
            // A job that failed a moment ago is not begun at once.
            match shared.desk.is_busy() {
                true => Duration::ZERO,
                false => LOOK,
            }
        }
    }
}

/// Starts a primary whose pause nobody ends, if it could acknowledge anything.
async fn come_back(shared: &Arc<Shared>, down: &mut Down, standing: &Standing) -> Duration {
    match followers::enough(shared).await {
        Ok(()) => {
            tracing::warn!(instance = %shared.settings.instance, "its pause is over, and no leader is heard");
            start(shared, down, standing).await;
            Duration::ZERO
        }
        Err(reason) => {
            leave(shared, &reason);
            LOOK
        }
    }
}

fn folder(shared: &Shared) -> Result<Folder, String> {
    let settings = &shared.settings;
    match Journal::open(&settings.state_dir) {
        Ok(Some(journal)) if journal.is_open() => return Ok(Folder::Unfinished),
        Ok(Some(_) | None) => {}
        Err(error) => return Err(error.to_string()),
    }
    let empty = match std::fs::read_dir(&settings.data_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(format!("the data folder cannot be read: {error}")),
    };
    match (empty, settings.is_standby()) {
        (true, _) => Ok(Folder::Empty),
        (false, true) => Ok(Folder::Standby),
        (false, false) => Ok(Folder::Primary),
    }
}

fn leave(shared: &Shared, reason: &str) {
    if shared.board.show().state != ServerState::Down {
        tracing::info!(instance = %shared.settings.instance, reason, "the server is not started");
    }
    shared.board.state(ServerState::Down);
    shared
        .board
        .update(|status| status.problem = Some(reason.to_owned()));
}

async fn start(shared: &Arc<Shared>, down: &mut Down, standing: &Standing) {
    down.failures += 1;
    down.tried = Some(Instant::now());
    tracing::info!(instance = %shared.settings.instance, attempt = down.failures, epoch = %standing.epoch, "the server is started in place");
    // A pause that is ordered from here on is another one.
    shared.pausing.end().await;
    shared.board.state(ServerState::Starting);
    let mut changes = shared.desk.changes();
    changes.mark_unchanged();
    tokio::select! {
        started = server::start(&shared.settings, &shared.programs) => match started {
            Ok((running, reached)) => {
                tracing::info!(instance = %shared.settings.instance, pid = running.pid(), ?reached, "the server is up");
                shared.board.update(|status| status.problem = None);
                shared.pause_file.outlast();
            }
            Err(error) => {
                let problem = error.to_string();
                tracing::warn!(instance = %shared.settings.instance, problem, "the server could not be started");
                shared.board.update(|status| status.problem = Some(problem));
            }
        },
        // A job begins, and takes over what was begun here.
        _ = changes.changed() => {}
    }
}

/// What the policy goes by.
async fn own_mandate(shared: &Shared) -> Mandate {
    let highest = shared.accepted.lock().await.highest();
    Mandate::by_policy(highest, &shared.settings.data_dir)
}

/// Begins a job, unless it is at work, or failed a moment ago, or the mandate is over.
pub(super) async fn begin(shared: &Arc<Shared>, aim: Aim, mandate: Mandate) -> Result<(), String> {
    // Held so that no order of more authority comes between the look and the beginning.
    let accepted = shared.accepted.lock().await;
    shared.allows(&mandate, &accepted)?;
    let epoch = mandate.token.epoch.0;
    // A copy made by this very order is not made again because its server does not answer at this moment.
    let found = Journal::open(&shared.settings.state_dir).map_err(|error| error.to_string())?;
    if aim.is_rebuild() && found.is_some_and(|journal| journal.fulfils(&aim, epoch)) {
        return Ok(());
    }
    let failures = match shared.desk.judge(&aim, epoch) {
        Verdict::Same | Verdict::Wait => return Ok(()),
        Verdict::Begin { failures } => failures,
    };
    shared.desk.clear().await;
    shared.end_pause().await;
    // The job that was given up may have taken its time to let go.
    if let Err(text) = shared.allows(&mandate, &accepted) {
        if shared.desk.is_busy() {
            shared.desk.end(Progress::Failed(text.clone()));
        }
        return Err(text);
    }
    shared.pause_file.forget();
    let worker = Arc::clone(shared);
    let job = aim.clone();
    shared.desk.begin(aim, epoch, failures, || {
        tokio::spawn(work(worker, job, mandate))
    });
    Ok(())
}

async fn work(shared: Arc<Shared>, aim: Aim, mandate: Mandate) {
    let epoch = mandate.token.epoch.0;
    tracing::info!(instance = %shared.settings.instance, ?aim, epoch, "a job begins");
    shared.board.update(|status| status.problem = None);
    let done = match (aim.primary(), &aim) {
        (Some(primary), _) => rejoin(&shared, primary, &aim, mandate).await,
        (None, Aim::StandDown { life }) => stand_down::run(&shared, life, epoch).await,
        (None, Aim::Follow { .. } | Aim::Rebuild { .. }) => Ok(()),
    };
    let progress = match done {
        Ok(()) => Progress::Done,
        Err(
            error
            @ (RejoinError::Foreign { .. } | RejoinError::OtherLife | RejoinError::Unfinished),
        ) => Progress::Refused(error.to_string()),
        Err(error) => Progress::Failed(error.to_string()),
    };
    let instance = &shared.settings.instance;
    match &progress {
        Progress::Refused(text) | Progress::Failed(text) => {
            tracing::warn!(%instance, ?aim, problem = text, "the job failed");
            shared
                .board
                .update(|status| status.problem = Some(text.clone()));
        }
        Progress::Done | Progress::Working => tracing::info!(%instance, ?aim, "the job is done"),
    }
    shared.board.idle();
    shared.desk.end(progress);
    shared.news.notify_one();
}

async fn rejoin(
    shared: &Shared,
    primary: &InstanceId,
    aim: &Aim,
    mandate: Mandate,
) -> Result<(), RejoinError> {
    let (settings, epoch) = (&shared.settings, mandate.token.epoch.0);
    let fresh = || Journal::begin(primary, aim, epoch);
    let journal = match Journal::open(&settings.state_dir)? {
        Some(open) if open.is_open() => open,
        Some(over) => {
            let mut journal = fresh();
            journal.inherit(over);
            journal
        }
        None => fresh(),
    };
    let mut rejoin = Rejoin {
        settings,
        programs: &shared.programs,
        board: &shared.board,
        journal,
        told: mandate.told,
    };
    rejoin.redirect(primary, aim, epoch)?;
    rejoin.run().await
}
