//! Writers that go on through every fault, and remember what was acknowledged to them.
//!
//! They write through the write guard, each key once: a write that was not acknowledged is not tried again, so that
//! every key in the list is a promise. Afterwards every server is asked for every key.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_redis::guard::{GuardOptions, PrimarySource, WriteGuard};
use tokio::runtime::Runtime;

use super::{Cluster, SERVICE, Steady};
use crate::redis_server::RedisServer;
use crate::wait;

const WRITERS: u64 = 4;

/// Each writer's pace: some hundred writes a second together, on a machine that runs servers and nodes beside them.
const PACE: Duration = Duration::from_millis(5);

/// Where the writers learn who the primary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From the voters, by the Sentinel protocol.
    Voters,
    /// It is always the server with this index.
    Server(usize),
}

/// Running writers. Dropping them ends them.
pub struct Writers {
    runtime: Runtime,
    acknowledged: Arc<Acknowledged>,
}

#[derive(Default)]
struct Acknowledged {
    count: AtomicU64,
    keys: Mutex<Vec<String>>,
    errors: Mutex<Vec<String>>,
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writers({} acknowledged)", self.count())
    }
}

/// The keys that were acknowledged; each holds its own name.
#[derive(Clone, Debug, Default)]
pub struct Written(Vec<String>);

impl Writers {
    /// Starts them, and waits until the first writes are acknowledged.
    ///
    /// # Panics
    /// When none is within the bound.
    #[track_caller]
    pub fn start(cluster: &Cluster, source: Source) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be started");
        let prefix = match source {
            Source::Voters => "w".to_owned(),
            Source::Server(index) => format!("pinned{index}-"),
        };
        let source = match source {
            Source::Server(index) => PrimarySource::Fixed(cluster.servers[index].instance()),
            Source::Voters => {
                let addresses = cluster.nodes.iter().map(|node| node.plan().resp_address());
                PrimarySource::Sentinels {
                    endpoints: addresses
                        .map(|address| InstanceId::new(address.ip().to_string(), address.port()))
                        .collect(),
                    credentials: None,
                }
            }
        };
        let acknowledged = Arc::<Acknowledged>::default();
        {
            let _inside = runtime.enter();
            let guard = WriteGuard::new(GuardOptions::new(SERVICE.into(), source));
            for writer in 0..WRITERS {
                let keys = format!("{prefix}{writer}");
                runtime.spawn(write(guard.clone(), keys, acknowledged.clone()));
            }
        }
        let writers = Self {
            runtime,
            acknowledged,
        };
        writers.wait_for_more(cluster, 50);
        writers
    }

    /// How many writes were acknowledged until this moment.
    pub fn count(&self) -> u64 {
        self.acknowledged.count.load(Ordering::Relaxed)
    }

    /// How many writes were not acknowledged until this moment.
    pub fn errors(&self) -> usize {
        lock(&self.acknowledged.errors).len()
    }

    /// Waits until so many more writes are acknowledged.
    ///
    /// # Panics
    /// When they are not within the bound, with the newest errors.
    #[track_caller]
    pub fn wait_for_more(&self, cluster: &Cluster, more: u64) {
        let wanted = self.count() + more;
        let enough = wait::within(wait::BOUND_CLUSTER, || {
            (self.count() >= wanted).then_some(())
        });
        if enough.is_none() {
            let errors = lock(&self.acknowledged.errors);
            let newest = &errors[errors.len().saturating_sub(5)..];
            let whole = cluster.whole();
            panic!("writes are not acknowledged: {newest:#?}; the cluster: {whole:?}");
        }
    }

    /// Ends them, and gives what was acknowledged.
    pub fn stop(self) -> Written {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
        Written(std::mem::take(&mut *lock(&self.acknowledged.keys)))
    }
}

async fn write(guard: WriteGuard, keys: String, acknowledged: Arc<Acknowledged>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0_u64.. {
        pace.tick().await;
        let key = format!("{keys}:{number}");
        let mut command = redis::cmd("SET");
        command.arg(&key).arg(&key);
        match guard.write(command).await {
            Ok(_) => {
                lock(&acknowledged.keys).push(key);
                acknowledged.count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => lock(&acknowledged.errors).push(format!("{key}: {error}")),
        }
    }
}

impl Written {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Every key is on the primary, and on every replica as soon as it has caught up.
    ///
    /// # Panics
    /// When one is not.
    #[track_caller]
    pub fn verify_all(&self, cluster: &Cluster, steady: Steady) {
        let primary = &cluster.servers[steady.primary];
        let lost = self.lost_on(primary);
        let (sent, lost_count) = (self.count(), lost.len());
        assert!(
            lost.is_empty(),
            "{lost_count} of {sent} acknowledged writes are lost on {}, the first is {:?}",
            primary.instance(),
            lost.first()
        );
        for server in &cluster.servers {
            let mut lost = Vec::new();
            let caught_up = wait::within(wait::BOUND_CLUSTER, || {
                lost = self.lost_on(server);
                lost.is_empty().then_some(())
            });
            assert!(
                caught_up.is_some(),
                "{} of {sent} acknowledged writes never came to replica {}, the first is {:?}",
                lost.len(),
                server.instance(),
                lost.first()
            );
        }
    }

    /// Which of them a server does not hold at this moment. An order that gets there meanwhile closes the connection of
    /// who asks, as of every client; then it is asked again.
    ///
    /// # Panics
    /// When the server does not answer within the bound.
    pub fn lost_on(&self, server: &RedisServer) -> Vec<&str> {
        let mut missing = Vec::new();
        for keys in self.0.chunks(1000) {
            let mut failure = None;
            let values = wait::within(wait::BOUND, || {
                values_of(server, keys)
                    .map_err(|error| failure = Some(error))
                    .ok()
            });
            let values = values
                .unwrap_or_else(|| panic!("{} does not answer: {failure:?}", server.instance()));
            let wrong = keys
                .iter()
                .zip(values)
                .filter(|(key, value)| value.as_ref() != Some(*key));
            missing.extend(wrong.map(|(key, _)| key.as_str()));
        }
        missing
    }
}

fn values_of(server: &RedisServer, keys: &[String]) -> redis::RedisResult<Vec<Option<String>>> {
    redis::cmd("MGET").arg(keys).query(&mut server.connect()?)
}

/// A writer that panicked has failed the test by itself.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
