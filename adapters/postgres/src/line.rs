//! The two standing connections to one instance, one for probes and one for actions, and what is
//! remembered of it between readings.
//!
//! A probe whose standing connection turns out to be closed opens another at once, within the same
//! probe; only what comes of *that* is evidence. A connection is opened behind the probes, so that one
//! which a hung server accepts and never greets is waited for over several of them.
//!
//! Tells the driver at once when the standing probe connection breaks, unless it never stood: a hint
//! brings a probe, and a server that closes every connection would otherwise be probed without a pause.
//! Does not judge what a broken connection means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sentinel_core::id::{InstanceId, ServerId, ServiceName};
use sentinel_core::observation::{Facts, Observation, ProbeFailure, ProbeRequest};
use sentinel_core::runtime::{AdapterContext, ConnectionError, Turns};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::act::Acting;
use crate::connection::{Connection, Purpose};
use crate::conninfo;
use crate::door::{Door, Entry};
use crate::facts::{self, Beside, Rest};
use crate::greeting;
use crate::history::History;
use crate::lsn::Lsn;
use crate::orders;
use crate::pulse::{self, Beat, Pulse};
use crate::query::{Place, Status};
use crate::room::{News, Room, Tried};
use crate::service::PostgresService;
use crate::sightings::Sightings;
use crate::supply::Supply;
use crate::timeline::Timelines;

/// A connection that owes an answer for longer is given up. Shorter, and a hung server's queue of
/// connections not yet accepted would fill with our attempts; longer, and a path that came back
/// would wait for the retransmission of a dead connection.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long the replay of a standby that has received nothing must stand still before its end counts.
const REST: Duration = Duration::from_secs(1);

/// Facts, and what an action must know beside them.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) status: Status,
    pub(crate) facts: Facts,
    pub(crate) history: Option<History>,
}

/// Invariant: a probe holds the lock on `standing` from its first look until its answer or deadline.
pub(crate) struct Line {
    pub(crate) service: ServiceName,
    pub(crate) instance: InstanceId,
    pub(crate) settings: PostgresService,
    pub(crate) context: AdapterContext,
    pub(crate) sightings: Arc<Sightings>,
    standing: Mutex<Option<Standing>>,
    /// It has given facts once: it is PostgreSQL that listens at the address.
    known: AtomicBool,
    memory: Mutex<Memory>,
    pub(crate) acting: Turns<Acting>,
}

/// What is remembered between readings.
#[derive(Debug, Default)]
struct Memory {
    timelines: Timelines,
    /// Since when the replay of this server process stands here.
    replay: Option<(ServerId, Lsn, Instant)>,
    /// Whether this server process writes.
    pulse: Option<(ServerId, Pulse)>,
    /// Whether it lets clients in.
    door: Door,
    /// Whether this server process can write to the disk of its data.
    room: Option<(ServerId, Room)>,
    /// Whether its upstream has what it needs.
    supply: Supply,
}

/// The connection for probes.
enum Standing {
    Opening {
        since: Instant,
        task: JoinHandle<Result<Connection, ConnectionError>>,
        stood: Arc<AtomicBool>,
    },
    Open(Open),
}

struct Open {
    connection: Connection,
    /// Since when an answer is owed.
    silent_since: Option<Instant>,
    /// It has given facts.
    stood: Arc<AtomicBool>,
}

impl Drop for Standing {
    fn drop(&mut self) {
        match self {
            Self::Opening { task, .. } => task.abort(),
            Self::Open(_) => {}
        }
    }
}

impl Line {
    pub(crate) fn new(
        service: ServiceName,
        instance: InstanceId,
        settings: PostgresService,
        (context, sightings): (AdapterContext, Arc<Sightings>),
    ) -> Self {
        Self {
            service,
            instance,
            settings,
            context,
            sightings,
            standing: Mutex::default(),
            known: AtomicBool::new(false),
            memory: Mutex::default(),
            acting: Turns::default(),
        }
    }

    pub(crate) async fn probe(&self, request: &ProbeRequest) -> Observation {
        let left = self.context.clock.until(request.deadline);
        match timeout(left, self.look()).await {
            Ok(Ok(Some(reading))) => Observation::Facts(Box::new(reading.facts)),
            Ok(Ok(None)) | Err(_) => Observation::Failure(ProbeFailure::TimedOut),
            Ok(Err(error)) => Observation::Failure(error.into()),
        }
    }

    /// A connection for actions; it is not told of when it breaks.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectionError> {
        Connection::open(&self.instance, &self.settings, Purpose::Act, || ()).await
    }

    /// Reads the facts over a connection.
    pub(crate) async fn read(&self, connection: &Connection) -> Result<Reading, ConnectionError> {
        let status = connection.status().await?;
        Ok(self.judge(status).await)
    }

    /// Opens what will tell the timeline of a standby that is about to lose its receiver.
    pub(crate) async fn prepare(&self) {
        let mut memory = self.memory.lock().await;
        memory
            .timelines
            .prepare(&self.instance, &self.settings)
            .await;
    }

    /// Looks over the standing connection, or a new one; `None` when the server answers while its disk or
    /// its door does not. Bounded by the caller.
    pub(crate) async fn look(&self) -> Result<Option<Reading>, ConnectionError> {
        let mut slot = self.standing.lock().await;
        if let Some(standing) = slot.as_ref()
            && standing.silence() >= SILENCE_MAX
        {
            *slot = None;
        }
        if let Some(Standing::Open(open)) = slot.as_mut() {
            match self.ask(open).await {
                Err(ConnectionError::Broken(_)) => *slot = None,
                answer @ (Ok(_) | Err(_)) => return answer,
            }
        }
        let opened = slot.get_or_insert_with(|| self.stand()).opened().await;
        // Kept from here on, also when the probe is given up in the middle of its question.
        *slot = None;
        let opened = opened?;
        let answer = match slot.insert(Standing::Open(opened)) {
            Standing::Open(open) => self.ask(open).await,
            Standing::Opening { .. } => Err(ConnectionError::Broken("never opened".into())),
        };
        if answer.is_err() {
            *slot = None;
        }
        answer
    }

    /// The names of the physical slots, over the connection for probes.
    pub(crate) async fn slots(&self) -> Result<Vec<String>, ConnectionError> {
        let slot = self.standing.lock().await;
        match slot.as_ref() {
            Some(Standing::Open(open)) => open.connection.run(orders::SLOTS).await,
            Some(Standing::Opening { .. }) | None => {
                Err(ConnectionError::Broken("closed a moment ago".into()))
            }
        }
    }

    async fn ask(&self, open: &mut Open) -> Result<Option<Reading>, ConnectionError> {
        open.silent_since.get_or_insert_with(Instant::now);
        let answer = open.connection.status().await;
        open.silent_since = None;
        open.stood.fetch_or(answer.is_ok(), Ordering::Relaxed);
        self.known.fetch_or(answer.is_ok(), Ordering::Relaxed);
        let mut reading = self.judge(answer?).await;
        let mut memory = self.memory.lock().await;
        let entry = memory.door.look(&self.instance);
        let beat = match reading.status.place {
            Place::Primary { flushed, .. } => {
                memory.pulse(&reading.status).beat(flushed, Instant::now())
            }
            Place::Standby(_) => Beat::Fine,
        };
        let room = memory.room(&reading.status).due(Instant::now());
        drop(memory);
        match beat {
            Beat::Fine => {}
            Beat::Hanging => return Ok(None),
            Beat::Write => drop(open.connection.run(pulse::RECORD).await?),
        }
        if let Some(statement) = room {
            let tried = open.connection.write(statement).await?;
            reading.facts.trouble = self.learn(&reading.status, tried).await;
        }
        Ok(match entry {
            Entry::Open => Some(reading),
            Entry::Shut => None,
        })
    }

    /// What is the matter with its disk, by the last try.
    async fn learn(&self, status: &Status, tried: Tried) -> Option<String> {
        let mut memory = self.memory.lock().await;
        let room = memory.room(status);
        let news = room.learn(tried);
        let trouble = room.trouble();
        drop(memory);
        match news {
            News::None => {}
            News::Full => {
                tracing::warn!(service = %self.service, instance = %self.instance, problem = trouble, "a disk is full");
            }
            News::Free => {
                tracing::info!(service = %self.service, instance = %self.instance, "the disk that was full has room again");
            }
        }
        trouble
    }

    async fn judge(&self, status: Status) -> Reading {
        let mut memory = self.memory.lock().await;
        let resolved = memory
            .timelines
            .resolve(&self.instance, &self.settings, &status)
            .await;
        let history = resolved.unwrap_or_else(|error| {
            tracing::warn!(service = %self.service, instance = %self.instance, %error, "its timeline cannot be told, so that its position does not count");
            None
        });
        let rest = memory.rest(&status);
        let trouble = memory.room(&status).trouble();
        let supply_gone = memory
            .supply
            .is_gone(&status, history.as_ref(), &self.settings);
        drop(memory);
        if let Some(history) = &history {
            self.sightings.note(&self.service, &self.instance, history);
        }
        let upstream = conninfo::read(&status.settings.conninfo.0).instance;
        let upstream = upstream.and_then(|upstream| self.sightings.of(&self.service, &upstream));
        let beside = Beside {
            instance: &self.instance,
            history: history.as_ref(),
            rest,
            upstream_timeline: upstream.map(|history| history.timeline()),
            trouble,
            supply_gone,
        };
        let facts = facts::facts(&status, &beside);
        Reading {
            facts,
            status,
            history,
        }
    }

    fn stand(&self) -> Standing {
        let (service, instance) = (self.service.clone(), self.instance.clone());
        let settings = self.settings.clone();
        let disconnects = self.context.disconnects.clone();
        let stood = Arc::<AtomicBool>::default();
        let has_stood = Arc::clone(&stood);
        let known = self.known.load(Ordering::Relaxed);
        let task = tokio::spawn(async move {
            let at = instance.clone();
            let closed = move || {
                if has_stood.load(Ordering::Relaxed) {
                    // A full queue costs one probe's pace.
                    let _ = disconnects.try_send((service, instance));
                }
            };
            let opening = Connection::open(&at, &settings, Purpose::Probe, closed);
            tokio::select! {
                opened = opening => opened,
                stranger = greeting::another_engine(&at), if !known => {
                    Err(ConnectionError::Rejected(stranger.to_string()))
                }
            }
        });
        Standing::Opening {
            since: Instant::now(),
            task,
            stood,
        }
    }
}

impl Standing {
    /// The connection, when it is open; may be given up and called again.
    async fn opened(&mut self) -> Result<Open, ConnectionError> {
        match self {
            Self::Opening { task, stood, .. } => {
                let opened = task.await.unwrap_or_else(|_| {
                    let text = "opening it failed by a fault of this program: please report it";
                    Err(ConnectionError::Rejected(text.into()))
                });
                opened.map(|connection| Open {
                    connection,
                    silent_since: None,
                    stood: Arc::clone(stood),
                })
            }
            Self::Open(_) => Err(ConnectionError::Broken("in use already".into())),
        }
    }

    fn silence(&self) -> Duration {
        match self {
            Self::Opening { since, .. } => since.elapsed(),
            Self::Open(open) => open
                .silent_since
                .map_or(Duration::ZERO, |since| since.elapsed()),
        }
    }
}

impl Memory {
    fn pulse(&mut self, status: &Status) -> &mut Pulse {
        let server = facts::server(status);
        self.pulse.take_if(|(of, _)| *of != server);
        let (_, pulse) = self.pulse.get_or_insert_with(|| (server, Pulse::default()));
        pulse
    }

    fn room(&mut self, status: &Status) -> &mut Room {
        let server = facts::server(status);
        self.room.take_if(|(of, _)| *of != server);
        let (_, room) = self.room.get_or_insert_with(|| (server, Room::default()));
        room
    }

    /// Whether the replay of a standby that has received nothing has come to its end.
    fn rest(&mut self, status: &Status) -> Rest {
        let Place::Standby(place) = &status.place else {
            self.replay = None;
            return Rest::Moving;
        };
        let server = facts::server(status);
        let since = match &self.replay {
            Some((of, at, since)) if *of == server && *at == place.replayed => *since,
            Some(_) | None => Instant::now(),
        };
        self.replay = Some((server, place.replayed, since));
        if since.elapsed() >= REST && facts::waits_for_more(place, &status.settings) {
            Rest::AtRest
        } else {
            Rest::Moving
        }
    }
}
