//! How far a pause has got, and the job that is at it.
//!
//! Knows nothing of what a job does, or of whose orders.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sentinel_core::observation::Facts;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How far a pause has got. The server takes writes until it is stopping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Idle,
    /// A checkpoint is being written since then.
    Checkpointing { since: Instant },
    /// It was written at this moment; the next order stops the server.
    Checkpointed { at: Instant },
    /// The server is stopping, and nothing can be changed about it.
    Stopping,
    /// The server is stopped, at the latest until this moment. These are its last facts.
    Stopped { facts: Box<Facts>, until: Instant },
    /// It came to nothing.
    Failed(String),
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("the pause has not begun"),
            Self::Checkpointing { since } => write!(
                f,
                "writing a checkpoint for {} s before the server is stopped; it takes writes meanwhile",
                since.elapsed().as_secs()
            ),
            Self::Checkpointed { .. } => f.write_str("the checkpoint is written"),
            Self::Stopping => f.write_str("the server is stopping"),
            Self::Stopped { .. } => f.write_str("the server is stopped"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// Invariant: at most one job works on a pause, and none once it is stopped.
#[derive(Debug)]
pub(super) struct Pausing {
    phase: watch::Sender<Phase>,
    job: Mutex<Option<JoinHandle<()>>>,
    asked: Mutex<Instant>,
}

impl Default for Pausing {
    fn default() -> Self {
        let (phase, _) = watch::channel(Phase::Idle);
        Self {
            phase,
            job: Mutex::new(None),
            asked: Mutex::new(Instant::now()),
        }
    }
}

impl Pausing {
    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Goes on to a phase, with a job that works on it.
    pub(super) fn begin(&self, phase: Phase, spawn: impl FnOnce() -> JoinHandle<()>) {
        self.phase.send_replace(phase);
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        *job = Some(spawn());
    }

    /// The job says how far it got.
    pub(super) fn reach(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Somebody wants the pause.
    pub(super) fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long nobody has.
    pub(super) fn unasked(&self) -> Duration {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.elapsed()
    }

    /// Whether the server is down, or about to be, by order.
    pub(super) fn holds(&self) -> bool {
        match self.phase() {
            Phase::Stopping => true,
            Phase::Stopped { until, .. } => Instant::now() < until,
            Phase::Idle
            | Phase::Checkpointing { .. }
            | Phase::Checkpointed { .. }
            | Phase::Failed(_) => false,
        }
    }

    /// Ends a pause that has not changed anything yet, and returns whether there was one. One for which the server is
    /// stopping goes on.
    pub(super) fn give_up(&self) -> bool {
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        self.phase.send_if_modified(|phase| match phase {
            Phase::Checkpointing { .. } | Phase::Checkpointed { .. } => {
                if let Some(job) = job.as_ref() {
                    job.abort();
                }
                *phase = Phase::Idle;
                true
            }
            Phase::Idle | Phase::Stopping | Phase::Stopped { .. } | Phase::Failed(_) => false,
        })
    }

    /// The server is started, or somebody else's to stop: there is no pause any more.
    pub(super) async fn end(&self) {
        let job = self
            .job
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(job) = job {
            job.abort();
            drop(job.await);
        }
        self.phase.send_replace(Phase::Idle);
    }

    /// The agent ends. A server that is stopping goes on doing so.
    pub(super) fn abandon(&self) {
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = job.as_ref() {
            job.abort();
        }
    }
}
