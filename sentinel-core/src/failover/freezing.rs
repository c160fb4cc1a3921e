//! Freezing: every member is frozen, until what is frozen seals and somebody can be promoted; or the
//! primary turns out to be alive, and the failover is given up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::ActionKind;
use crate::failover::desk::is_frozen;
use crate::failover::plan::Plan;
use crate::failover::sight::Sight;
use crate::failover::standing::{Standing, standing};
use crate::id::{InstanceId, Member};
use crate::ledger::Decision;
use crate::planted::Bug;
use crate::ranking::{self, Counted, Target};

/// How long a switchover's failover may take until it could promote.
const PLANNED_WITHIN: Duration = Duration::from_secs(2);

pub(crate) fn plan(sight: &Sight<'_>) -> Plan {
    let mut plan = Plan::default();
    // A primary that is back before anybody was frozen loses not even a moment's writes.
    if sight.desk.frozen.is_empty() && sight.desk.under_way.is_empty() {
        give_up_if_alive(sight, &mut plan);
        if plan.decision.is_some() {
            return plan;
        }
    }
    freeze_the_rest(sight, &mut plan);
    let standing = standing(sight);
    let (mut counted, vetoes) = counted(sight);
    counted.extend(standing.iter().map(|(i, it)| (i.clone(), it.held)));
    plan.reasons.extend(vetoes);
    let sealed = if sight.bugs.has(Bug::SkipSeal) {
        Ok(())
    } else {
        ranking::seal(sight.state, &counted)
    };
    if let Err(missing) = sealed {
        plan.reasons.extend(missing);
        stand_down(sight, &mut plan);
        give_up_if_alive(sight, &mut plan);
        return plan;
    }
    plan.sealed = true;
    let frozen = sight.desk.frozen.iter();
    let standing_facts = standing.iter().map(|(i, it)| (i, it.reading));
    let facts = frozen
        .chain(standing_facts)
        .map(|(instance, reading)| (instance.clone(), &reading.facts))
        .collect();
    match ranking::choose(sight.state, &counted, &facts, sight.bugs) {
        Err(vetoes) => {
            plan.reasons.extend(vetoes);
            stand_down(sight, &mut plan);
            give_up_if_alive(sight, &mut plan);
        }
        Ok(target) => {
            let target = at_its_fork(sight, &standing, target);
            promote(sight, &mut plan, &counted, target);
        }
    }
    plan
}

/// A standing instance is promoted from where it forked. One that holds as much as the best is preferred: it is primary
/// already, and any other would make it one too many.
fn at_its_fork(
    sight: &Sight<'_>,
    standing: &BTreeMap<InstanceId, Standing<'_>>,
    best: Target,
) -> Target {
    let fit = |it: &&Standing<'_>| {
        let instance = &it.target.member.instance;
        it.held == best.offset && sight.state.priority(instance, &it.reading.facts) != 0
    };
    let own = standing.get(&best.member.instance);
    let preferred = own.or_else(|| standing.values().find(fit));
    preferred.map_or(best, |it| it.target.clone())
}

/// Never skipped as a no-op: a member found frozen may have been frozen by an earlier epoch, whose
/// unfreeze is still on its way (rule S5).
fn freeze_the_rest(sight: &Sight<'_>, plan: &mut Plan) {
    for instance in sight.to_freeze() {
        // The planted bug: found frozen is frozen enough.
        if sight.bugs.has(Bug::StaleFreeze) && sight.facts(&instance).is_some_and(is_frozen) {
            plan.look.insert(instance);
            continue;
        }
        if !sight.desk.frozen.contains_key(&instance) {
            plan.order(sight, &instance, ActionKind::Freeze);
        }
    }
}

/// The old primary may be the only one left that holds everything, once somebody was told and is lost (rule S13). Some
/// engines freeze no primary; its host can, by stopping it. That takes nothing from anybody: the write quorum that it had
/// was sealed before anybody was told, so it acknowledges no write. Only where nobody else can be promoted: one that is not
/// needed is not stopped.
fn stand_down(sight: &Sight<'_>, plan: &mut Plan) {
    let Some(old) = &sight.state.primary else {
        return;
    };
    let Member {
        instance,
        incarnation,
    } = old;
    let stubborn = sight.desk.unfrozen.contains(instance) || sight.is_stopped(instance);
    let same_life = sight
        .facts(instance)
        .is_none_or(|facts| facts.incarnation == *incarnation);
    let wanted = !sight.state.told.is_empty() && !sight.desk.frozen.contains_key(instance);
    if wanted && stubborn && same_life && sight.agents.contains_key(instance) {
        let due = sight.desk.stage_since + sight.state.settings.freeze_wait;
        if sight.now < due {
            plan.wake_at(due);
            return;
        }
        let text = format!(
            "{instance} was primary, and counts once its agent has made it a replica of nobody"
        );
        plan.because("stand_down", text);
        let kind = ActionKind::StandDown {
            life: incarnation.clone(),
        };
        plan.orders.retain(|order| order.instance != *instance);
        plan.order(sight, instance, kind);
    }
}

fn counted(sight: &Sight<'_>) -> (Counted, Vec<crate::reason::Reason>) {
    let mut counted = Counted::new();
    let mut vetoes = Vec::new();
    for (instance, reading) in &sight.desk.frozen {
        match ranking::count(sight.state, instance, &reading.facts, sight.bugs) {
            Ok(offset) => {
                counted.insert(instance.clone(), offset);
            }
            Err(veto) => vetoes.push(veto),
        }
    }
    (counted, vetoes)
}

/// Rule S13. The commit precedes the first unfreeze, and nothing froze the primary, because only the
/// told are frozen besides members, and nobody was told.
///
/// A failover that serves a switchover goes on although the primary is alive, for as long as its pause lasts.
fn give_up_if_alive(sight: &Sight<'_>, plan: &mut Plan) {
    let patient_until = sight.desk.stage_since + PLANNED_WITHIN;
    if sight.state.planned.is_some() && sight.now < patient_until {
        plan.wake_at(patient_until);
        return;
    }
    let alive = sight
        .sound_primary()
        .filter(|(primary, _)| sight.reading_of_stage(&primary.instance).is_some());
    let Some((primary, _)) = alive else { return };
    if sight.state.told.is_empty() && !sight.primary_is_down() {
        plan.because(
            "primary_alive",
            format!(
                "{} answers again, and nothing was promoted",
                primary.instance
            ),
        );
        plan.decision = Some(Decision::Abort);
        if sight.bugs.has(Bug::UnfreezeBeforeCommit) {
            plan.orders.clear();
            for instance in sight.desk.frozen.keys() {
                plan.order(
                    sight,
                    instance,
                    ActionKind::Unfreeze {
                        primary: primary.instance.clone(),
                    },
                );
            }
        }
    }
}

fn promote(sight: &Sight<'_>, plan: &mut Plan, counted: &Counted, target: Target) {
    let since = sight.desk.sealed_since.unwrap_or(sight.now);
    if let Some(instance) = worth_waiting_for(sight) {
        let until = since + sight.state.settings.freeze_wait;
        if sight.now < until {
            plan.because(
                "freeze_wait",
                format!("sealed; waiting a moment for {instance}"),
            );
            plan.wake_at(until);
            return;
        }
    }
    // The seal is read again just before the commit, on the members that make it.
    let stale = counted.keys().filter(|i| {
        let read = sight
            .desk
            .frozen
            .get(*i)
            .or_else(|| sight.reading_of_stage(i));
        let asked_at = read.map(|reading| reading.asked_at);
        sight
            .desk
            .sealed_since
            .is_none_or(|at| asked_at <= Some(at))
    });
    let stale: Vec<InstanceId> = stale.cloned().collect();
    if !stale.is_empty() {
        plan.because("reread", "sealed; reading the frozen members once more");
        plan.look.extend(stale);
        return;
    }
    let Target {
        member,
        position,
        offset,
    } = target;
    plan.because(
        "sealed",
        format!(
            "{} frozen members seal every write quorum in force",
            counted.len()
        ),
    );
    plan.because(
        "target",
        format!("{} holds the most, at offset {offset}", member.instance),
    );
    plan.orders.clear();
    plan.decision = Some(Decision::Promote {
        members: members_without(sight, counted, &member),
        target: member,
        position,
        start: offset,
    });
}

/// A member that is up and not frozen yet: with it frozen, the new write quorum is larger.
fn worth_waiting_for(sight: &Sight<'_>) -> Option<InstanceId> {
    let open = |instance: &InstanceId| {
        !sight.desk.frozen.contains_key(instance) && sight.facts(instance).is_some()
    };
    sight.to_freeze().into_iter().find(open)
}

/// Only members frozen in this epoch; the old primary comes back by admission (rule L2).
fn members_without(
    sight: &Sight<'_>,
    counted: &Counted,
    target: &Member,
) -> BTreeMap<InstanceId, crate::id::Incarnation> {
    let others = counted
        .keys()
        .filter(|instance| **instance != target.instance);
    let frozen = |i: &InstanceId| {
        let reading = sight.desk.frozen.get(i)?;
        Some((i.clone(), reading.facts.incarnation.clone()))
    };
    let mut members: BTreeMap<_, _> = others.filter_map(frozen).collect();
    if sight.bugs.has(Bug::OldPrimaryInQuorum)
        && let Some(old) = sight
            .state
            .primary
            .as_ref()
            .filter(|old| old.instance != target.instance)
    {
        members.insert(old.instance.clone(), old.incarnation.clone());
    }
    members
}
