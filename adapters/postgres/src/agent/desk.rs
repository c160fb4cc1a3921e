//! The one job that the agent has in hand: what it aims at, and how it stands. A job of another aim takes its place; of the
//! same aim it is the same job.
//!
//! Knows nothing of what a job does.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sentinel_core::id::{Incarnation, InstanceId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What a job is to achieve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The instance is a standby of this primary.
    Follow { primary: InstanceId },
    /// The same, as a new copy, which takes the place of the data of this incarnation.
    Rebuild {
        primary: InstanceId,
        life: Incarnation,
    },
    /// The instance, in this incarnation, is a standby of nobody.
    StandDown { life: Incarnation },
}

impl Aim {
    pub(super) fn primary(&self) -> Option<&InstanceId> {
        match self {
            Self::Follow { primary } | Self::Rebuild { primary, .. } => Some(primary),
            Self::StandDown { .. } => None,
        }
    }

    pub(super) fn is_rebuild(&self) -> bool {
        self.life().is_some()
    }

    /// The incarnation whose data are to be given up.
    pub(super) fn life(&self) -> Option<&Incarnation> {
        match self {
            Self::Follow { .. } | Self::StandDown { .. } => None,
            Self::Rebuild { life, .. } => Some(life),
        }
    }
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Working,
    Done,
    /// Nothing was done, and nothing will be.
    Refused(String),
    /// It did not get through; the next try goes on where it stopped.
    Failed(String),
}

impl Progress {
    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Working => false,
            Self::Done | Self::Refused(_) | Self::Failed(_) => true,
        }
    }
}

#[derive(Debug)]
struct Job {
    aim: Aim,
    epoch: u64,
    handle: JoinHandle<()>,
    failures: u32,
    ended: Option<Instant>,
}

/// Invariant: at most one job works; a new one is begun only after the former has ended or was given up.
#[derive(Debug)]
pub(super) struct Desk {
    job: Mutex<Option<Job>>,
    progress: watch::Sender<Option<Progress>>,
}

impl Default for Desk {
    fn default() -> Self {
        let (progress, _) = watch::channel(None);
        Self {
            job: Mutex::new(None),
            progress,
        }
    }
}

/// After the first failure a job waits so long, and twice as long after each other.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_DOUBLINGS_MAX: u32 = 5;

/// What is to be done about an aim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The job at hand has it.
    Same,
    /// It failed a moment ago.
    Wait,
    /// It is to be begun, so many failures after the first.
    Begin { failures: u32 },
}

impl Desk {
    /// Whether a job of this aim and epoch is to be begun.
    pub(super) fn judge(&self, aim: &Aim, epoch: u64) -> Verdict {
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = job.as_ref() else {
            return Verdict::Begin { failures: 0 };
        };
        // A rebuild is wanted again in another epoch; following is following.
        let same = job.aim == *aim && (job.epoch == epoch || !aim.is_rebuild());
        let progress = self.progress.borrow().clone();
        match progress {
            Some(Progress::Working) if same => Verdict::Same,
            Some(Progress::Failed(_) | Progress::Refused(_)) if same => {
                let pause = PAUSE * 2u32.pow(job.failures.min(PAUSE_DOUBLINGS_MAX));
                match job.ended.is_some_and(|ended| ended.elapsed() < pause) {
                    true => Verdict::Wait,
                    false => Verdict::Begin {
                        failures: job.failures + 1,
                    },
                }
            }
            Some(
                Progress::Working | Progress::Failed(_) | Progress::Refused(_) | Progress::Done,
            )
            | None => Verdict::Begin { failures: 0 },
        }
    }

    /// Gives up the job at hand, if it works, and waits until it has let go.
    pub(super) async fn clear(&self) {
        let job = self
            .job
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(job) = job {
            job.handle.abort();
            drop(job.handle.await);
        }
    }

    /// Puts a job on the desk.
    pub(super) fn begin(
        &self,
        aim: Aim,
        epoch: u64,
        failures: u32,
        spawn: impl FnOnce() -> JoinHandle<()>,
    ) {
        self.progress.send_replace(Some(Progress::Working));
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        *job = Some(Job {
            aim,
            epoch,
            handle: spawn(),
            failures,
            ended: None,
        });
    }

    /// The job says how it ended.
    pub(super) fn end(&self, progress: Progress) {
        if let Some(job) = self
            .job
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            job.ended = Some(Instant::now());
        }
        self.progress.send_replace(Some(progress));
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.progress.borrow().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    /// Whether a job works.
    pub(super) fn is_busy(&self) -> bool {
        self.progress().is_some_and(|progress| !progress.is_over())
    }

    /// The agent ends: its job does too, and its tools with it.
    pub(super) fn abandon(&self) {
        if let Some(job) = self
            .job
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
        {
            job.handle.abort();
        }
    }
}
