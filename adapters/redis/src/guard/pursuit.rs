//! Follows the primary: asks where it is, connects, hands the connection to a flight, and starts again.
//!
//! Decides only when to try next. Leaves a server at once when another is named, also while it is
//! still connecting; otherwise pauses a little longer after each failure, with some chance in it so
//! that the guards of many callers do not come back in step.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rand::Rng;
use sentinel_core::id::{InstanceId, ServiceName};
use tokio::time::{sleep, timeout};

use super::count::Terms;
use super::error::{QuorumFault, Trouble, UnknownCause, WriteError};
use super::flight::{self, Landing};
use super::handshake::{self, Unfit};
use super::options::Timeouts;
use super::queue::Queue;
use super::source::Lookup;
use super::wire::Wire;
use crate::Credentials;

const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Why the last attempt failed, for those who waited for it in vain.
#[derive(Clone, Debug)]
pub(super) struct LastTrouble(Arc<RwLock<Trouble>>);

impl LastTrouble {
    pub(super) fn new() -> Self {
        Self(Arc::new(RwLock::new(Trouble::NotTried)))
    }

    pub(super) fn get(&self) -> Trouble {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, trouble: Trouble) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// Everything that the pursuit works with.
#[derive(Debug)]
pub(super) struct Pursuit {
    pub(super) service: ServiceName,
    pub(super) lookup: Lookup,
    pub(super) credentials: Option<Credentials>,
    pub(super) timeouts: Timeouts,
    pub(super) queue: Queue,
    pub(super) trouble: LastTrouble,
}

impl Pursuit {
    /// Runs until nobody can ask for writes any more.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let named = self.lookup.current();
            match &named {
                Ok(instance) => match self.attempt(instance).await {
                    Attempt::Flown(Landing { cause: None, .. }) => return,
                    Attempt::Flown(Landing {
                        cause: Some(cause),
                        rounds_proven,
                    }) => {
                        if rounds_proven > 0 {
                            pause = PAUSE_MIN;
                        }
                        self.landed(instance, &cause);
                    }
                    Attempt::Unfit(unfit) => self.unfit(instance, unfit),
                    Attempt::Overtaken => {}
                },
                Err(trouble) => self.trouble.set(trouble.clone()),
            }
            self.lookup.ask_again();
            let jitter = rand::rng().random_range(0.5..=1.0);
            tokio::select! {
                _ = self.lookup.elsewhere(named.as_ref().ok()) => {}
                () = sleep(pause.mul_f64(jitter)) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn attempt(&mut self, instance: &InstanceId) -> Attempt {
        let shaken = tokio::select! {
            shaken = self.connect(instance) => shaken,
            _ = self.lookup.elsewhere(Some(instance)) => return Attempt::Overtaken,
        };
        match shaken {
            Ok((connection, terms)) => {
                tracing::info!(service = %self.service, primary = %instance,
                    version = %terms.quorum.version, k = terms.quorum.k, "write guard connected");
                let whom = (instance, &terms);
                let (timeouts, lookup) = (&self.timeouts, &self.lookup);
                Attempt::Flown(
                    flight::fly(connection, whom, timeouts, lookup, &mut self.queue).await,
                )
            }
            Err(unfit) => Attempt::Unfit(unfit),
        }
    }

    async fn connect(&self, instance: &InstanceId) -> Result<(Wire, Terms), Unfit> {
        let shake = handshake::shake_hands(instance, self.credentials.as_ref());
        timeout(self.timeouts.connect, shake)
            .await
            .unwrap_or_else(|_| {
                Err(Unfit::Trouble(Trouble::Unreachable {
                    instance: instance.clone(),
                    detail: format!("no answer within {:?}", self.timeouts.connect),
                }))
            })
    }

    fn landed(&self, instance: &InstanceId, cause: &UnknownCause) {
        tracing::info!(service = %self.service, primary = %instance, reason = %cause, "write guard disconnected");
        self.trouble.set(Trouble::Ended {
            instance: instance.clone(),
            cause: cause.to_string(),
        });
    }

    fn unfit(&mut self, instance: &InstanceId, unfit: Unfit) {
        match unfit {
            Unfit::Trouble(trouble) => {
                tracing::debug!(service = %self.service, reason = %trouble, "write guard found no primary");
                self.trouble.set(trouble);
            }
            Unfit::NoWriteQuorum(fault) => self.turn_away(instance, &fault),
        }
    }

    /// Nobody would be counted here, however long a write waited.
    fn turn_away(&mut self, instance: &InstanceId, fault: &QuorumFault) {
        self.trouble.set(Trouble::Ended {
            instance: instance.clone(),
            cause: fault.to_string(),
        });
        while let Some(request) = self.queue.next() {
            if request.take() {
                request.end(WriteError::NoWriteQuorum {
                    instance: instance.clone(),
                    fault: fault.clone(),
                });
            }
        }
    }
}

/// How an attempt ended.
#[derive(Debug)]
enum Attempt {
    /// The connection stood, and ended.
    Flown(Landing),
    /// There was none on which writes can be counted.
    Unfit(Unfit),
    /// Another server was named meanwhile.
    Overtaken,
}
