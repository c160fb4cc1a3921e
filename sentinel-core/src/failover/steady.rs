//! Steady: the primary has its authority, and what instances report is reconciled with what is committed.
//!
//! In this order, one decision at a time: a lost primary, instances nobody knew, the write quorum in
//! force on the primary, instances that follow somebody else, and who belongs to the write quorum.

use crate::action::ActionKind;
use crate::detector::{Evidence, Health};
use crate::failover::adoption;
use crate::failover::desk::{CatchUp, is_frozen};
use crate::failover::plan::{Note, Plan, Sight, follows, streams};
use crate::id::{Incarnation, InstanceId, Member};
use crate::ledger::{Change, Decision, QuorumConfig};
use crate::observation::{Facts, Link, Persistable, Role};
use crate::planted::Bug;
use crate::position::Position;

/// Write quorums that may be in force at once before repairs stop: the two of a joint change, and
/// what others put on the primary.
const CONFIGS_MAX: usize = 4;

pub(crate) fn plan(sight: &Sight<'_>) -> Plan {
    let mut plan = Plan::default();
    if sight.primary_is_down() {
        sight.fail_over(&mut plan);
        if plan.decision.is_none() {
            adoption::adopt_anew(sight, &mut plan);
        }
        return plan;
    }
    let Some((primary, facts)) = sight.sound_primary() else {
        rename(sight, &mut plan);
        return plan;
    };
    adoption::discover(sight, &mut plan, &[primary.instance.clone()].into());
    if plan.decision.is_none() {
        write_quorum(sight, &mut plan, primary, facts);
    }
    reattach(sight, &mut plan, primary);
    let newest = sight.state.configs.last();
    let in_force = newest.map(QuorumConfig::write_quorum) == facts.write_quorum;
    if plan.decision.is_none() && in_force {
        readmissions(sight, &mut plan, primary);
    }
    if plan.decision.is_none() && in_force && sight.state.configs.len() == 1 {
        membership(sight, &mut plan, primary);
    }
    if plan.decision.is_none() && plan.orders.is_empty() {
        plan.because(
            "steady",
            format!("{} has its authority and answers", primary.instance),
        );
    }
    plan
}

/// An engine may give its history another name while nobody receives it. In the same incarnation and
/// without a fork it is the same history going on.
fn rename(sight: &Sight<'_>, plan: &mut Plan) {
    let Some(primary) = &sight.state.primary else {
        return;
    };
    let Some(facts) = sight.facts(&primary.instance) else {
        plan.because(
            "primary_silent",
            format!("{} is late to answer; no verdict yet", primary.instance),
        );
        return;
    };
    let same_life = facts.incarnation == primary.incarnation && facts.role == Role::Primary;
    match &facts.position {
        Some(position)
            if same_life
                && facts.fork.is_none()
                && sight.reading_of_stage(&primary.instance).is_some() =>
        {
            plan.because(
                "renamed",
                format!(
                    "{} goes on with its history as lineage {}",
                    primary.instance, position.lineage
                ),
            );
            plan.decision = Some(Decision::Rename {
                position: position.clone(),
            });
        }
        Some(position) if same_life => {
            let text = format!(
                "{} goes on with a history of its own, at {position}: somebody changed its role by hand, and what was acknowledged before may be gone from it",
                primary.instance
            );
            plan.because("primary_diverged", text);
        }
        Some(_) | None => {
            let text = format!(
                "{} does not answer as the primary that was authorised; no verdict yet",
                primary.instance
            );
            plan.because("primary_unsound", text);
        }
    }
}

/// Keeps the newest write quorum in force on the primary, and ends a joint change when it may end (rules S3, S8).
fn write_quorum(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, facts: &Facts) {
    let Some(newest) = sight.state.configs.last() else {
        return;
    };
    let wanted = newest.write_quorum();
    if facts.write_quorum.as_ref() != Some(&wanted) && sight.desk.in_force.is_some() {
        plan.notes.push(Note::NotInForce);
    }
    match &facts.write_quorum {
        Some(found) if *found == wanted => {
            if sight.state.configs.len() > 1 {
                finish_change(sight, plan, primary, facts, newest);
            }
        }
        Some(found)
            if !sight
                .state
                .configs
                .iter()
                .any(|config| config.write_quorum() == *found) =>
        {
            let fresh = sight.reading_of_stage(&primary.instance).is_some();
            if fresh
                && sight.state.configs.len() < CONFIGS_MAX
                && !sight.desk.under_way.contains_key(&primary.instance)
            {
                plan.because("foreign_write_quorum", format!("{} has a write quorum that is none of ours; it counts until it is replaced", primary.instance));
                plan.decision = Some(Decision::Acknowledge {
                    found: found.clone(),
                });
            } else if fresh {
                plan.order(
                    sight,
                    &primary.instance,
                    ActionKind::Configure { quorum: wanted },
                );
            }
        }
        Some(_) | None => {
            plan.because(
                "configure",
                format!(
                    "putting write quorum {} in force on {}",
                    newest.version, primary.instance
                ),
            );
            plan.order(
                sight,
                &primary.instance,
                ActionKind::Configure { quorum: wanted },
            );
        }
    }
}

fn finish_change(
    sight: &Sight<'_>,
    plan: &mut Plan,
    primary: &Member,
    facts: &Facts,
    newest: &QuorumConfig,
) {
    let older = &sight.state.configs[..sight.state.configs.len() - 1];
    let grows = older.iter().all(|old| {
        old.members
            .keys()
            .all(|member| newest.members.contains_key(member))
            && newest.k <= old.k
    });
    let Some(position) = &facts.position else {
        return;
    };
    let Some(in_force) = sight
        .desk
        .in_force
        .as_ref()
        .filter(|it| it.version == newest.version)
    else {
        plan.notes.push(Note::InForce(newest.version));
        plan.look.insert(primary.instance.clone());
        return;
    };
    let Some(target) = &in_force.target else {
        let reading = sight
            .watch(&primary.instance)
            .and_then(|watch| watch.reading());
        match reading.filter(|reading| reading.asked_at > in_force.seen_at) {
            Some(_) => plan.notes.push(Note::Target(position.clone())),
            None => {
                plan.look.insert(primary.instance.clone());
            }
        }
        return;
    };
    let holding = newest.members.iter();
    let holding = holding
        .filter(|(m, life)| holds(sight, &primary.instance, m, life, target))
        .count();
    if grows || holding >= newest.k as usize || sight.bugs.has(Bug::NoCatchUp) {
        let text = format!(
            "write quorum {} is in force, {holding} members hold what the primary had",
            newest.version
        );
        plan.because("change_in_force", text);
        plan.decision = Some(Decision::FinishChange);
    } else {
        let text = format!(
            "{holding} of {} members hold what the primary had",
            newest.k
        );
        plan.because("change_catching_up", text);
    }
}

/// Whether a replica, in this life, streams from the primary and has reached a point of its history.
fn holds(
    sight: &Sight<'_>,
    primary: &InstanceId,
    instance: &InstanceId,
    incarnation: &Incarnation,
    target: &Position,
) -> bool {
    sight.facts(instance).is_some_and(|facts| {
        facts.incarnation == *incarnation
            && streams(facts, primary)
            && facts
                .position
                .as_ref()
                .is_some_and(|p| p.lineage == target.lineage && p.offset >= target.offset)
    })
}

/// Makes every instance follow the primary; what a rogue primary has is saved first. At most
/// `parallel_syncs` may copy the whole data set at a time.
fn reattach(sight: &Sight<'_>, plan: &mut Plan, primary: &Member) {
    let mut room = sync_room(sight, primary);
    for instance in sight
        .state
        .instances
        .iter()
        .filter(|i| **i != primary.instance)
    {
        let Some(facts) = sight.facts(instance) else {
            continue;
        };
        if sight.reading_of_stage(instance).is_none() || follows(facts, &primary.instance) {
            continue;
        }
        if let Some(name) = sight.alias_of(instance) {
            plan.because("alias", format!("{instance} is another name of {name}"));
            continue;
        }
        let upstream = primary.instance.clone();
        let position = facts.position.as_ref();
        let on_chain = position.is_some_and(|p| sight.state.chain.offset_of(p).is_some());
        if is_frozen(facts) && on_chain {
            plan.because(
                "unfreeze",
                format!("{instance} is frozen, and goes back to {upstream}"),
            );
            plan.order(sight, instance, ActionKind::Unfreeze { primary: upstream });
            continue;
        }
        // A rogue primary may still take writes, and what lies on the chain needs no full copy.
        if room == 0 && !on_chain && facts.role != Role::Primary {
            plan.because(
                "parallel_syncs",
                format!("{instance} waits until others have synced"),
            );
            continue;
        }
        room = room.saturating_sub(1);
        let (code, text, kind) = if facts.role == Role::Primary || is_frozen(facts) {
            let text =
                format!("{instance} is no authorised primary: a replica of {upstream} again");
            ("demote", text, ActionKind::Demote { primary: upstream })
        } else {
            let text = format!("{instance} follows somebody else: re-pointed to {upstream}");
            (
                "wrong_upstream",
                text,
                ActionKind::Repoint { primary: upstream },
            )
        };
        plan.because(code, text);
        plan.order(sight, instance, kind);
    }
}

/// How many more instances may begin to copy the whole data set.
fn sync_room(sight: &Sight<'_>, primary: &Member) -> usize {
    let others = sight
        .state
        .instances
        .iter()
        .filter(|i| **i != primary.instance);
    let copying = |facts: &Facts| {
        matches!(
            &facts.role,
            Role::Replica {
                link: Link::Syncing,
                ..
            }
        )
    };
    let copies = others
        .filter(|i| sight.facts(i).is_some_and(copying))
        .count();
    let attaches =
        |kind: &ActionKind| matches!(kind, ActionKind::Demote { .. } | ActionKind::Repoint { .. });
    let orders = sight
        .desk
        .under_way
        .values()
        .filter(|order| attaches(&order.kind))
        .count();
    (sight.state.settings.parallel_syncs as usize).saturating_sub(copies + orders)
}

/// Members' new lives are accepted in the middle of a joint change too: its end may wait for nobody else.
fn readmissions(sight: &Sight<'_>, plan: &mut Plan, primary: &Member) {
    let members = sight.state.configs.last().map(|config| &config.members);
    for (instance, incarnation) in members.into_iter().flatten() {
        readmit(sight, plan, primary, instance, incarnation);
    }
}

/// One change at a time: a lost member leaves, a replica enters.
fn membership(sight: &Sight<'_>, plan: &mut Plan, primary: &Member) {
    let Some(config) = sight.state.configs.last() else {
        return;
    };
    for instance in config.members.keys() {
        if plan.decision.is_none() {
            exclude(sight, plan, config, instance);
        }
    }
    for instance in &sight.state.instances {
        let outside = *instance != primary.instance && !config.members.contains_key(instance);
        if outside && plan.decision.is_none() {
            admit(sight, plan, primary, config, instance);
        }
    }
}

/// Rule S4: a new life counts again once it has what the primary had after the restart was seen.
fn readmit(
    sight: &Sight<'_>,
    plan: &mut Plan,
    primary: &Member,
    instance: &InstanceId,
    admitted: &Incarnation,
) {
    let Some(facts) = sight.facts(instance) else {
        return;
    };
    if plan.decision.is_some()
        || facts.incarnation == *admitted
        || !streams(facts, &primary.instance)
    {
        return;
    }
    if caught_up(sight, plan, primary, instance, facts) {
        plan.because(
            "readmit",
            format!("{instance} restarted, and has caught up since"),
        );
        let member = Member {
            instance: instance.clone(),
            incarnation: facts.incarnation.clone(),
        };
        plan.decision = Some(Decision::Readmit { member });
    }
}

/// Rule L4: at once on refusal, else after `exclude_after`; never below `k` members.
fn exclude(sight: &Sight<'_>, plan: &mut Plan, config: &QuorumConfig, instance: &InstanceId) {
    let Some(watch) = sight.watch(instance) else {
        return;
    };
    let due = match watch.health() {
        Health::Down(Evidence::Refusal) => sight.now,
        Health::Down(_) => watch.health_since() + sight.state.settings.exclude_after,
        Health::Unknown | Health::Up | Health::Suspect => return,
    };
    if config.members.len() <= config.k as usize {
        plan.because("degraded", format!("{instance} is down, and without it the write quorum would be too small: the next failover would block"));
        return;
    }
    if sight.now < due {
        plan.because(
            "exclude_waits",
            format!("{instance} is down; it leaves the write quorum unless it comes back"),
        );
        plan.wake_at(due);
        return;
    }
    let mut members = config.members.clone();
    members.remove(instance);
    plan.because(
        "exclude",
        format!("{instance} is down, and leaves the write quorum"),
    );
    plan.decision = Some(Decision::Change {
        members,
        k: config.k,
        change: Change::Exclude(instance.clone()),
    });
}

/// Rules S6, L3: re-pointed in this epoch, streaming, and caught up.
fn admit(
    sight: &Sight<'_>,
    plan: &mut Plan,
    primary: &Member,
    config: &QuorumConfig,
    instance: &InstanceId,
) {
    let Some(facts) = sight.facts(instance) else {
        return;
    };
    let early = sight.bugs.has(Bug::AdmitBeforeData);
    if let Some(name) = sight.alias_of(instance) {
        plan.because("alias", format!("{instance} is another name of {name}"));
        return;
    }
    if !follows(facts, &primary.instance) || facts.persistable == Persistable::No {
        return;
    }
    if !early {
        if !streams(facts, &primary.instance) {
            return;
        }
        if !sight.desk.repointed.contains(instance) {
            plan.because(
                "repoint_before_admission",
                format!("{instance} streams; it is re-pointed in this epoch before it is admitted"),
            );
            plan.order(
                sight,
                instance,
                ActionKind::Repoint {
                    primary: primary.instance.clone(),
                },
            );
            return;
        }
        if !caught_up(sight, plan, primary, instance, facts) {
            return;
        }
    }
    let mut members = config.members.clone();
    members.insert(instance.clone(), facts.incarnation.clone());
    plan.because(
        "admit",
        format!("{instance} streams and has caught up: it enters the write quorum"),
    );
    plan.decision = Some(Decision::Change {
        members,
        k: config.k,
        change: Change::Admit(instance.clone()),
    });
}

/// Whether a replica has reached the primary's position as read after the wish to trust it arose; the
/// first call sets the mark.
fn caught_up(
    sight: &Sight<'_>,
    plan: &mut Plan,
    primary: &Member,
    instance: &InstanceId,
    facts: &Facts,
) -> bool {
    let mark = sight
        .desk
        .catch_ups
        .get(instance)
        .filter(|mark| mark.incarnation == facts.incarnation);
    if let Some(mark) = mark {
        plan.because(
            "catching_up",
            format!("{instance} is to reach {} first", mark.target),
        );
        return holds(
            sight,
            &primary.instance,
            instance,
            &facts.incarnation,
            &mark.target,
        );
    }
    let seen_at = sight
        .watch(instance)
        .and_then(|watch| watch.reading())
        .map(|reading| reading.read_at);
    let after = sight
        .watch(&primary.instance)
        .and_then(|watch| watch.reading());
    match (after, seen_at) {
        (Some(reading), Some(seen_at)) if reading.asked_at > seen_at => {
            if let Some(target) = reading.facts.position.clone() {
                plan.notes.push(Note::CatchUp(
                    instance.clone(),
                    CatchUp {
                        incarnation: facts.incarnation.clone(),
                        target,
                    },
                ));
            }
        }
        (Some(_) | None, Some(_) | None) => {
            plan.look.insert(primary.instance.clone());
        }
    }
    false
}
