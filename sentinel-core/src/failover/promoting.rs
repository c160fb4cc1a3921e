//! Promoting: the target of this epoch is told, and observed as primary; or it cannot be, and a new
//! epoch begins. Never another target in the same epoch (rule S10).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::ActionKind;
use crate::failover::plan::Plan;
use crate::failover::sight::Sight;
use crate::id::{Incarnation, InstanceId, Member};
use crate::ledger::{Decision, QuorumConfig};
use crate::observation::{Facts, Link, Role, WriteQuorum};
use crate::planted::Bug;
use crate::position::{Lineage, Offset, Position};
use crate::time::Instant;

/// Deadlines of an action after which a promotion that nobody could observe is given up.
const DEADLINES_MAX: u32 = 3;

/// How long a promotion that is known to go on may take: the target replays what it has received. Another target would
/// have to replay the same.
const GOES_ON_MAX: Duration = Duration::from_secs(30);

pub(crate) fn plan(sight: &Sight<'_>, target: &Member, position: &Position) -> Plan {
    let mut plan = Plan::default();
    let instance = &target.instance;
    let Some(config) = sight.state.configs.last() else {
        return plan;
    };
    if let Some(reading) = sight.watch(instance).and_then(|watch| watch.reading()) {
        if observed(sight, &reading.facts, target, position, config)
            && let Some(now_at) = &reading.facts.position
        {
            plan.because(
                "promoted",
                format!("{instance} is primary, with lineage {}", now_at.lineage),
            );
            plan.decision = Some(Decision::Promoted {
                position: now_at.clone(),
                fork: left_chain_at(sight, &reading.facts),
                namesakes: namesakes(sight, target, config, &now_at.lineage),
            });
            return plan;
        }
        if reading.facts.incarnation != target.incarnation {
            plan.because(
                "target_restarted",
                format!("{instance} restarted after it was chosen"),
            );
            plan.decision = Some(Decision::Freeze);
            return plan;
        }
    }
    let until = given_up_at(sight);
    let busy = sight.desk.under_way.contains_key(instance);
    if sight.desk.promotion_refused {
        plan.because(
            "target_refused",
            format!("{instance} refused to be promoted"),
        );
        plan.decision = Some(Decision::Freeze);
    } else if sight.now >= until && !busy {
        plan.because(
            "target_unknown",
            format!("{instance} was told to promote, and nobody knows whether it did"),
        );
        plan.decision = Some(Decision::Freeze);
    } else {
        plan.because(
            "promoting",
            format!("{instance} is being promoted from {position}"),
        );
        plan.wake_at(until);
        plan.look.insert(instance.clone());
        let quorum = if sight.bugs.has(Bug::PromoteWithoutQuorum) {
            WriteQuorum {
                k: 0,
                members: Default::default(),
                ..config.write_quorum()
            }
        } else {
            config.write_quorum()
        };
        let kind = ActionKind::Promote {
            expect: target.clone(),
            position: position.clone(),
            quorum: quorum.clone(),
        };
        plan.order(sight, instance, kind);
        if sight.bugs.has(Bug::RetargetSameEpoch) && sight.desk.refusals.contains_key(instance) {
            retarget(sight, &mut plan, target, quorum);
        }
    }
    plan
}

/// When a promotion that nobody could observe is given up: soon, unless it is known to go on.
fn given_up_at(sight: &Sight<'_>) -> Instant {
    let since = sight.desk.stage_since;
    let usual = since + sight.state.settings.action_deadline * DEADLINES_MAX;
    let known = sight.desk.promotion_goes_on.unwrap_or(usual);
    known.min(since + GOES_ON_MAX).max(usual)
}

/// The promotion happened: in the incarnation that was told, from the position that was told, with its write quorum.
fn observed(
    sight: &Sight<'_>,
    facts: &Facts,
    target: &Member,
    position: &Position,
    config: &QuorumConfig,
) -> bool {
    let acknowledged = || {
        let streaming = facts
            .replicas
            .iter()
            .filter(|replica| replica.link == Link::Streaming)
            .count();
        streaming >= config.k as usize
    };
    // One that is found promoted may still have the write quorum of an earlier order (rule S9).
    let in_force = facts.write_quorum.as_ref() == Some(&config.write_quorum())
        || sight.bugs.has(Bug::PromoteWithoutQuorum);
    facts.role == Role::Primary
        && in_force
        && facts.incarnation == target.incarnation
        && facts
            .fork
            .as_ref()
            .is_some_and(|fork| fork.lineage == position.lineage && fork.offset <= position.offset)
        && (!sight.bugs.has(Bug::ObserveByWrite) || acknowledged())
}

/// Where the new primary's history left the chain. An engine that forks at its last whole record forks at or before
/// the position at which it was frozen.
fn left_chain_at(sight: &Sight<'_>, facts: &Facts) -> Offset {
    let foreseen = sight
        .state
        .chain
        .last()
        .map_or(Offset(0), |last| last.start);
    if sight.bugs.has(Bug::ForkFromFreeze) {
        return foreseen;
    }
    facts
        .fork
        .as_ref()
        .map_or(foreseen, |fork| fork.offset.min(foreseen))
}

/// An engine may give this branch the name of an earlier one: of a primary that was seen, but of which the target never
/// heard. Whoever may have followed that one cannot be told from the followers of this one by any name. Only the members
/// of the new write quorum, frozen in this epoch, are known to hold nothing beyond the beginning of this branch.
fn namesakes(
    sight: &Sight<'_>,
    target: &Member,
    config: &QuorumConfig,
    lineage: &Lineage,
) -> BTreeMap<InstanceId, Incarnation> {
    let state = sight.state;
    let mut earlier = state.chain.elements().iter();
    if !earlier.any(|element| element.lineage.as_ref() == Some(lineage)) {
        return BTreeMap::new();
    }
    let seen = |instance: &InstanceId| {
        let reading = sight.watch(instance).and_then(|watch| watch.reading());
        Some((instance.clone(), reading?.facts.incarnation.clone()))
    };
    let old = state.primary.iter();
    let old = old.map(|old| (old.instance.clone(), old.incarnation.clone()));
    let all = old.chain(state.instances.iter().filter_map(seen));
    all.filter(|(i, _)| *i != target.instance && !config.members.contains_key(i))
        .collect()
}

/// The planted bug: another frozen member is told in the same epoch.
fn retarget(sight: &Sight<'_>, plan: &mut Plan, target: &Member, quorum: WriteQuorum) {
    let other = sight
        .desk
        .frozen
        .iter()
        .find(|(instance, _)| **instance != target.instance);
    if let Some((instance, reading)) = other
        && let Some(position) = reading.facts.position.clone()
    {
        let expect = Member {
            instance: instance.clone(),
            incarnation: reading.facts.incarnation.clone(),
        };
        plan.order(
            sight,
            instance,
            ActionKind::Promote {
                expect,
                position,
                quorum,
            },
        );
    }
}
