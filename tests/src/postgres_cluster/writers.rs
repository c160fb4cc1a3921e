//! Writers that go on through every fault, and remember which rows were acknowledged to them.
//!
//! Each row is tried once: a row that was not acknowledged is not tried again, so that every row in the list is a promise.
//! The address comes from the nodes' answers. Afterwards every server is asked for every row.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sentinel_daemon::api::PrimaryJson;
use tokio::runtime::Runtime;

use super::session::Session;
use super::{BOUND, PostgresCluster, SERVICE};
use crate::cluster::http;
use crate::postgres_server::{PostgresServer, Role};
use crate::wait;

const WRITERS: i64 = 4;

/// The rows of one writer; more than any test writes.
const ROWS_EACH: i64 = 1_000_000;

/// Each writer's pace: some hundred writes a second together, on a machine that runs servers and nodes beside them.
const PACE: Duration = Duration::from_millis(10);

/// Where the writers learn who the primary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the nodes, over HTTP.
    Discovery,
    /// It is always the server with this index.
    Server(usize),
}

enum Place {
    Nodes(Vec<SocketAddr>),
    Fixed(u16),
}

/// Running writers. Dropping them ends them.
pub struct Writers {
    runtime: Runtime,
    acknowledged: Arc<Acknowledged>,
}

#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    rows: Mutex<BTreeSet<i64>>,
    errors: Mutex<Vec<(Instant, String)>>,
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writers({} acknowledged)", self.count())
    }
}

/// The rows that were acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Written(BTreeSet<i64>);

impl Writers {
    /// Starts them, and waits until the first rows are acknowledged.
    ///
    /// # Panics
    /// When none is within the bound.
    #[track_caller]
    pub fn start(cluster: &PostgresCluster, source: Source) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be started");
        let (place, first) = match source {
            Source::Discovery => {
                let nodes = cluster.nodes.iter().map(|node| node.plan().http_address());
                (Place::Nodes(nodes.collect()), 0)
            }
            Source::Server(index) => {
                let number = i64::try_from(index).expect("there are few servers");
                let first = (number + 1) * WRITERS;
                (Place::Fixed(cluster.servers[index].port()), first)
            }
        };
        let (place, acknowledged) = (Arc::new(place), Arc::<Acknowledged>::default());
        for writer in first..first + WRITERS {
            let rows = writer * ROWS_EACH;
            runtime.spawn(write(Arc::clone(&place), rows, Arc::clone(&acknowledged)));
        }
        let writers = Self {
            runtime,
            acknowledged,
        };
        writers.wait_for_more(cluster, 50);
        writers
    }

    /// How many rows were acknowledged until this moment.
    pub fn count(&self) -> u64 {
        self.acknowledged.count.load(Ordering::Relaxed)
    }

    /// How many tries failed until this moment, to find the primary, to log in, or to insert a row.
    pub fn errors(&self) -> usize {
        lock(&self.acknowledged.errors).len()
    }

    /// Waits until so many more rows are acknowledged.
    ///
    /// # Panics
    /// When they are not within the bound, with the newest errors.
    #[track_caller]
    pub fn wait_for_more(&self, cluster: &PostgresCluster, more: u64) {
        let wanted = self.count() + more;
        let enough = wait::within(BOUND, || (self.count() >= wanted).then_some(()));
        if enough.is_none() {
            let newest = self.newest_errors();
            let whole = cluster.whole();
            panic!("rows are not acknowledged: {newest:#?}; the cluster: {whole:?}");
        }
    }

    /// The last errors with their age, for messages.
    pub fn newest_errors(&self) -> Vec<String> {
        let errors = lock(&self.acknowledged.errors);
        errors[errors.len().saturating_sub(5)..]
            .iter()
            .map(|(at, text)| format!("{:?} ago: {text}", at.elapsed()))
            .collect()
    }

    /// Ends them, and gives what was acknowledged.
    pub fn stop(self) -> Written {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        Written(std::mem::take(&mut *lock(&self.acknowledged.rows)))
    }
}

async fn write(place: Arc<Place>, first: i64, acknowledged: Arc<Acknowledged>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut session = None;
    for id in first..first + ROWS_EACH {
        pace.tick().await;
        match write_one(&place, &mut session, id).await {
            Ok(()) => {
                lock(&acknowledged.rows).insert(id);
                acknowledged.count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                session = None;
                lock(&acknowledged.errors).push((Instant::now(), format!("{id}: {error}")));
            }
        }
    }
}

async fn write_one(
    place: &Arc<Place>,
    session: &mut Option<Session>,
    id: i64,
) -> Result<(), String> {
    let session = match session {
        Some(session) => session,
        None => {
            let asked = Arc::clone(place);
            let found = tokio::task::spawn_blocking(move || find(&asked)).await;
            let port = found.ok().flatten().ok_or("nobody names a primary")?;
            session.insert(Session::open(port).await?)
        }
    };
    session.insert(id).await
}

/// The newest answer of those that answer.
fn find(place: &Place) -> Option<u16> {
    match place {
        Place::Fixed(port) => Some(*port),
        Place::Nodes(nodes) => {
            let path = format!("/v1/services/{SERVICE}/primary");
            let answers = nodes.iter();
            let answers = answers.filter_map(|node| http::get::<PrimaryJson>(*node, &path));
            let newest = answers.max_by_key(|answer| answer.epoch)?;
            Some(newest.primary.port())
        }
    }
}

impl Written {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds those of other writers.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The first of them that a server does not hold at this moment, and how many it lacks.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn lost_on(&self, server: &PostgresServer) -> Result<Option<(i64, usize)>, String> {
        let rows = server.try_query(Role::Superuser, "SELECT id FROM written")?;
        let held: BTreeSet<i64> = rows
            .iter()
            .map(|row| row[0].parse().expect("the column holds numbers"))
            .collect();
        let mut lost = self.0.difference(&held);
        let first = lost.next();
        Ok(first.map(|first| (*first, 1 + lost.count())))
    }
}

/// A writer that panicked has failed the test by itself.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
