//! One action's conversation with a server: reads, then orders, all on one connection.
//!
//! Decides the one thing that an action must never get wrong: whether a failure is `Refused` (nothing
//! happened, for certain) or `Unknown`. Before the first order is sent every failure is a refusal;
//! afterwards none is. An order goes out only when its deadline has not passed on a connection that has
//! just answered, and after all other acting connections are gone (rule S6). Does not know what the
//! orders do.

use std::time::Duration;

use sentinel_core::runtime::{ConnectionError, Stop};
use sentinel_core::time::Deadline;
use tokio::time::{sleep, timeout};

use crate::connection::Connection;
use crate::line::{Line, Reading};
use crate::orders;

/// Between two looks at something that happens within milliseconds.
const STEP: Duration = Duration::from_millis(2);

/// Invariant: `sent` is set before the first byte of the first order leaves.
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
        if let Some(connection) = standing
            && let Ok(reading) = line.read(&connection).await
        {
            return Ok((connection, reading));
        }
        let connection = line.connect().await?;
        let reading = line.read(&connection).await?;
        Ok((connection, reading))
    }

    /// Time left for the whole action.
    pub(crate) fn left(&self) -> Duration {
        self.line.context.clock.until(self.deadline)
    }

    /// Reads the facts on the same connection.
    pub(crate) async fn read(&mut self) -> Result<Reading, Stop> {
        match timeout(self.left(), self.line.read(&self.connection)).await {
            Ok(Ok(reading)) => Ok(reading),
            Ok(Err(error)) => Err(self.stop(&format!("could not be read back: {error}"))),
            Err(_) => Err(self.stop("not read back before the deadline")),
        }
    }

    /// Asks something that changes nothing.
    pub(crate) async fn ask(&mut self, question: &str) -> Result<Vec<String>, Stop> {
        match timeout(self.left(), self.connection.run(question)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.stop(&error.to_string())),
            Err(_) => Err(self.stop("no answer before the deadline")),
        }
    }

    /// Ends all other acting sessions on the server and waits until they are gone. What they had begun
    /// has then happened or never will.
    pub(crate) async fn close_others(&mut self) -> Result<(), Stop> {
        let mut left = self.ask(&orders::close_others()).await?;
        while !left.is_empty() {
            self.pause("another node's session could not be ended")
                .await?;
            left = self.ask(&orders::others_left()).await?;
        }
        Ok(())
    }

    /// Carries one order out.
    pub(crate) async fn order(&mut self, order: &str) -> Result<(), Stop> {
        let left = self.left();
        if left.is_zero() {
            return Err(self.stop("the deadline passed before the order was sent"));
        }
        let sent_before = std::mem::replace(&mut self.sent, true);
        match timeout(left, self.connection.run(order)).await {
            Ok(Ok(_)) => Ok(()),
            // A statement that the server turned down has not been executed.
            Ok(Err(ConnectionError::Rejected(text))) => {
                self.sent = sent_before;
                Err(self.stop(&text))
            }
            Ok(Err(error)) => Err(self.stop(&format!("after it was sent: {error}"))),
            Err(_) => Err(self.stop("no answer before the deadline")),
        }
    }

    /// Sets parameters for good and makes the server read them.
    pub(crate) async fn set(&mut self, settings: &[(&str, &str)]) -> Result<(), Stop> {
        for (name, value) in settings {
            self.order(&orders::set(name, value)).await?;
        }
        self.order(orders::RELOAD).await
    }

    /// Reads until a reading is as wanted. `otherwise` says what is the matter at the deadline.
    pub(crate) async fn until(
        &mut self,
        otherwise: &str,
        wanted: impl Fn(&Reading) -> bool,
    ) -> Result<Reading, Stop> {
        loop {
            let reading = self.read().await?;
            if wanted(&reading) {
                return Ok(reading);
            }
            self.pause(otherwise).await?;
        }
    }

    /// Waits for a moment; at the deadline the action ends with these words.
    pub(crate) async fn pause(&mut self, otherwise: &str) -> Result<(), Stop> {
        if self.left() <= STEP {
            return Err(self.stop(&format!("{otherwise} by the deadline")));
        }
        sleep(STEP).await;
        Ok(())
    }

    /// The connection, for the next action.
    pub(crate) fn end(self) -> Connection {
        self.connection
    }

    /// Ends the action: refused before the first order, unknown from then on.
    pub(crate) fn stop(&self, text: &str) -> Stop {
        if self.sent {
            Stop::Unknown(text.to_owned())
        } else {
            Stop::Refused(text.to_owned())
        }
    }
}
