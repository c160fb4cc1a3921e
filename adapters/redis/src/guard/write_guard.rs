//! What a caller holds: sends writes to the primary of a service, wherever it moves.
//!
//! Bounds how many are in flight and how long each waits unsent. Where the primary is and who holds
//! what is found out by the one task behind it, over one connection at a time.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ServerError, Value};
use sentinel_core::id::{InstanceId, Token};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::error::{UnknownCause, WriteError};
use super::fate::{self, CommandKind};
use super::options::GuardOptions;
use super::pursuit::{LastTrouble, Pursuit};
use super::queue::queue;
use super::request::{Answer, Receipt, Request};
use super::screen;
use super::source::Lookup;

/// A client that acknowledges a write only when enough named replicas hold it.
///
/// Clones share the connection and its limits. The connection closes when the last one is dropped.
#[derive(Clone, Debug)]
pub struct WriteGuard {
    shared: Arc<Shared>,
}

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq)]
pub struct Acknowledged {
    /// The primary's reply to it.
    pub reply: Value,
    /// The primary that executed it.
    pub primary: InstanceId,
    /// Version of the write quorum whose members hold it; its epoch is that of the primary.
    pub version: Token,
}

#[derive(Debug)]
struct Shared {
    requests: mpsc::UnboundedSender<Request>,
    places: Arc<Semaphore>,
    in_flight_max: usize,
    unsent: Duration,
    trouble: LastTrouble,
    pursuit: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pursuit.abort();
    }
}

impl WriteGuard {
    /// Starts following the primary of a service. Returns at once; the first write waits for the connection.
    ///
    /// # Panics
    /// Outside a tokio runtime: the guard works in a task of it.
    pub fn new(options: GuardOptions) -> Self {
        let (requests, queue) = queue();
        let trouble = LastTrouble::new();
        let pursuit = Pursuit {
            lookup: Lookup::start(&options.service, options.source, &options.timeouts),
            service: options.service,
            credentials: options.credentials,
            timeouts: options.timeouts,
            queue,
            trouble: trouble.clone(),
        };
        let shared = Shared {
            requests,
            places: Arc::new(Semaphore::new(options.in_flight_max)),
            in_flight_max: options.in_flight_max,
            unsent: options.timeouts.unsent,
            trouble,
            pursuit: tokio::spawn(pursuit.run()).abort_handle(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Sends one write and returns the primary's reply once enough named replicas hold it.
    ///
    /// Writes of one caller that follow each other are executed in that order; writes in flight at once
    /// in any order. Dropping the future before its end leaves the write's fate open.
    ///
    /// # Errors
    /// See [`WriteError`]: each variant says what it leaves behind.
    pub async fn write(&self, command: Cmd) -> Result<Value, WriteError> {
        let acknowledged = self.write_attributed(command).await?;
        Ok(acknowledged.reply)
    }

    /// The same, and says which primary executed it and on which terms it was counted.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write_attributed(&self, command: Cmd) -> Result<Acknowledged, WriteError> {
        let kinds = screen::admit(std::slice::from_ref(&command))?;
        let kind = kinds.first().copied().unwrap_or(CommandKind::Programmed);
        let receipt = self.send(&[command], kinds).await?;
        match receipt.replies.into_iter().next() {
            Some(Ok(reply)) => Ok(Acknowledged {
                reply,
                primary: receipt.primary,
                version: receipt.version,
            }),
            Some(Err(error)) => Err(fate::of_reply(kind, error)),
            None => Err(stopped()),
        }
    }

    /// Sends several commands in one piece, with nothing between them, that share one count: `Ok` means
    /// that enough named replicas hold all that they did. Each reply stands in its place; an error there is
    /// the primary's own for that command, and the others were executed all the same.
    ///
    /// For all or nothing, give `MULTI` first and `EXEC` last.
    ///
    /// # Errors
    /// See [`WriteError`]. `Rejected` does not occur: it stands in its place.
    pub async fn write_all(
        &self,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, ServerError>>, WriteError> {
        let kinds = screen::admit(&commands)?;
        let receipt = self.send(&commands, kinds).await?;
        Ok(receipt.replies)
    }

    async fn send(&self, commands: &[Cmd], kinds: Vec<CommandKind>) -> Answer {
        let arrived = Instant::now();
        let give_up = arrived + self.shared.unsent;
        let place = timeout_at(give_up, self.shared.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let in_flight_max = self.shared.in_flight_max;
            return Err(WriteError::Overloaded { in_flight_max });
        };
        let (request, claim, mut answer) = Request::new(commands, kinds, place);
        if self.shared.requests.send(request).is_err() {
            return Err(stopped());
        }
        match timeout_at(give_up, &mut answer).await {
            Ok(answer) => received(answer),
            Err(_) if claim.take() => Err(WriteError::NoPrimary {
                waited: arrived.elapsed(),
                cause: self.shared.trouble.get(),
            }),
            // It was sent in time: from here on, its own deadlines bound it.
            Err(_) => received(answer.await),
        }
    }
}

fn received(answer: Result<Answer, oneshot::error::RecvError>) -> Result<Receipt, WriteError> {
    answer.unwrap_or_else(|_| Err(stopped()))
}

fn stopped() -> WriteError {
    WriteError::Unknown {
        cause: UnknownCause::Stopped,
    }
}
