//! One action's conversation with a server: reads, then transactions, all on one connection.
//!
//! Decides the one thing that an action must never get wrong: whether a failure is `Refused`
//! (nothing happened, for certain) or `Unknown`. Before the first transaction is sent every failure
//! is a refusal; afterwards none is. A transaction goes out only when its deadline has not passed
//! on a connection that has just answered (rule S6). Does not know what the transactions do.

use std::time::Duration;

use redis::{Cmd, Value};
use sentinel_core::runtime::{ConnectionError, Stop};
use sentinel_core::time::Deadline;
use tokio::time::timeout;

use crate::connection::{Connection, reply_text};
use crate::line::{self, Line};
use crate::reading::Reading;
use crate::reply;

/// Invariant: `sent` is set before the first byte of the first transaction leaves.
pub(crate) struct Session<'a> {
    line: &'a Line,
    connection: Connection,
    deadline: Deadline,
    sent: bool,
}

impl<'a> Session<'a> {
    /// Takes the standing connection if there is one that still answers, else opens one; either way
    /// the server has just answered on it, and this is what it said.
    pub(crate) async fn begin(
        line: &'a Line,
        standing: Option<Connection>,
        deadline: Deadline,
    ) -> Result<(Self, Reading), Stop> {
        let left = line.context.clock.until(deadline);
        match timeout(left, Self::connect(line, standing)).await {
            Ok(Ok((connection, reading))) => {
                let session = Self {
                    line,
                    connection,
                    deadline,
                    sent: false,
                };
                Ok((session, reading))
            }
            Ok(Err(error)) => Err(Stop::Refused(format!("nothing was sent: {error}"))),
            Err(_) => Err(Stop::Refused(
                "nothing was sent: the server did not answer before the deadline".into(),
            )),
        }
    }

    async fn connect(
        line: &Line,
        standing: Option<Connection>,
    ) -> Result<(Connection, Reading), ConnectionError> {
        // Another node's action may have closed it since.
        if let Some(mut connection) = standing
            && let Ok(reading) = line::read(&mut connection).await
        {
            return Ok((connection, reading));
        }
        let mut connection = line.connect().await?;
        let reading = line::read(&mut connection).await?;
        Ok((connection, reading))
    }

    /// Time left for the whole action.
    pub(crate) fn left(&self) -> Duration {
        self.line.context.clock.until(self.deadline)
    }

    /// Reads the facts on the same connection.
    pub(crate) async fn read(&mut self) -> Result<Reading, Stop> {
        match timeout(self.left(), line::read(&mut self.connection)).await {
            Ok(Ok(reading)) => Ok(reading),
            Ok(Err(error)) => Err(self.stop(&format!("could not be read back: {error}"))),
            Err(_) => Err(self.stop("not read back before the deadline")),
        }
    }

    /// Carries the commands out in one `MULTI`, in one write.
    pub(crate) async fn transact(&mut self, commands: Vec<Cmd>) -> Result<(), Stop> {
        let left = self.left();
        if left.is_zero() {
            return Err(self.stop("the deadline passed before the transaction was sent"));
        }
        let sent_before = std::mem::replace(&mut self.sent, true);
        self.line.expect_close();
        let mut transaction = vec![redis::cmd("MULTI")];
        transaction.extend(commands);
        transaction.push(redis::cmd("EXEC"));
        let replies = match timeout(left, self.connection.exchange(transaction)).await {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => return Err(self.stop(&format!("after it was sent: {error}"))),
            Err(_) => return Err(self.stop("no reply before the deadline")),
        };
        let Some(error) = reply::first_error(&replies) else {
            return Ok(());
        };
        // A command that could not even be queued: the server discarded the whole transaction.
        let discarded = matches!(replies.last(), Some(Value::ServerError(_)));
        self.sent = sent_before || !discarded;
        Err(self.stop(&format!("the server answered: {}", reply_text(error))))
    }

    /// The connection, for the next action.
    pub(crate) fn end(self) -> Connection {
        self.connection
    }

    /// Ends the action: refused before the first transaction, unknown from then on.
    pub(crate) fn stop(&self, text: &str) -> Stop {
        if self.sent {
            Stop::Unknown(text.to_owned())
        } else {
            Stop::Refused(text.to_owned())
        }
    }
}
