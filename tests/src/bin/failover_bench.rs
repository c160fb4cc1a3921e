#![expect(clippy::print_stdout, reason = "the table is the result")]
//! Failover times of this project beside those of three Redis Sentinels, on the same machine, in the same run.
//!
//! Measured from the fault to the first write that the new primary acknowledges together with one replica. Ours is what
//! `sentinel demo redis` reports. For Redis Sentinel a client asks all three for the primary, again and again without
//! a pause worth naming, and writes with `WAIT 1` to whom they name: no client of theirs could be faster.
//! The two take turns, so that a change of the machine's mood meets both. Judges nothing; the goals are in
//! `docs/benchmarks.md`.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sentinel_core::id::InstanceId;
use sentinel_tests::redis_sentinel::SentinelWatch;
use sentinel_tests::{binary, wait};

/// How long silence means down, for both.
const DOWN_AFTER: Duration = Duration::from_secs(1);

/// Runs of each, unless the first argument says otherwise.
const RUNS: usize = 5;

/// Connections that write before the fault, each with this pace: as the demonstration does.
const WRITERS: u64 = 4;
const PACE: Duration = Duration::from_millis(4);

/// How long Redis Sentinel may take: a failed vote is repeated after 20 s.
const PEER_MAX: Duration = Duration::from_secs(90);

/// Acknowledged writes before the fault.
const LEAD_WRITES: u64 = 1000;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Hang,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
        }
    }
}

fn main() {
    let runs = std::env::args()
        .nth(1)
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(RUNS);
    println!(
        "fault to first acknowledged write, {runs} runs each, down_after {} ms",
        DOWN_AFTER.as_millis()
    );
    let mut rows = Vec::new();
    for fault in [Fault::Kill, Fault::Hang] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 1..=runs {
            ours.push(demonstration(fault));
            theirs.push(redis_sentinel(fault));
            println!(
                "{} {run}/{runs}: ours {:.0} ms, Redis Sentinel {:.0} ms",
                fault.word(),
                ours[run - 1],
                theirs[run - 1]
            );
        }
        rows.push((fault, ours, theirs));
    }
    println!();
    println!("| Fault | | min | median | max | ratio of the medians |");
    println!("|---|---|---|---|---|---|");
    for (fault, ours, theirs) in rows {
        let (ours, theirs) = (spread(ours), spread(theirs));
        let row = |who: &str, [min, median, max]: [f64; 3], ratio: &str| {
            println!(
                "| {} | {who} | {min:.0} ms | {median:.0} ms | {max:.0} ms | {ratio} |",
                fault.word()
            );
        };
        row("ours", ours, &format!("{:.2}", ours[1] / theirs[1]));
        row("Redis Sentinel", theirs, "1");
    }
}

/// Least, middle and most.
fn spread(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    let last = times.len() - 1;
    let median = f64::midpoint(times[last / 2], times[last.div_ceil(2)]);
    [times[0], median, times[last]]
}

/// Milliseconds, as the demonstration reports them.
fn demonstration(fault: Fault) -> f64 {
    let output = Command::new(binary::sentinel())
        .args(["demo", "redis", "--json", "--fault", fault.word()])
        .args(["--down-after", &format!("{}ms", DOWN_AFTER.as_millis())])
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the demonstration failed:\n{notes}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let object: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .expect("the last line is the object");
    object["first_write_ms"]
        .as_f64()
        .expect("a run that ends well has the time")
}

/// Milliseconds, as a client of Redis Sentinel sees them.
fn redis_sentinel(fault: Fault) -> f64 {
    let mut watch = SentinelWatch::start(DOWN_AFTER);
    let old = watch.primary.instance();
    let writers = Writers::start(&old);
    wait::until("the writers are under way", || {
        (writers.acked() >= LEAD_WRITES).then_some(())
    });
    let fault_at = Instant::now();
    match fault {
        Fault::Kill => watch.primary.kill9(),
        Fault::Hang => watch.primary.pause(),
    }
    let first = wait::until_within(PEER_MAX, "a new primary acknowledges a write", || {
        let named: Vec<InstanceId> = watch.named().filter(|named| *named != old).collect();
        let acked = named.iter().any(|named| write(named).is_some());
        acked.then(Instant::now)
    });
    if matches!(fault, Fault::Hang) {
        // The writers still wait for it.
        watch.primary.resume();
    }
    first.duration_since(fault_at).as_secs_f64() * 1000.0
}

/// One write that a replica acknowledged, on a connection of its own.
fn write(server: &InstanceId) -> Option<()> {
    let mut connection = connect(server)?;
    acknowledged(&mut connection, "first", 1000)
}

fn connect(server: &InstanceId) -> Option<redis::Connection> {
    let client =
        redis::Client::open(format!("redis://{}:{}/", server.host(), server.port())).ok()?;
    let connection = client
        .get_connection_with_timeout(Duration::from_secs(1))
        .ok()?;
    connection
        .set_read_timeout(Some(Duration::from_secs(2)))
        .ok()?;
    Some(connection)
}

fn acknowledged(connection: &mut redis::Connection, key: &str, millis: u64) -> Option<()> {
    let (holders,): (usize,) = redis::pipe()
        .cmd("SET")
        .arg(key)
        .arg(1)
        .ignore()
        .cmd("WAIT")
        .arg(1)
        .arg(millis)
        .query(connection)
        .ok()?;
    (holders >= 1).then_some(())
}

/// The load before the fault; each ends by itself when its server fails.
struct Writers {
    acked: Arc<AtomicU64>,
    // Dropping it stops them.
    _stop: Vec<mpsc::Sender<()>>,
}

impl Writers {
    fn start(server: &InstanceId) -> Self {
        let acked = Arc::new(AtomicU64::new(0));
        let stops = (0..WRITERS).map(|writer| {
            let (stop, stopped) = mpsc::channel();
            let (acked, server) = (Arc::clone(&acked), server.clone());
            thread::spawn(move || {
                let Some(mut connection) = connect(&server) else {
                    return;
                };
                for number in 0_u64.. {
                    if stopped.recv_timeout(PACE) != Err(mpsc::RecvTimeoutError::Timeout) {
                        return;
                    }
                    let key = format!("bench:{writer}:{number}");
                    if acknowledged(&mut connection, &key, 1000).is_none() {
                        return;
                    }
                    acked.fetch_add(1, Ordering::Relaxed);
                }
            });
            stop
        });
        Self {
            _stop: stops.collect(),
            acked,
        }
    }

    fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }
}
