//! Who belongs to the write quorum: a member's new life is accepted, a lost member leaves, a replica enters.
//!
//! Knows committed members, health and positions. Does not know what is in force on the primary: its
//! caller asks for a change only when nothing else is under way.

use crate::action::ActionKind;
use crate::detector::{Evidence, Health};
use crate::failover::desk::CatchUp;
use crate::failover::plan::{Note, Plan};
use crate::failover::sight::{Sight, follows, holds, streams};
use crate::failover::stranded::{is_stranded, others_suffice};
use crate::failover::write_quorum::CONFIGS_MAX;
use crate::id::{Incarnation, InstanceId, Member};
use crate::ledger::{Change, Decision, QuorumConfig};
use crate::observation::{Facts, Link, Persistable, Role};
use crate::planted::Bug;

/// Members' new lives are accepted in the middle of a joint change too: its end may wait for nobody else.
pub(super) fn readmissions(sight: &Sight<'_>, plan: &mut Plan, primary: &Member) {
    let members = sight.state.configs.last().map(|config| &config.members);
    for (instance, incarnation) in members.into_iter().flatten() {
        readmit(sight, plan, primary, instance, incarnation);
    }
}

/// One change at a time: a lost member leaves, a replica enters.
pub(super) fn membership(sight: &Sight<'_>, plan: &mut Plan, primary: &Member) {
    let Some(config) = sight.state.configs.last() else {
        return;
    };
    for instance in config.members.keys() {
        if plan.decision.is_none() {
            exclude(sight, plan, primary, config, instance);
        }
    }
    enlarge(sight, plan, primary, config);
}

/// A change whose new write quorum has too few members left to end it would wait for them for ever, and with it every
/// write. Whoever streams and has caught up may enter: the older write quorums count until this one too is in force.
pub(super) fn reinforcement(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, facts: &Facts) {
    let configs = &sight.state.configs;
    let Some(config) = configs.last().filter(|_| configs.len() < CONFIGS_MAX) else {
        return;
    };
    let streaming = facts.replicas.iter().filter(|replica| {
        replica.link == Link::Streaming && config.members.contains_key(&replica.instance)
    });
    if streaming.count() < config.k as usize {
        enlarge(sight, plan, primary, config);
    }
}

fn enlarge(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, config: &QuorumConfig) {
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
fn exclude(
    sight: &Sight<'_>,
    plan: &mut Plan,
    primary: &Member,
    config: &QuorumConfig,
    instance: &InstanceId,
) {
    let Some(watch) = sight.watch(instance) else {
        return;
    };
    let stranded = |facts: &Facts| is_stranded(facts, &primary.instance);
    if sight.facts(instance).is_some_and(stranded) {
        if others_suffice(sight, &primary.instance, config, instance) {
            let why =
                "cannot go on from the primary, and leaves the write quorum to be copied anew";
            leave(plan, config, instance, why);
        }
        return;
    }
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
    leave(
        plan,
        config,
        instance,
        "is down, and leaves the write quorum",
    );
}

fn leave(plan: &mut Plan, config: &QuorumConfig, instance: &InstanceId, why: &str) {
    let mut members = config.members.clone();
    members.remove(instance);
    plan.because("exclude", format!("{instance} {why}"));
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
    if !follows(facts, &primary.instance) || sight.is_barred(instance, facts) {
        return;
    }
    if let Persistable::No(why) = &facts.persistable {
        plan.because("not_persistable", format!("{instance} {why}"));
        return;
    }
    if !early {
        // One that copies everything first is left in peace. One that does not stream may be told to under another name
        // than the one by which it counts.
        if matches!(link(facts), Some(Link::Syncing | Link::Stranded)) {
            return;
        }
        if !sight.desk.repointed.contains(instance) {
            plan.because(
                "repoint_before_admission",
                format!("{instance} follows; it is re-pointed in this epoch before it is admitted"),
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
        if !streams(facts, &primary.instance) {
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

fn link(facts: &Facts) -> Option<Link> {
    match &facts.role {
        Role::Primary => None,
        Role::Replica { link, .. } => Some(*link),
    }
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
