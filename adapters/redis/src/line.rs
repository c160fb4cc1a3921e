//! The two standing connections to one instance: one for probes, one for actions.
//!
//! An action's transaction closes every other normal connection to the server (rule S6): the other
//! nodes' and our own probe connection too. So a probe whose standing connection turns out to be
//! closed opens another at once, within the same probe; only what comes of *that* is evidence.
//!
//! Tells the driver at once when the standing probe connection breaks, unless one of our own
//! actions is about to break it, or it never stood: a hint brings a probe, and a server that closes
//! every connection would otherwise be probed without a pause. Does not judge what a broken
//! connection means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::observation::{Observation, ProbeFailure, ProbeRequest};
use sentinel_core::runtime::{AdapterContext, ConnectionError, Turns};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::connection::{Connection, rejected};
use crate::demote::Copying;
use crate::reading::{self, Reading};
use crate::reply;
use crate::service::RedisService;

/// A connection that owes an answer for longer is given up. Shorter, and a hung server's queue of
/// connections not yet accepted would fill with our attempts; longer, and a path that came back
/// would wait for the retransmission of a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Invariant: a probe holds the lock on `standing` from its first look until its answer or deadline.
pub(crate) struct Line {
    pub(crate) service: ServiceName,
    pub(crate) instance: InstanceId,
    pub(crate) settings: RedisService,
    pub(crate) context: AdapterContext,
    standing: Mutex<Option<Standing>>,
    pub(crate) acting: Turns<Acting>,
    /// Our own action is about to close the standing connection.
    closing: Arc<AtomicBool>,
}

/// The state of the actions on one instance; they run one after the other.
#[derive(Debug, Default)]
pub(crate) struct Acting {
    pub(crate) connection: Option<Connection>,
    /// The copy of what only this instance has.
    pub(crate) copying: Copying,
}

struct Standing {
    connection: Connection,
    /// Since when an answer is owed.
    silent_since: Option<Instant>,
    /// It has given facts.
    stood: Arc<AtomicBool>,
}

impl Line {
    pub(crate) fn new(
        service: ServiceName,
        instance: InstanceId,
        settings: RedisService,
        context: AdapterContext,
    ) -> Self {
        Self {
            service,
            instance,
            settings,
            context,
            standing: Mutex::default(),
            acting: Turns::default(),
            closing: Arc::default(),
        }
    }

    pub(crate) async fn probe(&self, request: &ProbeRequest) -> Observation {
        let left = self.context.clock.until(request.deadline);
        match timeout(left, self.look()).await {
            Ok(Ok(reading)) => Observation::Facts(Box::new(reading.facts)),
            Ok(Err(error)) => Observation::Failure(error.into()),
            Err(_) => Observation::Failure(ProbeFailure::TimedOut),
        }
    }

    /// A connection for actions; it is not told of when it breaks.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectionError> {
        Connection::open(&self.instance, self.settings.credentials.clone(), || ()).await
    }

    /// From here on the end of the standing connection is no news, until the next probe.
    pub(crate) fn expect_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Looks over the standing connection, or a new one. Bounded by the caller.
    pub(crate) async fn look(&self) -> Result<Reading, ConnectionError> {
        let mut slot = self.standing.lock().await;
        self.closing.store(false, Ordering::Relaxed);
        if let Some(standing) = slot.as_mut() {
            if standing
                .silent_since
                .is_none_or(|since| since.elapsed() < SILENCE_MAX)
            {
                match standing.read().await {
                    Err(ConnectionError::Broken(_)) => {}
                    answer @ (Ok(_) | Err(_)) => return answer,
                }
            }
            *slot = None;
        }
        let standing = slot.insert(self.stand().await?);
        let answer = standing.read().await;
        if answer.is_err() {
            *slot = None;
        }
        answer
    }

    async fn stand(&self) -> Result<Standing, ConnectionError> {
        let (service, instance) = (self.service.clone(), self.instance.clone());
        let disconnects = self.context.disconnects.clone();
        let closing = Arc::clone(&self.closing);
        let stood = Arc::<AtomicBool>::default();
        let has_stood = Arc::clone(&stood);
        let closed = move || {
            if has_stood.load(Ordering::Relaxed) && !closing.load(Ordering::Relaxed) {
                // A full queue costs one probe's pace.
                let _ = disconnects.try_send((service, instance));
            }
        };
        let credentials = self.settings.credentials.clone();
        Ok(Standing {
            connection: Connection::open(&self.instance, credentials, closed).await?,
            silent_since: None,
            stood,
        })
    }
}

impl Standing {
    async fn read(&mut self) -> Result<Reading, ConnectionError> {
        self.silent_since.get_or_insert_with(Instant::now);
        let answer = read(&mut self.connection).await;
        self.silent_since = None;
        self.stood.fetch_or(answer.is_ok(), Ordering::Relaxed);
        answer
    }
}

/// Reads the facts over a connection.
pub(crate) async fn read(connection: &mut Connection) -> Result<Reading, ConnectionError> {
    let questions: Vec<Cmd> = reading::questions();
    let replies: Vec<Value> = connection.exchange(questions).await?;
    if let Some(error) = reply::first_error(&replies) {
        return Err(rejected(error));
    }
    reading::read(&replies).map_err(|error| ConnectionError::Rejected(error.to_string()))
}
