//! Makes every instance follow the primary: those that were frozen, that follow somebody else, or that
//! claim to be primary.
//!
//! Knows where each instance is and whom it follows. Does not know who counts.

use crate::action::ActionKind;
use crate::failover::desk::is_frozen;
use crate::failover::plan::Plan;
use crate::failover::sight::{Sight, follows};
use crate::id::{InstanceId, Member};
use crate::observation::{Facts, Link, Role};

/// Makes every instance follow the primary; what a rogue primary has is saved first. At most
/// `parallel_syncs` may copy the whole data set at a time; tells how many more may begin to.
pub(super) fn reattach(sight: &Sight<'_>, plan: &mut Plan, primary: &Member) -> usize {
    let mut room = sync_room(sight, primary);
    for instance in sight
        .state
        .instances
        .iter()
        .filter(|i| **i != primary.instance)
    {
        let upstream = primary.instance.clone();
        let Some(facts) = sight.facts(instance) else {
            if sight.is_stopped(instance) && room > 0 {
                room -= takes_room(sight, instance);
                start(sight, plan, instance, upstream);
            }
            continue;
        };
        let barred = sight.is_barred(instance, facts) || sight.is_namesake(facts);
        if sight.reading_of_stage(instance).is_none()
            || (follows(facts, &primary.instance) && !barred)
        {
            continue;
        }
        if let Some(name) = sight.alias_of(instance) {
            plan.because("alias", format!("{instance} is another name of {name}"));
            continue;
        }
        let position = facts.position.as_ref();
        let on_chain =
            !barred && position.is_some_and(|p| sight.state.chain.offset_of(p).is_some());
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
        room = room.saturating_sub(takes_room(sight, instance));
        let (code, text, kind) = if barred {
            let text = format!(
                "{instance} was told to promote and another one did: it is rebuilt from {upstream}"
            );
            let life = facts.incarnation.clone();
            let kind = ActionKind::Rebuild {
                primary: upstream,
                life,
            };
            ("rebuild", text, kind)
        } else if facts.role == Role::Primary || is_frozen(facts) {
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
    room
}

/// A server that its agent says is stopped comes back as a replica; nothing is known of its history. One that was ordered
/// to be rebuilt is stopped for that.
fn start(sight: &Sight<'_>, plan: &mut Plan, instance: &InstanceId, upstream: InstanceId) {
    let text = format!("{instance} is stopped: a replica of {upstream} once more");
    plan.because("start", text);
    let given_up = sight.desk.rebuilding.get(instance);
    let kind = match given_up.or_else(|| sight.may_be_barred(instance)) {
        Some(life) => ActionKind::Rebuild {
            primary: upstream,
            life: life.clone(),
        },
        None => ActionKind::Demote { primary: upstream },
    };
    plan.order(sight, instance, kind);
}

/// One that refused its last order copies nothing, and may go on to refuse for ever: the others do not wait for it.
fn takes_room(sight: &Sight<'_>, instance: &InstanceId) -> usize {
    usize::from(!sight.desk.refusals.contains_key(instance))
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
    let attaches = |kind: &ActionKind| {
        matches!(
            kind,
            ActionKind::Demote { .. } | ActionKind::Repoint { .. } | ActionKind::Rebuild { .. }
        )
    };
    let orders = sight
        .desk
        .under_way
        .values()
        .filter(|order| attaches(&order.kind))
        .count();
    (sight.state.settings.parallel_syncs as usize).saturating_sub(copies + orders)
}
