#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Whole clusters from drawn seeds: nothing is violated, enough happens, and a seed is a run.
//!
//! `SIM_SEEDS=N` runs N seeds instead of the usual number, `SIM_FIRST=N` begins elsewhere, and
//! `SIM_SEED=N` runs that one and prints what happened in it.

use std::time::Duration;

use sentinel_tests::sim::history::Totals;
use sentinel_tests::sim::run::{Report, run};
use sentinel_tests::sim::script::play_on_postgres;
use sentinel_tests::sim::script_postgres::voters_lost_in_a_pause;
use sentinel_tests::sim::settings::Settings;
use sentinel_tests::sim::trace::Text;

/// Seeds of a usual run.
const SEEDS: u64 = 100;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap())
}

/// Two in four seeds have servers of PostgreSQL's shape, and one of either shape is a stormy one; `SIM_STORMY=1` makes
/// all of them so, `SIM_SHAPE=redis` or `postgres` gives all of them one shape.
fn drawn(seed: u64) -> Settings {
    let stormy = seed % 4 < 2 || std::env::var("SIM_STORMY").is_ok();
    let settings = if stormy {
        Settings::stormy(seed)
    } else {
        Settings::drawn(seed)
    };
    let postgres = match std::env::var("SIM_SHAPE").as_deref() {
        Ok("redis") => false,
        Ok("postgres") => true,
        Ok(_) | Err(_) => seed % 2 == 1,
    };
    if postgres {
        settings.postgres()
    } else {
        settings
    }
}

fn hours(duration: Duration) -> f64 {
    duration.as_secs_f64() / 3600.0
}

fn failed(seed: u64, report: &Report) -> Option<String> {
    let violation = report.violation.as_ref()?;
    Some(format!(
        "seed {seed}: {violation}\n  replay: SIM_SEED={seed} cargo test -p sentinel-tests --test sim_safety one_seed -- --nocapture"
    ))
}

#[test]
fn nothing_is_violated_and_enough_happens() {
    let first = number("SIM_FIRST").unwrap_or(1);
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let mut totals = Totals::default();
    let mut simulated = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    let mut failures = Vec::new();
    for seed in first..first + seeds {
        let report = run(drawn(seed));
        totals.add(&report.totals);
        simulated += report.simulated;
        slowest = slowest.max(report.recovered.unwrap_or_default());
        failures.extend(failed(seed, &report));
    }
    println!(
        "{seeds} seeds, {:.2} simulated hours, slowest recovery {slowest:?}, {totals:?}",
        hours(simulated)
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(totals.promotions > seeds / 4, "too quiet: {totals:?}");
    assert!(totals.acknowledged > seeds * 100, "too quiet: {totals:?}");
    assert!(totals.faults > seeds, "too quiet: {totals:?}");
}

/// With an operator and no fault, switchovers come to their end and lose nothing, also of what nobody was told.
#[test]
fn switchovers_alone_lose_nothing() {
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    for seed in 1..=12 {
        let report = run(Settings::switchovers(seed));
        failures.extend(failed(seed, &report));
        let ended = report.totals.switchovers - report.totals.called_off;
        if report.totals.promotions + 1 < ended || report.totals.promotions < 3 {
            failures.push(format!("seed {seed}: {:?}", report.totals));
        }
        totals.add(&report.totals);
    }
    println!("{totals:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A primary that was paused when everybody was lost comes back by itself, and nothing that it takes then is lost.
#[test]
fn a_pause_that_outlives_every_leader_loses_nothing() {
    let seeds = number("SIM_SEEDS").unwrap_or(40);
    let mut totals = Totals::default();
    let mut failures = Vec::new();
    for seed in 1..=seeds {
        let report = play_on_postgres(voters_lost_in_a_pause, Vec::new(), seed);
        failures.extend(failed(seed, &report));
        totals.add(&report.totals);
    }
    println!("{totals:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(totals.outlasted > seeds / 5, "it stays stopped: {totals:?}");
}

/// Everything that decides a run is in its seed: not time, not memory, not the order of a map.
#[test]
fn the_same_seed_is_the_same_run() {
    let mut hashes = std::collections::BTreeSet::new();
    for seed in 1..=8 {
        let (first, second) = (run(drawn(seed)), run(drawn(seed)));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.totals, second.totals, "seed {seed}");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 8, "different seeds are different runs");
}

/// Keeping the text changes nothing, so that a replay shows the run that failed.
#[test]
fn a_replay_is_the_run_that_it_shows() {
    let mut settings = drawn(4);
    let silent = run(settings.clone());
    settings.text = Text::On;
    let told = run(settings);
    assert_eq!((silent.hash, silent.tail.as_str()), (told.hash, ""));
    assert!(!told.tail.is_empty());
}

#[test]
fn one_seed() {
    let seed = number("SIM_SEED").unwrap_or(1);
    let mut settings = drawn(seed);
    settings.text = Text::On;
    println!("{settings:?}");
    let report = run(settings);
    if number("SIM_SEED").is_some() {
        println!("{}", report.tail);
    }
    println!("{:?} in {:?}", report.totals, report.simulated);
    assert_eq!(failed(seed, &report), None);
}
