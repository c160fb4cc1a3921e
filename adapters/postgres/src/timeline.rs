//! Finds the branch of history on which a server's position lies, and remembers what it found.
//!
//! A primary's log file and a connected receiver name their timeline; only the replication protocol tells
//! that of a standby without a receiver, and the fork of any timeline. So such a connection is opened for
//! what is not remembered yet, kept a little for the question that often follows (a promotion), and
//! closed. What cannot be told for certain is `None`: a position on the wrong branch would be worse.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::id::{InstanceId, ServerId};
use sentinel_core::runtime::ConnectionError;
use tokio::time::Instant;

use crate::facts;
use crate::history::{History, Timeline};
use crate::lsn::Lsn;
use crate::query::{Place, StandbyPlace, Status};
use crate::replication::Replication;
use crate::service::PostgresService;

/// How long an unused replication connection is kept.
const UNUSED_MAX: Duration = Duration::from_secs(3);

/// How many timeline numbers after its own a standby may have received from without having replayed to
/// their fork: siblings that were promoted and given up take numbers too.
const NUMBERS_AHEAD: u32 = 4;

/// What is remembered of one server process.
#[derive(Debug, Default)]
pub(crate) struct Timelines {
    server: Option<ServerId>,
    histories: BTreeMap<Timeline, History>,
    /// What a standby without a receiver was found to be on, for as long as neither place moves.
    identified: Option<Identified>,
    /// The last word of a receiver: these two belong together.
    received: Option<(Timeline, Lsn)>,
    connection: Option<(Replication, Instant)>,
}

impl Timelines {
    /// The history of the branch on which the server's position lies.
    pub(crate) async fn resolve(
        &mut self,
        instance: &InstanceId,
        service: &PostgresService,
        status: &Status,
    ) -> Result<Option<History>, ConnectionError> {
        let server = facts::server(status);
        if self.server.as_ref() != Some(&server) {
            *self = Self {
                server: Some(server),
                ..Self::default()
            };
        }
        let mut asker = Asker {
            known: self,
            instance,
            service,
        };
        let found = match &status.place {
            Place::Primary { timeline, .. } => asker.history(*timeline).await,
            Place::Standby(place) => asker.standby(place).await,
        };
        self.connection
            .take_if(|(_, used)| used.elapsed() >= UNUSED_MAX);
        found
    }

    /// Opens the connection that a standby which is about to lose its receiver will be asked over.
    pub(crate) async fn prepare(&mut self, instance: &InstanceId, service: &PostgresService) {
        if self.connection.is_none()
            && let Ok(connection) = Replication::open(instance, service).await
        {
            self.connection = Some((connection, Instant::now()));
        }
    }
}

/// What a standby that stands still was found to be on; `None`: it cannot be told.
#[derive(Debug)]
struct Identified {
    received: Option<Lsn>,
    replayed: Lsn,
    timeline: Option<Timeline>,
}

/// One question's conversation.
struct Asker<'a> {
    known: &'a mut Timelines,
    instance: &'a InstanceId,
    service: &'a PostgresService,
}

impl Asker<'_> {
    async fn standby(&mut self, place: &StandbyPlace) -> Result<Option<History>, ConnectionError> {
        if let Some(receiver) = &place.receiver
            && receiver.timeline != Timeline(0)
        {
            self.known.received = Some((receiver.timeline, receiver.flushed));
            let history = self.history(receiver.timeline).await?;
            // Before the fork both branches are one; at or behind what was received it is the receiver's.
            let certain = |history: &History| {
                place.replayed <= receiver.flushed || place.replayed <= history.fork()
            };
            if history.as_ref().is_some_and(certain) {
                return Ok(history);
            }
        }
        let (received, replayed) = (place.received, place.replayed);
        let timeline = match &self.known.identified {
            Some(then) if (then.received, then.replayed) == (received, replayed) => then.timeline,
            Some(_) | None => {
                let timeline = self.identify(place).await?;
                self.known.identified = Some(Identified {
                    received,
                    replayed,
                    timeline,
                });
                timeline
            }
        };
        match timeline {
            Some(timeline) => self.history(timeline).await,
            None => Ok(None),
        }
    }

    /// The server names the timeline that it replays. What it received beyond that may be of a later one.
    async fn identify(
        &mut self,
        place: &StandbyPlace,
    ) -> Result<Option<Timeline>, ConnectionError> {
        let mut connection = self.connect().await?;
        let replays = connection.timeline().await?;
        self.keep(connection);
        let Some(received) = place.received.filter(|at| *at > place.replayed) else {
            return Ok(Some(replays));
        };
        if let Some((timeline, at)) = self.known.received
            && at == received
        {
            return Ok(Some(timeline));
        }
        for number in 1..=NUMBERS_AHEAD {
            let later = Timeline(replays.0.saturating_add(number));
            let history = self.history(later).await?;
            let fork = history.and_then(|history| history.left_at(replays));
            if fork.is_some_and(|fork| fork < received) {
                return Ok(None);
            }
        }
        Ok(Some(replays))
    }

    async fn history(&mut self, timeline: Timeline) -> Result<Option<History>, ConnectionError> {
        if timeline == Timeline(1) {
            return Ok(Some(History::first()));
        }
        if let Some(history) = self.known.histories.get(&timeline) {
            return Ok(Some(history.clone()));
        }
        let mut connection = self.connect().await?;
        let history = connection.history(timeline).await?;
        self.keep(connection);
        if let Some(history) = &history {
            self.known.histories.insert(timeline, history.clone());
        }
        Ok(history)
    }

    /// The connection is taken out while it is used: a question that is given up in the middle leaves an
    /// answer on the way that would be taken for that of the next one. One that was kept has to answer
    /// first: the server may have closed it meanwhile.
    async fn connect(&mut self) -> Result<Replication, ConnectionError> {
        if let Some((mut connection, _)) = self.known.connection.take()
            && connection.timeline().await.is_ok()
        {
            return Ok(connection);
        }
        Replication::open(self.instance, self.service).await
    }

    fn keep(&mut self, connection: Replication) {
        self.known.connection = Some((connection, Instant::now()));
    }
}
