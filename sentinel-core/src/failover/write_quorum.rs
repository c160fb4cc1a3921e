//! The write quorum in force on the primary: put there, kept there, and, in a joint change, ended when the
//! old one may be dropped (rules S3, S8).
//!
//! Knows what is committed and what the primary reports. Does not know why a member came or left.

use crate::action::ActionKind;
use crate::failover::plan::{Note, Plan};
use crate::failover::sight::{Sight, holds};
use crate::id::Member;
use crate::ledger::{Decision, QuorumConfig};
use crate::observation::Facts;
use crate::planted::Bug;

/// Write quorums that may be in force at once before repairs stop: the two of a joint change, whoever enters it to
/// end it, and what others put on the primary.
pub(super) const CONFIGS_MAX: usize = 4;

/// Keeps the newest write quorum in force on the primary, and ends a joint change when it may end (rules S3, S8).
pub(super) fn write_quorum(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, facts: &Facts) {
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
