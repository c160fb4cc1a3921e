//! Each way of stopping has its limit, and goes on to the next, rougher one when that is over.

use std::time::Duration;

use sentinel_core::action::ActionKind;
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion};
use sentinel_tests::wait;

use crate::client::Client;
use crate::minded::Minded;

/// A primary that was replaced, under an agent with these limits (smart, fast, immediate) in milliseconds.
fn deposed(limits: [u64; 3]) -> (PostgresServer, PostgresServer, Minded) {
    let old = PostgresServer::primary(&PostgresVersion::any());
    let new = PostgresServer::standby_of(&old);
    old.wait_for_standby(&new);
    new.execute("SELECT pg_promote()");
    let mut minded = Minded::prepare(&old);
    let [smart, fast, immediate] = limits.map(Duration::from_millis);
    minded.settings.limits.smart = smart;
    minded.settings.limits.fast = fast;
    minded.settings.limits.immediate = immediate;
    minded.begin();
    (old, new, minded)
}

/// The ways of stopping that the server saw, and how long after each the next thing came: another way, or its new start.
type Stops = Vec<(String, Duration)>;

/// Gives the order that stops it, and follows it until it is back.
fn stop(old: &PostgresServer, new: &PostgresServer, minded: &Minded) -> Stops {
    let primary = new.instance();
    minded.order_until_done(&ActionKind::Demote { primary }, 2);
    new.wait_for_standby(old);
    stops(&old.log_text())
}

fn stops(log: &str) -> Stops {
    let mut stops = Stops::new();
    let mut began: Option<(String, Duration)> = None;
    for line in log.lines() {
        let stop = line.split_once("received ");
        let mode = stop.and_then(|(_, rest)| rest.split_once(" shutdown request"));
        let started = began.is_some() && line.contains("starting PostgreSQL");
        if mode.is_some() || started {
            if let Some((mode, since)) = began.take() {
                stops.push((mode, at(line).saturating_sub(since)));
            }
            began = mode.map(|(mode, _)| (mode.to_owned(), at(line)));
        }
    }
    stops
}

/// The time of day of a line `2026-01-02 03:04:05.678 UTC …`.
fn at(line: &str) -> Duration {
    let time = line.split(' ').nth(1).unwrap();
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().unwrap()).collect();
    Duration::from_secs_f64(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2])
}

/// The ways of stopping that a server has seen so far.
pub(crate) fn modes_of(server: &PostgresServer) -> Vec<String> {
    let stops = stops(&server.log_text());
    stops.into_iter().map(|(mode, _)| mode).collect()
}

fn modes(stops: &Stops) -> Vec<&str> {
    stops.iter().map(|(mode, _)| mode.as_str()).collect()
}

const LONG: u64 = 30_000;
/// Of the limits that run out.
const SHORT: u64 = 1500;

#[track_caller]
fn ran_out(span: Duration) {
    assert!(span >= Duration::from_millis(SHORT - 50), "{span:?}");
}

#[track_caller]
fn did_not_run_out(span: Duration) {
    assert!(span < Duration::from_millis(LONG / 2), "{span:?}");
}

/// The sessions by which the coordinator itself looks at the server are no clients to be waited for.
#[test]
fn a_smart_stop_is_enough_where_only_the_coordinator_is_connected() {
    let (old, new, minded) = deposed([LONG, LONG, LONG]);
    // The agent's own reader stands from here on.
    minded.order_until_done(&ActionKind::RefuseWrites, 2);
    let ours = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE 'sentinel-%'";
    assert_eq!(old.value(ours), "t");
    let stops = stop(&old, &new, &minded);
    assert_eq!(modes(&stops), ["smart"]);
    did_not_run_out(stops[0].1);
}

#[test]
fn a_smart_stop_waits_for_a_client_that_leaves_in_time() {
    let (old, new, minded) = deposed([LONG, LONG, LONG]);
    let client = Client::of(&old);
    let log = old.folder().join("log/postgresql.log");
    let leaving = std::thread::spawn(move || {
        wait::until("the smart stop begins", || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.contains("received smart shutdown").then_some(())
        });
        client.works()
    });
    let stops = stop(&old, &new, &minded);
    assert!(leaving.join().unwrap(), "it was sent away");
    assert_eq!(modes(&stops), ["smart"]);
}

#[test]
fn a_client_that_stays_is_sent_away_when_the_smart_stop_is_over() {
    let (old, new, minded) = deposed([SHORT, LONG, LONG]);
    let client = Client::of(&old);
    let stops = stop(&old, &new, &minded);
    assert_eq!(modes(&stops), ["smart", "fast"]);
    ran_out(stops[0].1);
    did_not_run_out(stops[1].1);
    assert!(!client.works());
}

/// The server itself kills what does not end within five seconds of an immediate stop.
#[test]
fn a_session_that_hangs_outlives_the_fast_stop_and_not_the_immediate_one() {
    let (old, new, minded) = deposed([0, SHORT, LONG]);
    let client = Client::of(&old);
    client.hang();
    let stops = stop(&old, &new, &minded);
    assert_eq!(modes(&stops), ["fast", "immediate"]);
    ran_out(stops[0].1);
    did_not_run_out(stops[1].1);
    // It stopped by itself: it says so last of all.
    assert!(old.log_text().contains("database system is shut down"));
}

#[test]
fn a_server_that_outlives_every_way_is_killed() {
    let (old, new, minded) = deposed([SHORT, SHORT, SHORT]);
    let client = Client::of(&old);
    client.hang();
    let stops = stop(&old, &new, &minded);
    assert_eq!(modes(&stops), ["smart", "fast", "immediate"]);
    for (_, took) in stops {
        ran_out(took);
    }
    let log = old.log_text();
    let (_, after) = log.split_once("received immediate shutdown").unwrap();
    let (dying, _) = after.split_once("starting PostgreSQL").unwrap();
    assert!(!dying.contains("database system is shut down"), "{dying}");
}
