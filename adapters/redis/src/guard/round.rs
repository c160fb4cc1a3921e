//! One pipeline: the writes of many callers, and behind them the check that all of them share.
//!
//! Lays out the bytes and gives each reply to whom it belongs, by order alone. What the check means is
//! `count`'s business, and when to send the next round is `flight`'s.
//!
//! On the wire: the writes, `ROLE` (its offset is at or beyond every write before it), `WAIT`, and the check.

use std::collections::VecDeque;
use std::time::Duration;

use redis::Value;
use sentinel_core::position::Offset;
use tokio::time::Instant;

use super::handshake::{CHECK, CHECK_REPLIES};
use super::reading::{self, Garbled, RoleReading};
use super::request::Request;
use super::wire::packed;

/// Replies behind the writes: `ROLE`, `WAIT` and the check.
const REPLIES_BEHIND: usize = 2 + CHECK_REPLIES;

/// A round that was put on the wire.
#[derive(Debug)]
pub(super) struct Round {
    /// Where in the connection's outgoing bytes it begins.
    pub(super) begins: u64,
    /// When it was put there.
    pub(super) sent: Instant,
    /// How long the server was asked to wait.
    pub(super) wait: Duration,
    /// Writes whose replies are still to come, in order.
    unanswered: VecDeque<Request>,
    /// Writes that were executed and must be counted.
    executed: Vec<Request>,
    behind: Vec<Value>,
}

/// What one reply completed.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing yet.
    More,
    /// A write that certainly changed nothing: its result does not depend on the count.
    Refused(Request),
    /// The whole round.
    Complete,
}

/// A round whose replies are all there.
#[derive(Debug)]
pub(super) struct Answered {
    /// The writes to be counted.
    pub(super) executed: Vec<Request>,
    /// The offset that the primary had reached behind them; `None` if it was no primary.
    pub(super) reached: Result<Option<Offset>, Garbled>,
    /// The replies to the check.
    pub(super) check: Vec<Value>,
}

impl Round {
    /// Puts the round's bytes behind those that already wait to be sent.
    pub(super) fn send(
        writes: Vec<Request>,
        wait: (u32, Duration),
        begins: u64,
        outgoing: &mut Vec<u8>,
    ) -> Self {
        for write in &writes {
            outgoing.extend_from_slice(write.bytes());
        }
        let (replicas, wait) = wait;
        // Zero would mean for ever.
        let millis = wait.as_millis().max(1).to_string();
        let replicas = replicas.to_string();
        outgoing.extend(packed(&["ROLE"]));
        outgoing.extend(packed(&["WAIT", &replicas, &millis]));
        for command in CHECK {
            outgoing.extend(packed(command));
        }
        Self {
            begins,
            sent: Instant::now(),
            wait,
            unanswered: writes.into(),
            executed: Vec::new(),
            behind: Vec::with_capacity(REPLIES_BEHIND),
        }
    }

    /// Gives the next reply to whom it belongs.
    pub(super) fn take(&mut self, reply: Value) -> Progress {
        let Some(front) = self.unanswered.front_mut() else {
            self.behind.push(reply);
            return if self.behind.len() == REPLIES_BEHIND {
                Progress::Complete
            } else {
                Progress::More
            };
        };
        if !front.add(reply) {
            return Progress::More;
        }
        match self.unanswered.pop_front() {
            Some(request) if request.may_have_written() => {
                self.executed.push(request);
                Progress::More
            }
            Some(request) => Progress::Refused(request),
            None => Progress::More,
        }
    }

    /// Takes a complete round apart.
    pub(super) fn answered(self) -> Answered {
        let mut behind = self.behind.into_iter();
        let role = behind
            .next()
            .map_or(Err(Garbled("no ROLE".into())), |role| reading::role(&role));
        // What WAIT counted is not looked at: it paces, and counts whoever is connected.
        let _ = behind.next();
        Answered {
            executed: self.executed,
            reached: role.map(|role| match role {
                RoleReading::Primary { offset, .. } => Some(offset),
                RoleReading::Other => None,
            }),
            check: behind.collect(),
        }
    }

    /// All writes that have no result yet.
    pub(super) fn into_unfinished(self) -> impl Iterator<Item = Request> {
        self.executed.into_iter().chain(self.unanswered)
    }
}
