//! Runs one connection from its first round to its end, and gives every write on it a result.
//!
//! Two rounds may be on the wire: while the replicas are waited for behind the first, the second is
//! already at the server, and what arrives meanwhile forms the third. Every check that comes back
//! counts for all writes that are not yet acknowledged, because offsets of one history only grow.
//! Does not know where the connection came from, nor where the next one goes.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use redis::Value;
use sentinel_core::id::InstanceId;
use sentinel_core::position::Offset;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

use super::count::{Standing, Terms};
use super::error::{Trouble, UnknownCause, WriteError};
use super::fate::{self, Hint};
use super::handshake;
use super::options::Timeouts;
use super::queue::Queue;
use super::reading::Garbled;
use super::request::Request;
use super::round::{Answered, Progress, Round};
use super::source::Lookup;
use super::wire::{Broken, Wire};

/// Rounds on the wire at once. More would make each smaller, and each costs a check.
const ROUNDS_MAX: usize = 2;

/// A round takes no further write beyond this many bytes.
const ROUND_BYTES_MAX: usize = 1 << 20;

/// The longest single `WAIT`. It blocks everything behind it, so that a shortfall is waited out in slices.
const WAIT_SLICE: Duration = Duration::from_millis(50);

/// How a flight ended.
#[derive(Debug)]
pub(super) struct Landing {
    /// Why; `None` when nobody can ask for writes any more.
    pub(super) cause: Option<UnknownCause>,
    /// How many rounds came back on the terms of the connection.
    pub(super) rounds_proven: u64,
}

/// Invariants: `rounds` are in wire order, `counting` in order of their offsets; a request is in exactly one
/// of the two, or has its result.
#[derive(Debug)]
struct Flight<'a> {
    instance: &'a InstanceId,
    terms: &'a Terms,
    timeouts: &'a Timeouts,
    lookup: &'a Lookup,
    rounds: VecDeque<Round>,
    counting: Vec<Counting>,
    /// For how many replicas the next `WAIT` waits.
    wait_count: u32,
    outgoing: Vec<u8>,
    /// How many bytes of all that was ever outgoing the socket took.
    taken: u64,
    /// When the server has been silent for too long; `None` while nothing is expected of it.
    due: Option<Instant>,
    course: Course,
    rounds_proven: u64,
}

/// Whether the connection goes on.
#[derive(Debug)]
enum Course {
    /// It does.
    Steady,
    /// The server turned writes away: nothing further is sent, and what is under way is counted.
    Leaving(UnknownCause),
    /// The terms of the connection are broken: nothing further is sent or acknowledged; what is under way
    /// may still be refused for certain.
    Broken(UnknownCause),
}

/// An executed write that too few members held at the last check.
#[derive(Debug)]
struct Counting {
    request: Request,
    offset: Offset,
    deadline: Instant,
}

/// Sends what the queue brings until the connection ends, and leaves no request without a result, except
/// those that are still in the queue.
pub(super) async fn fly(
    connection: Wire,
    (instance, terms): (&InstanceId, &Terms),
    timeouts: &Timeouts,
    lookup: &Lookup,
    queue: &mut Queue,
) -> Landing {
    let mut flight = Flight::new((instance, terms), timeouts, lookup);
    let cause = flight.run(connection, queue).await;
    let rounds_proven = flight.rounds_proven;
    flight.end(cause.as_ref().unwrap_or(&UnknownCause::Stopped));
    Landing {
        cause,
        rounds_proven,
    }
}

impl<'a> Flight<'a> {
    fn new(
        (instance, terms): (&'a InstanceId, &'a Terms),
        timeouts: &'a Timeouts,
        lookup: &'a Lookup,
    ) -> Self {
        Self {
            instance,
            terms,
            timeouts,
            lookup,
            rounds: VecDeque::with_capacity(ROUNDS_MAX),
            counting: Vec::new(),
            wait_count: terms.quorum.k,
            outgoing: Vec::new(),
            taken: 0,
            due: None,
            course: Course::Steady,
            rounds_proven: 0,
        }
    }

    /// Returns why the connection ends; `None` when nobody can ask for writes any more.
    async fn run(&mut self, connection: Wire, queue: &mut Queue) -> Option<UnknownCause> {
        let Wire {
            mut replies,
            mut bytes,
        } = connection;
        let elsewhere = self.lookup.elsewhere(Some(self.instance));
        tokio::pin!(elsewhere);
        loop {
            self.launch(queue);
            if let (Course::Leaving(cause) | Course::Broken(cause), true) =
                (&self.course, self.rounds.is_empty())
            {
                return Some(cause.clone());
            }
            // Without a round under way the branch is disabled, and the value does not matter.
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                reply = replies.next() => {
                    if let Err(cause) = reply.map_err(lost).and_then(|reply| self.take(reply)) {
                        return Some(cause);
                    }
                }
                sent = bytes.write(&self.outgoing), if !self.outgoing.is_empty() => {
                    if let Err(error) = self.sent(sent) {
                        return Some(UnknownCause::ConnectionLost(error.to_string()));
                    }
                }
                instance = &mut elsewhere => return Some(UnknownCause::PrimaryMoved(instance)),
                arrived = queue.arrival(), if self.may_launch() => arrived?,
                () = sleep_until(due), if self.due.is_some() => {
                    return Some(UnknownCause::Silent(self.silence()));
                }
            }
        }
    }

    fn may_launch(&self) -> bool {
        matches!(self.course, Course::Steady) && self.rounds.len() < ROUNDS_MAX
    }

    /// Puts a round on the wire if there is a reason for one: writes that wait, or writes to be counted
    /// again for which no check is under way.
    fn launch(&mut self, queue: &mut Queue) {
        while self.may_launch() {
            let mut writes = Vec::new();
            let mut bytes = 0;
            while bytes < ROUND_BYTES_MAX
                && let Some(request) = queue.next()
            {
                if request.take() {
                    bytes += request.bytes().len();
                    writes.push(request);
                }
            }
            let recount = self.rounds.is_empty() && !self.counting.is_empty();
            if writes.is_empty() && !recount {
                return;
            }
            let wait = (self.wait_count, self.wait_slice());
            let begins = self.taken + self.outgoing.len() as u64;
            let round = Round::send(writes, wait, begins, &mut self.outgoing);
            self.rounds.push_back(round);
            if self.rounds.len() == 1 {
                self.expect_reply();
            }
        }
    }

    /// How long the server should wait: not past the deadline of the write that has waited longest.
    fn wait_slice(&self) -> Duration {
        let left = self.counting.first().map_or(self.timeouts.wait, |first| {
            first.deadline.saturating_duration_since(Instant::now())
        });
        left.min(WAIT_SLICE)
    }

    /// Every reply is a sign of life; the next may take as long as the server was asked to wait, and a little.
    fn expect_reply(&mut self) {
        self.due = (!self.rounds.is_empty()).then(|| Instant::now() + self.silence());
    }

    fn silence(&self) -> Duration {
        let wait = self
            .rounds
            .front()
            .map_or(Duration::ZERO, |round| round.wait);
        wait + self.timeouts.reply
    }

    fn sent(&mut self, taken: io::Result<usize>) -> io::Result<()> {
        let taken = taken?;
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.outgoing.drain(..taken);
        self.taken += taken as u64;
        Ok(())
    }

    /// Gives a reply to its round.
    fn take(&mut self, reply: Value) -> Result<(), UnknownCause> {
        if let Value::ServerError(error) = &reply {
            self.heed(fate::hint(error));
        }
        let Some(round) = self.rounds.front_mut() else {
            return Err(UnknownCause::Garbled("a reply to nothing".to_owned()));
        };
        match round.take(reply) {
            Progress::More => {}
            Progress::Refused(request) => request.deliver(self.instance, self.terms.quorum.version),
            Progress::Complete => {
                if let Some(round) = self.rounds.pop_front() {
                    self.complete(round);
                }
            }
        }
        self.expect_reply();
        Ok(())
    }

    fn heed(&mut self, hint: Hint) {
        match hint {
            Hint::None => {}
            Hint::AskAgain => self.lookup.ask_again(),
            Hint::Leave => {
                self.lookup.ask_again();
                if let Course::Steady = self.course {
                    self.course = Course::Leaving(UnknownCause::Demoted);
                }
            }
        }
    }

    fn complete(&mut self, round: Round) {
        let deadline = round.sent + self.timeouts.wait;
        let answered = round.answered();
        let standing = self.standing(&answered);
        match (standing, &self.course) {
            (Ok((offset, standing)), Course::Steady | Course::Leaving(_)) => {
                let executed = answered.executed.into_iter();
                self.counting.extend(executed.map(|request| Counting {
                    request,
                    offset,
                    deadline,
                }));
                self.rounds_proven += 1;
                self.settle(&standing);
            }
            (Ok(_), Course::Broken(cause)) => {
                let executed = answered.executed.into_iter();
                executed.for_each(|request| request.end_unknown(cause));
            }
            (Err(cause), _) => {
                let counting = self.counting.drain(..).map(|counting| counting.request);
                let executed = answered.executed.into_iter();
                counting
                    .chain(executed)
                    .for_each(|request| request.end_unknown(&cause));
                self.course = Course::Broken(cause);
            }
        }
    }

    /// The offset behind the round's writes, and who had reached what, if the terms hold.
    fn standing(&self, answered: &Answered) -> Result<(Offset, Standing), UnknownCause> {
        let garbled = |Garbled(detail)| UnknownCause::Garbled(detail);
        let reached = answered.reached.clone().map_err(garbled)?;
        let offset = reached.ok_or(UnknownCause::Demoted)?;
        let check = handshake::check(&answered.check).map_err(garbled)?;
        Ok((offset, check.on(self.terms)?))
    }

    /// Gives a result to every write that enough members hold, or whose time is up.
    fn settle(&mut self, standing: &Standing) {
        let quorum = &self.terms.quorum;
        let now = Instant::now();
        for counting in std::mem::take(&mut self.counting) {
            let acked = standing.holders(quorum, counting.offset);
            if acked >= quorum.k {
                counting.request.deliver(self.instance, quorum.version);
            } else if counting.deadline <= now {
                let needed = quorum.k;
                counting
                    .request
                    .end(WriteError::NotEnoughReplicas { acked, needed });
            } else {
                self.counting.push(counting);
            }
        }
        self.wait_count = self
            .counting
            .first()
            .map_or(quorum.k, |first| standing.wait_count(quorum, first.offset));
    }

    /// Gives every write that is left a result: unknown, unless no byte of its round was taken.
    fn end(self, cause: &UnknownCause) {
        for counting in self.counting {
            counting.request.end_unknown(cause);
        }
        for round in self.rounds {
            let sent = round.begins < self.taken;
            for request in round.into_unfinished() {
                if sent {
                    request.end_unknown(cause);
                } else {
                    request.end_unsent(Trouble::Ended {
                        instance: self.instance.clone(),
                        cause: cause.to_string(),
                    });
                }
            }
        }
    }
}

fn lost(broken: Broken) -> UnknownCause {
    match broken {
        Broken::Lost(detail) => UnknownCause::ConnectionLost(detail),
        Broken::Garbled(detail) => UnknownCause::Garbled(detail),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::error::Fate;
    use super::super::queue::queue;
    use super::super::reading::Identity;
    use super::super::request::Answer;
    use super::super::request::tests::request;
    use super::super::source::PrimarySource;
    use super::*;
    use sentinel_core::id::Token;
    use sentinel_core::observation::WriteQuorum;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    fn terms(k: u32) -> Terms {
        Terms {
            identity: Identity {
                run_id: "run".into(),
                replication_id: "history".into(),
            },
            quorum: WriteQuorum {
                version: Token::default(),
                k,
                members: [InstanceId::new("10.0.0.2", 6379)].into(),
            },
        }
    }

    /// Flies one write against a server that answers with these bytes and closes.
    async fn fly_one(answer: &'static str) -> (Landing, Answer) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let instance = InstanceId::new("127.0.0.1", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let timeouts = Timeouts::default();
        let source = PrimarySource::Fixed(instance.clone());
        let lookup = Lookup::start(&"orders".into(), source, &timeouts);
        let (sender, mut queue) = queue();
        let (write, result) = request(&["SET a 1"]);
        sender.send(write).unwrap();
        let wire = Wire::open(&instance).await.unwrap();
        let landing = fly(wire, (&instance, &terms(1)), &timeouts, &lookup, &mut queue).await;
        (landing, result.await.unwrap())
    }

    const HELD: &str =
        "*3\r\n$6\r\nmaster\r\n:70\r\n*1\r\n*3\r\n$8\r\n10.0.0.2\r\n$4\r\n6379\r\n$2\r\n70\r\n";

    #[tokio::test]
    async fn nothing_short_of_the_whole_check_acknowledges() {
        let role = HELD;
        for answer in [
            String::new(),
            "+OK\r\n".to_owned(),
            format!("+OK\r\n{role}:1\r\n"),
            format!("+OK\r\n{role}:1\r\n{role}"),
            format!("+OK\r\n{role}:1\r\n{role}+master_replid:history\r\n+run_id:run\r\n"),
            "+OK\r\nHTTP/1.1 400 Bad Request\r\n".to_owned(),
            format!(
                "+OK\r\n-LOADING x\r\n:1\r\n{role}+master_replid:history\r\n+run_id:run\r\n$-1\r\n"
            ),
        ] {
            let (landing, result) = fly_one(answer.clone().leak()).await;
            assert_eq!(result.unwrap_err().fate(), Fate::Unknown, "{answer:?}");
            assert_eq!(landing.rounds_proven, 0);
        }
    }

    #[tokio::test]
    async fn the_whole_check_does() {
        let keys = "~v:0.0 ~k:1 ~m:10.0.0.2:6379";
        let record = format!("*2\r\n$4\r\nkeys\r\n${}\r\n{keys}\r\n", keys.len());
        let identity = "+master_replid:history\r\n+run_id:run\r\n";
        let answer = format!("+OK\r\n{HELD}:1\r\n{HELD}{identity}{record}");
        let (landing, result) = fly_one(answer.leak()).await;
        assert_eq!(result.unwrap().replies, [Ok(Value::Okay)]);
        assert_eq!(landing.rounds_proven, 1);
    }

    #[tokio::test]
    async fn what_the_socket_never_took_was_not_sent() {
        let (instance, terms, timeouts) = (
            InstanceId::new("127.0.0.1", 1),
            terms(1),
            Timeouts::default(),
        );
        let source = PrimarySource::Fixed(instance.clone());
        let lookup = Lookup::start(&"orders".into(), source, &timeouts);
        let mut flight = Flight::new((&instance, &terms), &timeouts, &lookup);
        let mut results: Vec<oneshot::Receiver<Answer>> = Vec::new();
        for _ in 0..3 {
            let (write, result) = request(&["SET a 1"]);
            let begins = flight.taken + flight.outgoing.len() as u64;
            let wait = (1, WAIT_SLICE);
            flight
                .rounds
                .push_back(Round::send(vec![write], wait, begins, &mut flight.outgoing));
            results.push(result);
        }
        // All of the first round, one byte of the second, none of the third.
        let second = usize::try_from(flight.rounds[1].begins).unwrap();
        flight.sent(Ok(second + 1)).unwrap();
        flight.end(&UnknownCause::ConnectionLost("gone".into()));
        let mut fates = Vec::new();
        for result in results {
            fates.push(result.await.unwrap().unwrap_err().fate());
        }
        assert_eq!(fates, [Fate::Unknown, Fate::Unknown, Fate::NotExecuted]);
    }
}
