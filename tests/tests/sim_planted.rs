#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Planted bugs: with a rule left out, an invariant that stands for it notices within a bounded number of seeds.
//!
//! Prints the table of bugs, what may notice each, the seeds that it needed, and what did. `SIM_BUG=Name` hunts one of
//! them alone, `SIM_SEEDS=N` with another budget.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sentinel_core::planted::Bug;
use sentinel_tests::sim::invariant::Violation;
use sentinel_tests::sim::run::run;
use sentinel_tests::sim::script::{
    Scenario, found_frozen, frozen_replica_restarted, holder_excluded, holder_restarted_and_chosen,
    holder_restarted_without_its_tail, member_restarted_during_a_change,
    old_primary_back_without_data, order_arrives_late, order_arrives_late_at_an_agent, play,
    play_on_postgres, primary_back_while_freezing, target_lost_before_it_was_followed,
    target_lost_while_alone,
};
use sentinel_tests::sim::script_postgres::{
    holder_replays_slowly, siblings_promoted_at_one_point, standby_beyond_the_fork,
    target_lost_right_after_its_promotion, torn_record_outlives_its_promotion,
};
use sentinel_tests::sim::settings::{Settings, Shape};

/// Seeds within which a bug must be found.
const SEEDS: u64 = 150;

/// Invariants each of which at least one bug must make speak.
const SPEAK: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 10, 11];

/// Demanded progress, by its number among the invariants.
const PROGRESS: u8 = 8;

/// A rule left out, what brings it into play, and what may notice.
#[derive(Clone, Copy)]
struct Planted {
    bug: Bug,
    /// Whose semantics the servers have.
    shape: Shape,
    /// Drawn faults where there is none.
    scenario: Option<Scenario>,
    /// Numbers of the invariants that stand for the rule; what another one says does not count.
    by: &'static [u8],
}

const fn drawn(bug: Bug, by: &'static [u8]) -> Planted {
    Planted {
        bug,
        shape: Shape::Redis,
        scenario: None,
        by,
    }
}

const fn directed(bug: Bug, scenario: Scenario, by: &'static [u8]) -> Planted {
    Planted {
        bug,
        shape: Shape::Redis,
        scenario: Some(scenario),
        by,
    }
}

const fn on_postgres(planted: Planted) -> Planted {
    Planted {
        shape: Shape::Postgres,
        ..planted
    }
}

/// A rule of safety is noticed by an invariant of safety; only the rules L1 to L3 are about progress.
const PLANTED: [Planted; 29] = [
    // No seed has come from it to a lost write: what speaks is that a member of another life is a target.
    drawn(Bug::OffsetOnly, &[4, 11]),
    directed(Bug::NoFloor, target_lost_before_it_was_followed, &[4]),
    directed(Bug::NoCatchUp, holder_excluded, &[4]),
    directed(Bug::AnyIncarnation, holder_restarted_without_its_tail, &[4]),
    directed(Bug::AnyIncarnation, holder_restarted_and_chosen, &[11]),
    directed(Bug::StaleFreeze, found_frozen, &[5]),
    directed(Bug::NoConnectionClosing, order_arrives_late, &[6]),
    drawn(Bug::AnonymousCount, &[4]),
    directed(
        Bug::PromoteWithoutQuorum,
        target_lost_while_alone,
        &[1, 4, 5],
    ),
    drawn(Bug::RetargetSameEpoch, &[1]),
    drawn(Bug::VetoLowersBar, &[4]),
    directed(Bug::UnfreezeBeforeCommit, primary_back_while_freezing, &[7]),
    drawn(Bug::ObserveByWrite, &[PROGRESS]),
    drawn(Bug::OldPrimaryInQuorum, &[PROGRESS]),
    directed(
        Bug::AdmitBeforeData,
        old_primary_back_without_data,
        &[PROGRESS],
    ),
    drawn(Bug::SkipSeal, &[5]),
    directed(
        Bug::AnswerBeforePromoted,
        target_lost_before_it_was_followed,
        &[2],
    ),
    drawn(Bug::SendBeforePersist, &[10]),
    drawn(Bug::ActWithoutQuorum, &[3]),
    directed(Bug::AcceptLowerToken, order_arrives_late_at_an_agent, &[6]),
    directed(Bug::FreezeNotPersisted, frozen_replica_restarted, &[7]),
    on_postgres(directed(
        Bug::QuorumAfterPromote,
        target_lost_right_after_its_promotion,
        &[4],
    )),
    on_postgres(directed(
        Bug::UnderstatedPosition,
        holder_replays_slowly,
        &[4],
    )),
    on_postgres(directed(
        Bug::RepointTold,
        siblings_promoted_at_one_point,
        &[11],
    )),
    on_postgres(directed(
        Bug::RepointUnchecked,
        standby_beyond_the_fork,
        &[11],
    )),
    on_postgres(directed(
        Bug::ForkFromFreeze,
        torn_record_outlives_its_promotion,
        &[4],
    )),
    on_postgres(drawn(Bug::SkipSeal, &[5])),
    on_postgres(drawn(Bug::VetoLowersBar, &[4])),
    on_postgres(drawn(Bug::RetargetSameEpoch, &[1])),
];

/// The number that an invariant's name begins with.
fn number(violation: &Violation) -> Option<u8> {
    let (number, _) = violation.invariant.split_once(' ')?;
    number.parse().ok()
}

/// The first seed in which one of its invariants speaks, and how often others did before.
fn hunt(planted: &Planted, seeds: u64) -> (Option<(u64, Violation)>, u64) {
    let mut others = 0;
    for seed in 1..=seeds {
        let report = match (planted.scenario, planted.shape) {
            (Some(scenario), Shape::Redis) => play(scenario, vec![planted.bug], seed),
            (Some(scenario), Shape::Postgres) => {
                play_on_postgres(scenario, vec![planted.bug], seed)
            }
            (None, Shape::Redis) => run(Settings::hunting(planted.bug, seed)),
            (None, Shape::Postgres) => run(Settings::hunting(planted.bug, seed).postgres()),
        };
        let Some(violation) = report.violation else {
            continue;
        };
        if number(&violation).is_some_and(|number| planted.by.contains(&number)) {
            return (Some((seed, violation)), others);
        }
        others += 1;
    }
    (None, others)
}

/// With every rule in place the directed scenarios violate nothing: else they would show nothing.
#[test]
fn the_scenarios_are_survived_with_every_rule_in_place() {
    for planted in PLANTED {
        let Planted { bug, shape, .. } = planted;
        let Some(scenario) = planted.scenario else {
            continue;
        };
        for seed in 1..=5 {
            let report = match shape {
                Shape::Redis => play(scenario, Vec::new(), seed),
                Shape::Postgres => play_on_postgres(scenario, Vec::new(), seed),
            };
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

/// A switchover that does not wait for the last write of the old primary loses it, though nothing breaks.
#[test]
fn a_switchover_that_skips_the_pause_is_noticed() {
    let found = (1..=SEEDS).find_map(|seed| {
        let mut settings = Settings::switchovers(seed);
        settings.bugs = vec![Bug::SwitchWithoutPause];
        run(settings).violation
    });
    let found = found.unwrap();
    assert_eq!(found.invariant, "4 a switchover loses nothing", "{found:?}");
}

#[test]
fn every_planted_bug_is_noticed() {
    let wanted = std::env::var("SIM_BUG").ok();
    let seeds = std::env::var("SIM_SEEDS").map_or(SEEDS, |n| n.parse().unwrap());
    let mut table = String::new();
    let mut missed = Vec::new();
    let mut spoke = BTreeSet::new();
    for planted in PLANTED {
        let name = format!("{:?}", planted.bug);
        if wanted.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        let by = format!("{:?}", planted.by);
        let (found, others) = hunt(&planted, seeds);
        write!(table, "{name:22} {by:9} ").unwrap();
        match found {
            Some((seed, violation)) => {
                let text: String = violation.text.chars().take(130).collect();
                let invariant = violation.invariant;
                writeln!(table, "{seed:4} {others:4}  {invariant} | {text}").unwrap();
                spoke.extend(number(&violation));
            }
            None => {
                writeln!(table, "   - {others:4}").unwrap();
                missed.push((name, planted.by));
            }
        }
    }
    println!("bug, by which invariants, seed, seeds in which another spoke\n{table}");
    assert!(
        missed.is_empty(),
        "not noticed in {seeds} seeds: {missed:?}"
    );
    if wanted.is_none() {
        let mute: Vec<u8> = SPEAK.into_iter().filter(|n| !spoke.contains(n)).collect();
        assert!(
            mute.is_empty(),
            "invariants that nothing makes speak: {mute:?}"
        );
    }
}
