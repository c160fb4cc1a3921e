//! A writer that knows nothing but HAProxy, while the primary of a real PostgreSQL service is killed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sentinel_tests::haproxy::{Configuration, Haproxy};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, Role};
use sentinel_tests::wait;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::guarded::{Guarded, address};

/// Everything but a session that nobody ends takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// Numbers that were acknowledged, in order, and by which server.
type Acknowledged = Arc<Mutex<Vec<(i64, u16)>>>;

/// Writes one number after the other, each once; after an error it goes on with the next number on a new connection.
struct Writer {
    acknowledged: Acknowledged,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(at: SocketAddr) -> Self {
        let (acknowledged, stop) = (Acknowledged::default(), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (acknowledged.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let mut next = 0;
                while !stopped.load(Relaxed) {
                    // Its error is what a client sees while there is no primary; it tries again.
                    let _ = session(at, &mut next, &told, &stopped).await;
                }
            });
        });
        Self {
            acknowledged,
            stop,
            thread: Some(thread),
        }
    }

    /// How many numbers this server acknowledged.
    fn by(&self, server: &PostgresServer) -> usize {
        let all = self.acknowledged.lock().unwrap();
        all.iter()
            .filter(|(_, port)| *port == server.port())
            .count()
    }

    /// Ends it, and gives what was acknowledged.
    fn end(mut self) -> Vec<(i64, u16)> {
        self.stop.store(true, Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.acknowledged.lock().unwrap().clone()
    }
}

/// Ends with the first error, whatever it is.
async fn session(
    at: SocketAddr,
    next: &mut i64,
    acknowledged: &Acknowledged,
    stop: &AtomicBool,
) -> Result<(), Box<dyn std::error::Error>> {
    let string = format!(
        "host={} port={} dbname=postgres user=app",
        at.ip(),
        at.port()
    );
    let (client, connection) = timeout(PATIENCE, tokio_postgres::connect(&string, NoTls)).await??;
    tokio::spawn(connection);
    while !stop.load(Relaxed) {
        *next += 1;
        let sql = "INSERT INTO t VALUES ($1) RETURNING inet_server_port()";
        let row = timeout(PATIENCE, client.query_one(sql, &[&*next])).await??;
        let port = u16::try_from(row.get::<_, i32>(0))?;
        acknowledged.lock().unwrap().push((*next, port));
    }
    Ok(())
}

fn numbers(server: &PostgresServer) -> BTreeSet<i64> {
    let rows = server.query("SELECT n FROM t");
    rows.iter().map(|row| row[0].parse().unwrap()).collect()
}

#[test]
fn a_writer_behind_haproxy_ends_up_on_the_new_primary() {
    let mut guarded = Guarded::start(&PostgresVersion::any());
    let [first, second, third] = [0, 1, 2].map(|n| address(&guarded.servers[n]));
    let proxy = Haproxy::start(&guarded.behind(), Configuration::Template);
    proxy.wait_for_up("primary", &[first]);
    proxy.wait_for_up("replicas", &[second, third]);
    guarded.servers[0]
        .try_query(Role::App, "CREATE TABLE t (n bigint PRIMARY KEY)")
        .unwrap();
    let writer = Writer::start(proxy.primary);
    wait::until("the primary takes writes", || {
        (writer.by(&guarded.servers[0]) > 100).then_some(())
    });

    guarded.servers[0].kill();
    let new = wait::until_within(wait::BOUND_CLUSTER, "another server takes writes", || {
        [1, 2]
            .into_iter()
            .find(|n| writer.by(&guarded.servers[*n]) > 100)
    });
    let other = 3 - new;
    let standbys = [first, address(&guarded.servers[other])];
    let readable = wait::within(wait::BOUND_CLUSTER, || {
        (proxy.up("replicas") == standbys).then_some(())
    });
    assert!(
        readable.is_some(),
        "{:?}: {}",
        proxy.up("replicas"),
        proxy.log()
    );
    proxy.wait_for_up("primary", &[address(&guarded.servers[new])]);
    let acknowledged = writer.end();
    let newest = acknowledged.last().unwrap();
    assert_eq!(newest.1, guarded.servers[new].port());
    for server in [0, other] {
        guarded.servers[new].wait_for_standby(&guarded.servers[server]);
    }
    let wanted: BTreeSet<i64> = acknowledged.iter().map(|(number, _)| *number).collect();
    for server in &guarded.servers {
        let found = numbers(server);
        let lost: Vec<_> = wanted.difference(&found).collect();
        assert!(lost.is_empty(), "{} lacks {lost:?}", server.instance());
    }
}
