#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Whole clusters from drawn seeds: nothing is violated, enough happens, and a seed is a run.
//!
//! `SIM_SEEDS=N` runs N seeds instead of the usual number, `SIM_FIRST=N` begins elsewhere, and
//! `SIM_SEED=N` runs that one and prints what happened in it.

use std::time::Duration;

use sentinel_tests::sim::history::Totals;
use sentinel_tests::sim::run::{Report, run};
use sentinel_tests::sim::settings::Settings;
use sentinel_tests::sim::trace::Text;

/// Seeds of a usual run.
const SEEDS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap())
}

/// Every fourth seed is a stormy one.
fn drawn(seed: u64) -> Settings {
    if seed.is_multiple_of(4) || std::env::var("SIM_STORMY").is_ok() {
        Settings::stormy(seed)
    } else {
        Settings::drawn(seed)
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
