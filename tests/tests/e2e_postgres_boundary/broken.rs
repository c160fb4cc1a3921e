//! A service that has just lost its primary in the middle of a record: one standby promoted, two that hold a chosen part
//! of that record and still point at nobody.
//!
//! Writes until the next record begins at a chosen byte, cuts the streams, kills the primary, promotes. What becomes of
//! the two is judged elsewhere.

use std::fs;

use sentinel_core::position::Offset;
use sentinel_tests::postgres_server::{Options, PostgresServer, PostgresVersion, Role};
use sentinel_tests::wait;
use sentinel_tests::wal_proxy::WalProxy;

use crate::place::Place;

/// The tests' servers have the smallest segments that there are.
pub(crate) const SEGMENT: u64 = 1 << 20;

const PAGE: u64 = 8192;

/// Of every page but a segment's first.
const PAGE_HEADER: u64 = 24;

/// What a message of more than 255 bytes costs besides itself: the record's header, the data's header, the message's
/// header, and its prefix of one letter with its end.
const MESSAGE_OVERHEAD: u64 = 24 + 5 + 24 + 2;

/// How often the record is missed because the server wrote a record of its own in between.
const ATTEMPTS: usize = 5;

const ROWS: &str =
    "INSERT INTO held (text) SELECT repeat(md5(n::text), 4) FROM generate_series(1, 500) n";

/// Invariant: `reloaded` and `handled` received exactly up to `received`, and replayed up to `replayed`.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) promoted: PostgresServer,
    /// Will be pointed at the promoted one by a mere reload.
    pub(crate) reloaded: PostgresServer,
    /// Will be brought over by the agent's procedure.
    pub(crate) handled: PostgresServer,
    pub(crate) fork: Offset,
    /// End of the segment that holds the fork.
    pub(crate) end: Offset,
    pub(crate) received: Offset,
    pub(crate) replayed: Offset,
}

impl Broken {
    /// Loses a primary of this version so that the stream ends at this place.
    ///
    /// # Panics
    /// When the server writes records of its own in between every time.
    pub(crate) fn at(version: &PostgresVersion, place: Place) -> Self {
        (0..ATTEMPTS)
            .find_map(|_| Self::attempt(version, place))
            .unwrap_or_else(|| {
                panic!("{version}: no record began at its place in {ATTEMPTS} attempts")
            })
    }

    fn attempt(version: &PostgresVersion, place: Place) -> Option<Self> {
        let mut primary = PostgresServer::primary_with(version, options());
        primary.execute("CREATE TABLE held (id serial PRIMARY KEY, text text)");
        let standbys = [0; 3].map(|_| PostgresServer::standby_with(&primary, options()));
        let proxies = [0; 3].map(|_| WalProxy::before(primary.port()));
        for (standby, proxy) in standbys.iter().zip(&proxies) {
            point_at(standby, proxy.port());
            let port = proxy.port().to_string();
            standby.wait_for(
                "SELECT sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming'",
                &port,
            );
        }
        let end = fill_to_record(&primary, place)?;
        let cut = place.cut(end);
        for proxy in &proxies {
            proxy.cut_at(cut);
        }
        emit(&primary, place.message_bytes());
        // Its commit flushes the record too.
        primary.execute("INSERT INTO held (text) VALUES ('lost with the primary')");
        for standby in &standbys {
            standby.wait_for("SELECT pg_last_wal_receive_lsn()", &text(cut));
        }
        primary.kill();
        drop(proxies);
        for standby in &standbys {
            standby.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0");
        }
        let [promoted, reloaded, handled] = standbys;
        let fork = promote(&promoted);
        if fork != place.fork(end) {
            return None;
        }
        let replayed = offset(&reloaded.value("SELECT pg_last_wal_replay_lsn()"));
        Some(Self {
            promoted,
            reloaded,
            handled,
            fork,
            end,
            received: cut,
            replayed,
        })
    }

    /// Writes on the promoted server until its log has left the fork's segment; gives the end of what it wrote.
    pub(crate) fn write_past_the_segment(&self) -> Offset {
        wait::until("the promoted server leaves the segment", || {
            self.promoted.execute(ROWS);
            let flushed = offset(&self.promoted.value("SELECT pg_current_wal_flush_lsn()"));
            (flushed.0 > self.end.0 + 8 * PAGE).then_some(flushed)
        })
    }

    /// All three hold the same rows, those among them that were written after the promotion.
    #[track_caller]
    pub(crate) fn assert_equal_rows(&self) {
        let digest =
            "SELECT count(*) || ' ' || md5(string_agg(id || text, ',' ORDER BY id)) FROM held";
        let wanted = self.promoted.value(digest);
        for standby in [&self.reloaded, &self.handled] {
            assert_eq!(standby.value(digest), wanted);
        }
    }
}

/// The server's own records come seldom.
fn options() -> Options {
    Options::default()
        .line("autovacuum = off")
        .line("checkpoint_timeout = '1h'")
        .line("max_wal_size = '256MB'")
        .line("wal_retrieve_retry_interval = '100ms'")
}

/// By a reload, as the coordinator does without an agent.
pub(crate) fn point_at(standby: &PostgresServer, port: u16) {
    let user = Role::Sentinel.name();
    let name = standby.instance();
    standby.execute(&format!(
        "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={port} user={user} application_name={name}'"
    ));
    standby.execute("SELECT pg_reload_conf()");
}

/// Writes until the next record begins where the place wants it; gives the end of that segment, or `None` when a record
/// of the server's own came in between.
fn fill_to_record(primary: &PostgresServer, place: Place) -> Option<Offset> {
    primary.execute("SELECT pg_switch_wal()");
    primary.execute(ROWS);
    let end = Offset((next_record(primary).0 / SEGMENT + 1) * SEGMENT);
    let fork = place.fork(end);
    loop {
        let at = next_record(primary);
        let left = fork.0.checked_sub(at.0)?;
        if left > 60_000 {
            emit(primary, (left - 50_000).min(50_000));
            continue;
        }
        // Every boundary of a page in between takes a header.
        let headers = (fork.0 - 1) / PAGE - at.0 / PAGE;
        let room = left.checked_sub(headers * PAGE_HEADER + MESSAGE_OVERHEAD)?;
        emit(primary, room);
        return (next_record(primary) == fork).then_some(end);
    }
}

fn emit(primary: &PostgresServer, bytes: u64) {
    primary.execute(&format!(
        "SELECT pg_logical_emit_message(false, 'x', repeat('a', {bytes}))"
    ));
}

fn next_record(primary: &PostgresServer) -> Offset {
    offset(&primary.value("SELECT pg_current_wal_insert_lsn()"))
}

/// Gives the fork, from the history file of the new timeline.
fn promote(standby: &PostgresServer) -> Offset {
    standby.execute("SELECT pg_promote(false)");
    standby.wait_for("SELECT pg_is_in_recovery()", "f");
    let path = standby.data_dir().join("pg_wal/00000002.history");
    let history = fs::read_to_string(path).unwrap();
    offset(history.split_whitespace().nth(1).unwrap())
}

/// Reads `0/BFFE78`.
pub(crate) fn offset(text: &str) -> Offset {
    let (high, low) = text.split_once('/').unwrap();
    let half = |text| u64::from_str_radix(text, 16).unwrap();
    Offset(half(high) << 32 | half(low))
}

/// Writes `0/BFFE78`.
pub(crate) fn text(place: Offset) -> String {
    format!("{:X}/{:X}", place.0 >> 32, place.0 & 0xffff_ffff)
}
