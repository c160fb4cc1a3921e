//! One call of a caller on its way: its bytes, its replies so far, and where its result goes.
//!
//! Either the caller gives up first or the connection takes the request first, never both: the one
//! flag decides, so that "nothing was sent" is always true when the caller is told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Cmd, ServerError, Value};
use sentinel_core::id::{InstanceId, Token};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::error::{Trouble, UnknownCause, WriteError};
use super::fate::{self, CommandKind};

/// Replies of all commands of one call, and who vouches for them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receipt {
    pub(super) replies: Vec<Result<Value, ServerError>>,
    pub(super) primary: InstanceId,
    pub(super) version: Token,
}

/// Result of one call.
pub(super) type Answer = Result<Receipt, WriteError>;

/// Taken once: by the connection, which then sends the request, or by the caller, who gives up.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether this was the first attempt.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// One call.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    kinds: Vec<CommandKind>,
    replies: Vec<Result<Value, ServerError>>,
    arrived: Instant,
    claim: Claim,
    answer: oneshot::Sender<Answer>,
    // A place among the writes in flight, free again when the request ends.
    _place: OwnedSemaphorePermit,
}

impl Request {
    pub(super) fn new(
        commands: &[Cmd],
        kinds: Vec<CommandKind>,
        place: OwnedSemaphorePermit,
    ) -> (Self, Claim, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let claim = Claim::default();
        let request = Self {
            bytes: commands.iter().flat_map(Cmd::get_packed_command).collect(),
            replies: Vec::with_capacity(kinds.len()),
            kinds,
            arrived: Instant::now(),
            claim: claim.clone(),
            answer,
            _place: place,
        };
        (request, claim, receiver)
    }

    /// Whether it may be sent: nobody gave it up, and somebody waits for its result.
    pub(super) fn take(&self) -> bool {
        self.claim.take() && !self.answer.is_closed()
    }

    /// The commands as they go on the wire.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds the next reply.
    ///
    /// Returns whether it was the last.
    pub(super) fn add(&mut self, reply: Value) -> bool {
        self.replies.push(if let Value::ServerError(error) = reply {
            Err(error)
        } else {
            Ok(reply)
        });
        self.replies.len() == self.kinds.len()
    }

    /// Whether any of its commands may have changed something, so that the result depends on the count.
    pub(super) fn may_have_written(&self) -> bool {
        self.kinds
            .iter()
            .zip(&self.replies)
            .any(|(kind, reply)| match reply {
                Ok(_) => true,
                Err(error) => match fate::of_reply(*kind, error.clone()) {
                    WriteError::Unknown { .. } => true,
                    WriteError::Rejected(_)
                    | WriteError::NotEnoughReplicas { .. }
                    | WriteError::NoPrimary { .. }
                    | WriteError::NoWriteQuorum { .. }
                    | WriteError::Overloaded { .. }
                    | WriteError::NotAllowed { .. } => false,
                },
            })
    }

    /// Ends it with its replies, for which this primary vouches.
    pub(super) fn deliver(self, primary: &InstanceId, version: Token) {
        let receipt = Receipt {
            replies: self.replies,
            primary: primary.clone(),
            version,
        };
        // A caller that went away has no use for the result.
        let _ = self.answer.send(Ok(receipt));
    }

    /// Ends it: bytes of it were sent, and the proof cannot come any more.
    pub(super) fn end_unknown(self, cause: &UnknownCause) {
        self.end(WriteError::Unknown {
            cause: cause.clone(),
        });
    }

    /// Ends it: nothing of it was sent.
    pub(super) fn end_unsent(self, cause: Trouble) {
        let waited = self.arrived.elapsed();
        self.end(WriteError::NoPrimary { waited, cause });
    }

    /// Ends it with an error.
    pub(super) fn end(self, error: WriteError) {
        let _ = self.answer.send(Err(error));
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use tokio::sync::Semaphore;

    /// A request for these commands, and where its result arrives.
    pub(in super::super) fn request(lines: &[&str]) -> (Request, oneshot::Receiver<Answer>) {
        let command = |line: &&str| {
            let mut command = Cmd::new();
            for word in line.split(' ') {
                command.arg(word);
            }
            command
        };
        let commands: Vec<Cmd> = lines.iter().map(command).collect();
        let kinds = vec![CommandKind::Plain; lines.len()];
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let (request, _claim, answer) = Request::new(&commands, kinds, place);
        (request, answer)
    }

    #[test]
    fn only_one_side_gets_it() {
        let (sent, _answer) = request(&["SET a 1"]);
        assert!(sent.take());
        assert!(!sent.claim.take(), "the caller gave up what was sent");
        let (given_up, _answer) = request(&["SET a 1"]);
        assert!(given_up.claim.take());
        assert!(!given_up.take(), "the connection sent what was given up");
        let (abandoned, answer) = request(&["SET a 1"]);
        drop(answer);
        assert!(
            !abandoned.take(),
            "the connection sent what nobody waits for"
        );
    }
}
