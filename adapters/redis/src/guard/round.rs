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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::request::tests::request;
    use super::*;

    const WAIT: (u32, Duration) = (2, Duration::from_millis(50));

    fn reply(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_writes_come_first_and_the_check_last() {
        let (first, _first) = request(&["SET a 1"]);
        let (second, _second) = request(&["INCR b", "INCR c"]);
        let mut outgoing = Vec::new();
        Round::send(vec![first, second], WAIT, 0, &mut outgoing);
        let commands: [&[&str]; 9] = [
            &["SET", "a", "1"],
            &["INCR", "b"],
            &["INCR", "c"],
            &["ROLE"],
            &["WAIT", "2", "50"],
            &["ROLE"],
            &["INFO", "replication"],
            &["INFO", "server"],
            &["ACL", "GETUSER", "sentinel-write-quorum"],
        ];
        let wanted: Vec<u8> = commands.iter().flat_map(|words| packed(words)).collect();
        assert_eq!(outgoing, wanted);
    }

    #[test]
    fn replies_go_by_order_and_definite_refusals_at_once() {
        let (refused, _refused) = request(&["LPUSH text 1"]);
        let (mixed, _mixed) = request(&["SET a 1", "LPUSH text 1"]);
        let (written, _written) = request(&["SET b 1"]);
        let mut round = Round::send(vec![refused, mixed, written], WAIT, 0, &mut Vec::new());
        assert!(matches!(
            round.take(reply("-WRONGTYPE x\r\n")),
            Progress::Refused(_)
        ));
        assert!(matches!(round.take(reply("+OK\r\n")), Progress::More));
        assert!(matches!(
            round.take(reply("-WRONGTYPE x\r\n")),
            Progress::More
        ));
        assert!(matches!(round.take(reply("+OK\r\n")), Progress::More));
        let role = "*3\r\n$6\r\nmaster\r\n:70\r\n*0\r\n";
        for behind in [role, ":9\r\n", role, "+x\r\n", "+x\r\n"] {
            assert!(matches!(round.take(reply(behind)), Progress::More));
        }
        assert!(matches!(round.take(reply("$-1\r\n")), Progress::Complete));
        let answered = round.answered();
        assert_eq!(answered.executed.len(), 2);
        assert_eq!(answered.reached, Ok(Some(Offset(70))));
        assert_eq!(answered.check.len(), CHECK_REPLIES);
    }
}
