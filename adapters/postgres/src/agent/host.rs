//! The agent of one instance: takes orders in the order of their authority, and works on one job at a time.
//!
//! A job outlives the deadline of the order that began it; the order, repeated, is told how far it is. What is asked of a
//! running server in its own language goes through the adapter, like everybody's. Minds no other instance, and decides
//! nothing: what it does without an order stands in `supervision`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{Incarnation, InstanceId, ProbeId};
use sentinel_core::observation::{Facts, Link, Observation, ProbeRequest, Role, Upstream};
use sentinel_core::runtime::{Adapter, Clock};
use sentinel_core::time::Instant as CoreInstant;
use tokio::sync::{Mutex as HeldMutex, Notify, watch};

use super::account::{Account, AccountError};
use super::crossing::{self, Crossing};
use super::desk::{Aim, Desk, Progress};
use super::diverged;
use super::journal::{Journal, JournalError};
use super::mandate::{Mandate, TOO_LATE};
use super::pause;
use super::pause_file::PauseFile;
use super::pausing::Pausing;
use super::programs::{ProgramError, Programs};
use super::reopening;
use super::report::{AgentStatus, Board};
use super::settings::{AgentSettings, SettingsError};
use super::slots;
use super::space;
use super::standing::{Accepted, Silence, Standing, StandingError};
use super::supervision;
use crate::host::Host;

/// Why an agent does not begin. Its server is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A folder of the agent cannot be made or entered.
    #[error("the agent's folder `{}` cannot be made: {source}", .path.display())]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something that the agent cannot do without; the text says what, and what to do.
    #[error("{0}")]
    Unable(String),
}

impl From<AccountError> for AgentError {
    fn from(error: AccountError) -> Self {
        Self::Unable(error.to_string())
    }
}

impl From<ProgramError> for AgentError {
    fn from(error: ProgramError) -> Self {
        Self::Unable(error.to_string())
    }
}

impl From<StandingError> for AgentError {
    fn from(error: StandingError) -> Self {
        Self::Unable(error.to_string())
    }
}

impl From<JournalError> for AgentError {
    fn from(error: JournalError) -> Self {
        Self::Unable(error.to_string())
    }
}

/// The agent of one PostgreSQL server on this host. Dropping it ends its supervision, never the server.
pub struct PostgresHost {
    shared: Arc<Shared>,
    status: watch::Receiver<AgentStatus>,
    tasks: [tokio::task::JoinHandle<()>; 4],
}

impl std::fmt::Debug for PostgresHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresHost")
            .field("instance", &self.shared.settings.instance)
            .finish_non_exhaustive()
    }
}

/// What orders and supervision share.
pub(super) struct Shared {
    pub(super) settings: AgentSettings,
    pub(super) programs: Programs,
    pub(super) board: Board,
    pub(super) desk: Desk,
    pub(super) standing: watch::Receiver<Standing>,
    /// Highest order accepted; also held while one is being accepted.
    pub(super) accepted: HeldMutex<Accepted>,
    /// A pause by order.
    pub(super) pausing: Pausing,
    /// What is kept of it.
    pub(super) pause_file: PauseFile,
    /// When this agent began.
    began: CoreInstant,
    /// Something changed that supervision should look at.
    pub(super) news: Notify,
    /// How the running server is asked and told.
    sql: Arc<dyn Adapter>,
    clock: Clock,
}

/// A probe of our own server may take as long.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);
/// What is left of a deadline when an answer is sent.
const ANSWER_MARGIN: Duration = Duration::from_millis(20);

impl PostgresHost {
    /// Begins to mind the server. `sql` is an adapter that knows no agent: what it does, it does over a connection.
    pub fn start(
        settings: AgentSettings,
        standing: watch::Receiver<Standing>,
        sql: Arc<dyn Adapter>,
        clock: Clock,
    ) -> Result<Self, AgentError> {
        settings.validate()?;
        for path in [&settings.state_dir, &settings.diverged_dir] {
            fs::create_dir_all(path).map_err(|source| AgentError::Folder {
                path: path.clone(),
                source,
            })?;
        }
        let account = Account::choose(settings.account.as_deref(), &settings.data_dir)?;
        let bin_dir = settings.bin_dir.as_deref();
        let programs = Programs::find(bin_dir, &settings.data_dir, account)?;
        let accepted = Accepted::open(&settings.state_dir)?;
        Journal::open(&settings.state_dir)?;
        let pause_file = PauseFile::open(&settings.state_dir);
        let (board, status) = Board::new();
        // Shown until the folder is moved away: nobody may have looked before the agent ended.
        board.update(|status| status.diverged = diverged::last(&settings));
        let shared = Arc::new(Shared {
            settings,
            programs,
            board,
            desk: Desk::default(),
            standing,
            accepted: HeldMutex::new(accepted),
            pausing: Pausing::default(),
            pause_file,
            began: clock.now(),
            news: Notify::new(),
            sql,
            clock,
        });
        let tasks = [
            tokio::spawn(supervision::run(Arc::clone(&shared))),
            tokio::spawn(slots::run(Arc::clone(&shared))),
            tokio::spawn(space::run(Arc::clone(&shared))),
            tokio::spawn(reopening::run(Arc::clone(&shared))),
        ];
        Ok(Self {
            shared,
            status,
            tasks,
        })
    }

    /// What the agent shows of itself.
    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }
}

impl Drop for PostgresHost {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.desk.abandon();
        self.shared.pausing.abandon();
    }
}

impl Host for PostgresHost {
    fn carry_out(&self, action: Action) -> BoxFuture<'static, Outcome> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.carry_out(action).await })
    }
}

impl Shared {
    async fn carry_out(self: Arc<Self>, action: Action) -> Outcome {
        let settings = &self.settings;
        if action.service != settings.service || action.instance != settings.instance {
            return Outcome::Refused(format!(
                "this agent minds {} of {}, not {} of {}",
                settings.instance, settings.service, action.instance, action.service
            ));
        }
        if self.clock.until(action.deadline).is_zero() {
            return Outcome::Refused("the order came after its deadline".to_owned());
        }
        let mandate = match self.accept(&action).await {
            Ok(mandate) => mandate,
            Err(text) => return Outcome::Refused(text),
        };
        // Whatever else is ordered, by whoever is in authority, the switchover is not what it was.
        if !matches!(action.kind, ActionKind::Pause { .. }) && self.pausing.give_up() {
            self.board.idle();
        }
        match action.kind.clone() {
            ActionKind::Repoint { primary } | ActionKind::Demote { primary } => {
                self.repoint(action, primary, mandate).await
            }
            ActionKind::Rebuild { primary, life } => {
                let aim = Aim::Rebuild { primary, life };
                self.work(&action, aim, mandate).await
            }
            ActionKind::StandDown { life } => self.stand_down(action, life, mandate).await,
            ActionKind::Pause { limit } => pause::pause(&self, &action, limit).await,
            ActionKind::Resume => pause::resume(&self, &action).await,
            ActionKind::Freeze
            | ActionKind::Unfreeze { .. }
            | ActionKind::Configure { .. }
            | ActionKind::Promote { .. }
            | ActionKind::RefuseWrites
            | ActionKind::AcceptWrites => self.sql.act(action).await,
        }
    }

    /// Takes an order that is in time and of enough authority: its token is on disk when this returns.
    async fn accept(&self, action: &Action) -> Result<Mandate, String> {
        let waited = tokio::time::timeout(self.clock.until(action.deadline), self.accepted.lock());
        let Ok(mut accepted) = waited.await else {
            return Err(TOO_LATE.to_owned());
        };
        if let Err(error) = accepted.accept(action.token) {
            return Err(error.to_string());
        }
        Ok(Mandate::of(action, &self.settings.data_dir))
    }

    /// Whether what a mandate allows may still be begun; the caller holds what was accepted.
    pub(super) fn allows(&self, mandate: &Mandate, accepted: &Accepted) -> Result<(), String> {
        mandate.holds(accepted.highest(), &self.clock, &self.settings.data_dir)
    }

    /// A standby that runs and may cross the fork as it is needs no host. Everything else is a job: one that was told to
    /// follow, and does not stream yet, is not stopped for the same order again.
    async fn repoint(
        self: &Arc<Self>,
        mut action: Action,
        primary: InstanceId,
        mandate: Mandate,
    ) -> Outcome {
        if let Some(facts) = self
            .fulfilled(
                &action,
                &Aim::Follow {
                    primary: primary.clone(),
                },
            )
            .await
        {
            return Outcome::Done(Box::new(facts));
        }
        let open = matches!(Journal::open(&self.settings.state_dir), Ok(Some(journal)) if journal.is_open());
        if self.desk.is_busy() || open || !self.settings.is_standby() {
            return self.work(&action, Aim::Follow { primary }, mandate).await;
        }
        // A primary that hangs must not make an order outlive its deadline.
        let judged = tokio::time::timeout(
            self.clock.until(action.deadline),
            crossing::judge(self, &primary),
        );
        let Ok(judged) = judged.await else {
            return Outcome::Refused(format!(
                "it could not be seen in time how the standby gets to {primary}, and {TOO_LATE}"
            ));
        };
        match judged {
            Ok(Crossing::AsItIs) => {
                if let Err(text) = self.allows(&mandate, &*self.accepted.lock().await) {
                    return Outcome::Refused(text);
                }
                action.kind = ActionKind::Repoint { primary };
                self.sql.act(action).await
            }
            Ok(Crossing::ByHost(reason)) => {
                tracing::info!(instance = %self.settings.instance, reason, "a standby is brought over by its agent");
                self.work(&action, Aim::Follow { primary }, mandate).await
            }
            Err(reason) => Outcome::Refused(reason),
        }
    }

    /// A standby is frozen like any other; a primary is made one first.
    async fn stand_down(
        self: &Arc<Self>,
        mut action: Action,
        life: Incarnation,
        mandate: Mandate,
    ) -> Outcome {
        if self.desk.is_busy() || !self.settings.is_standby() {
            return self.work(&action, Aim::StandDown { life }, mandate).await;
        }
        action.kind = ActionKind::Freeze;
        self.sql.act(action).await
    }

    /// Begins a job, or looks how far it is, and waits for it as long as the order allows.
    async fn work(self: &Arc<Self>, action: &Action, aim: Aim, mandate: Mandate) -> Outcome {
        if let Some(facts) = self.fulfilled(action, &aim).await {
            return Outcome::Done(Box::new(facts));
        }
        if let Err(text) = supervision::begin(self, aim, mandate).await {
            return Outcome::Refused(text);
        }
        let mut changes = self.desk.changes();
        let left = self.time_left(action);
        let over = changes.wait_for(|progress| progress.as_ref().is_none_or(Progress::is_over));
        match tokio::time::timeout(left, over).await {
            Ok(Ok(progress)) => match (*progress).clone() {
                Some(Progress::Refused(text)) => return Outcome::Refused(text),
                Some(Progress::Failed(text)) => return Outcome::Unknown(text),
                Some(Progress::Done | Progress::Working) | None => {}
            },
            Ok(Err(_)) | Err(_) => return Outcome::UnderWay(self.board.show().progress()),
        }
        match self.facts_until(action).await {
            Some(facts) => Outcome::Done(Box::new(facts)),
            None => {
                Outcome::UnderWay("the standby runs and does not answer queries yet".to_owned())
            }
        }
    }

    /// Whether what is ordered is so already; then nothing is stopped for it.
    async fn fulfilled(&self, action: &Action, aim: &Aim) -> Option<Facts> {
        if self.desk.is_busy() {
            return None;
        }
        let done = match Journal::open(&self.settings.state_dir) {
            Ok(Some(journal)) if journal.is_open() => return None,
            Ok(Some(journal)) => journal.fulfils(aim, action.token.epoch.0),
            Ok(None) => false,
            Err(_) => return None,
        };
        // A server that hangs must not use up the time in which the job is to be begun.
        let patience = self.clock.until(action.deadline) / 2;
        let facts = tokio::time::timeout(patience, self.facts()).await.ok()??;
        let follows = match &facts.role {
            Role::Replica { upstream, link } => {
                let wanted = aim.primary().cloned().map(Upstream::Instance);
                wanted.as_ref() == Some(upstream) && *link == Link::Streaming
            }
            Role::Primary => false,
        };
        let enough = if aim.is_rebuild() { done } else { follows };
        enough.then_some(facts)
    }

    /// What is left of an order's time, but for the answer.
    pub(super) fn time_left(&self, action: &Action) -> Duration {
        self.clock
            .until(action.deadline)
            .saturating_sub(ANSWER_MARGIN)
    }

    /// Why an order has to wait for the job at hand.
    pub(super) fn at_work(&self) -> String {
        format!("the agent is at work: {}", self.board.show().progress())
    }

    /// The server is about to run again, or in the hands of a job.
    pub(super) async fn end_pause(&self) {
        self.pausing.end().await;
        self.board.idle();
        self.news.notify_one();
    }

    /// How long no leader has been heard, since this agent began at most.
    pub(super) fn unheard(&self, silence: &Silence) -> Duration {
        let heard = silence.heard.unwrap_or(self.began).max(self.began);
        self.clock.now().since(heard)
    }

    pub(super) async fn facts_until(&self, action: &Action) -> Option<Facts> {
        loop {
            if let Some(facts) = self.facts().await {
                return Some(facts);
            }
            if self.clock.until(action.deadline) <= ANSWER_MARGIN {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The facts of our server, as the adapter reads them.
    pub(super) async fn facts(&self) -> Option<Facts> {
        self.facts_of(&self.settings.instance).await
    }

    /// The facts of another server of the service.
    pub(super) async fn facts_of(&self, instance: &InstanceId) -> Option<Facts> {
        let request = ProbeRequest {
            id: ProbeId(0),
            service: self.settings.service.clone(),
            instance: instance.clone(),
            deadline: self.clock.now() + PROBE_LIMIT,
        };
        match self.sql.probe(request).await {
            Observation::Facts(facts) => Some(*facts),
            Observation::Failure(_) => None,
        }
    }
}
