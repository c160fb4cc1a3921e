//! Three real Redis Sentinels that watch a real primary with two replicas: the peer that the benchmarks compare with.
//!
//! Starts them, waits until they know everything, and asks them who the primary is. Measures nothing.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use sentinel_core::id::InstanceId;
use tempfile::TempDir;

use crate::port::free_port;
use crate::redis_server::{RedisServer, Running};
use crate::wait;

/// Name of the watched service.
const SERVICE: &str = "bench";

/// Sentinels; two of them must agree.
const SENTINELS: usize = 3;

/// A watched primary with two replicas. Dropping it ends all of them.
pub struct SentinelWatch {
    sentinels: Vec<Sentinel>,
    /// The primary as started.
    pub primary: RedisServer,
    _replicas: [RedisServer; 2],
}

impl fmt::Debug for SentinelWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelWatch")
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}

struct Sentinel {
    _running: Running,
    connection: redis::Connection,
    _folder: TempDir,
}

impl SentinelWatch {
    /// Starts all, and waits until every Sentinel knows the others and both replicas.
    ///
    /// # Panics
    /// When that does not happen.
    pub fn start(down_after: Duration) -> Self {
        let primary = RedisServer::start();
        let replicas = [
            RedisServer::replica_of(&primary),
            RedisServer::replica_of(&primary),
        ];
        for replica in &replicas {
            replica.wait_for_info("master_link_status", "up");
        }
        let sentinels = (0..SENTINELS)
            .map(|_| Sentinel::start(&primary, down_after))
            .collect();
        let mut watch = Self {
            sentinels,
            primary,
            _replicas: replicas,
        };
        for sentinel in &mut watch.sentinels {
            wait::until("a Sentinel knows everything", || sentinel.knows_all());
        }
        watch
    }

    /// Whom each Sentinel names as primary.
    pub fn named(&mut self) -> impl Iterator<Item = InstanceId> {
        self.sentinels.iter_mut().filter_map(Sentinel::primary)
    }
}

impl Sentinel {
    fn start(primary: &RedisServer, down_after: Duration) -> Self {
        let folder =
            TempDir::with_prefix("redis-sentinel-").expect("a temporary folder can be made");
        let (path, port) = (folder.path().join("sentinel.conf"), free_port());
        // A failed attempt is repeated after twice the failover-timeout: six minutes by default.
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile log\n\
             sentinel monitor {SERVICE} 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds {SERVICE} {}\n\
             sentinel failover-timeout {SERVICE} 10000\n\
             sentinel parallel-syncs {SERVICE} 1\n",
            folder.path().display(),
            primary.port(),
            down_after.as_millis(),
        );
        fs::write(&path, settings).expect("the temporary folder is writable");
        let process = Command::new("redis-server")
            .arg(&path)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let running = Running::guarded(process, folder.path()).expect("sh exists");
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))
            .expect("the address is well formed");
        let connection = wait::until("a Sentinel answers", || client.get_connection().ok());
        Self {
            _running: running,
            connection,
            _folder: folder,
        }
    }

    fn knows_all(&mut self) -> Option<()> {
        let details: std::collections::BTreeMap<String, String> = redis::cmd("SENTINEL")
            .arg("MASTER")
            .arg(SERVICE)
            .query(&mut self.connection)
            .ok()?;
        let is = |field: &str, wanted: &str| details.get(field).is_some_and(|v| v == wanted);
        (is("num-slaves", "2") && is("num-other-sentinels", "2") && is("flags", "master"))
            .then_some(())
    }

    fn primary(&mut self) -> Option<InstanceId> {
        let (host, port): (String, String) = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(SERVICE)
            .query(&mut self.connection)
            .ok()?;
        Some(InstanceId::new(host, port.parse().ok()?))
    }
}
