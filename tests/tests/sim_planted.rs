#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Planted bugs: with a rule left out, an invariant notices within a bounded number of seeds.
//!
//! Prints the table of bugs, the seeds that each needed, and what noticed. `SIM_BUG=Name` hunts one of
//! them alone, `SIM_SEEDS=N` with another budget.

use std::fmt::Write as _;

use sentinel_core::planted::Bug;
use sentinel_tests::sim::invariant::Violation;
use sentinel_tests::sim::run::run;
use sentinel_tests::sim::script::{
    Scenario, found_frozen, frozen_replica_restarted, holder_excluded,
    holder_restarted_without_its_tail, member_restarted_during_a_change, play,
    primary_back_while_freezing, target_lost_before_it_was_followed,
};
use sentinel_tests::sim::settings::Settings;

/// Seeds within which a bug must be found.
const SEEDS: u64 = 150;

/// Bugs that drawn faults bring to light, and directed ones.
const BUGS: [(Bug, Option<Scenario>); 19] = [
    (Bug::OffsetOnly, None),
    (Bug::NoFloor, Some(target_lost_before_it_was_followed)),
    (Bug::NoCatchUp, Some(holder_excluded)),
    (Bug::AnyIncarnation, Some(holder_restarted_without_its_tail)),
    (Bug::StaleFreeze, Some(found_frozen)),
    (Bug::NoConnectionClosing, None),
    (Bug::AnonymousCount, None),
    (Bug::PromoteWithoutQuorum, None),
    (Bug::RetargetSameEpoch, None),
    (Bug::VetoLowersBar, None),
    (Bug::UnfreezeBeforeCommit, Some(primary_back_while_freezing)),
    (Bug::ObserveByWrite, None),
    (Bug::OldPrimaryInQuorum, None),
    (Bug::AdmitBeforeData, None),
    (Bug::SkipSeal, None),
    (Bug::SendBeforePersist, None),
    (Bug::ActWithoutQuorum, None),
    (Bug::AcceptLowerToken, None),
    (Bug::FreezeNotPersisted, Some(frozen_replica_restarted)),
];

fn hunt(bug: Bug, scenario: Option<Scenario>, seeds: u64) -> Option<(u64, Violation)> {
    (1..=seeds).find_map(|seed| {
        let report = match scenario {
            Some(scenario) => play(scenario, vec![bug], seed),
            None => run(Settings::hunting(bug, seed)),
        };
        report.violation.map(|violation| (seed, violation))
    })
}

/// With every rule in place the directed scenarios violate nothing: else they would show nothing.
#[test]
fn the_scenarios_are_survived_with_every_rule_in_place() {
    for (bug, scenario) in BUGS {
        let Some(scenario) = scenario else { continue };
        for seed in 1..=5 {
            let report = play(scenario, Vec::new(), seed);
            assert_eq!(
                report.violation,
                None,
                "scenario of {bug:?}, seed {seed}\n{}",
                without_writes(&report.tail)
            );
        }
    }
}

fn without_writes(tail: &str) -> String {
    let lines = tail
        .lines()
        .filter(|line| !line.contains("is acknowledged"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A bug that a seed found, as a script that needs no seed.
#[test]
fn a_member_may_restart_during_a_change() {
    for seed in 1..=5 {
        let report = play(member_restarted_during_a_change, Vec::new(), seed);
        let text = without_writes(&report.tail);
        assert_eq!(report.violation, None, "seed {seed}\n{text}");
    }
}

#[test]
fn every_planted_bug_is_noticed() {
    let wanted = std::env::var("SIM_BUG").ok();
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |n| n.parse().unwrap());
    let mut table = String::new();
    let mut missed = Vec::new();
    for (bug, scenario) in BUGS {
        let name = format!("{bug:?}");
        if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        match hunt(bug, scenario, seeds) {
            Some((seed, violation)) => {
                let text: String = violation.text.chars().take(150).collect();
                writeln!(
                    table,
                    "{name:22} {seed:4}  {} | {text}",
                    violation.invariant
                )
                .unwrap();
            }
            None => {
                writeln!(table, "{name:22}    -").unwrap();
                missed.push(name);
            }
        }
    }
    println!("{table}");
    assert!(
        missed.is_empty(),
        "not noticed in {seeds} seeds: {missed:?}"
    );
}
