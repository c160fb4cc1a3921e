//! Repointing: the new primary is known and answered; the members of its write quorum are made to
//! follow it. The others, the old primary among them, come back in Steady, by admission.

use crate::action::ActionKind;
use crate::failover::plan::{Note, Plan};
use crate::failover::sight::{Sight, streams};
use crate::id::InstanceId;
use crate::ledger::{Decision, QuorumConfig};
use crate::position::Offset;

/// Deadlines of an action after which the stage ends although not enough members follow: Steady can
/// admit others, which this stage cannot.
const DEADLINES_MAX: u32 = 10;

pub(crate) fn plan(sight: &Sight<'_>) -> Plan {
    let mut plan = Plan::default();
    if sight.primary_is_down() {
        sight.fail_over(&mut plan);
        return plan;
    }
    let (Some(primary), Some(config)) = (&sight.state.primary, sight.state.configs.last()) else {
        return plan;
    };
    for member in config.members.keys() {
        if !sight.desk.repointed.contains(member) {
            plan.order(
                sight,
                member,
                ActionKind::Repoint {
                    primary: primary.instance.clone(),
                },
            );
        }
    }
    if sight.desk.repoint_mark.is_none() {
        plan.look.insert(primary.instance.clone());
    }
    if sight.desk.repoint_mark.is_none()
        && let Some((_, facts)) = sight.sound_primary()
        && sight.reading_of_stage(&primary.instance).is_some()
        && let Some(position) = &facts.position
    {
        plan.notes.push(Note::RepointMark(position.clone()));
    }
    let until = sight.desk.stage_since + sight.state.settings.action_deadline * DEADLINES_MAX;
    let following = config
        .members
        .keys()
        .filter(|member| holds_mark(sight, &primary.instance, member))
        .count();
    let k = config.k as usize;
    if following >= k {
        plan.because(
            "write_quorum_follows",
            format!("{following} members hold what the new primary has"),
        );
        plan.decision = Some(Decision::Complete);
    } else if reachable(sight, config) < k || sight.now >= until {
        plan.because(
            "write_quorum_short",
            format!(
                "{following} of {k} members follow; writes are refused until more are admitted"
            ),
        );
        plan.decision = Some(Decision::Complete);
    } else {
        plan.because(
            "repointing",
            format!("{following} of {k} members follow {}", primary.instance),
        );
        plan.wake_at(until);
        plan.look.extend(
            config
                .members
                .keys()
                .filter(|m| sight.desk.repointed.contains(*m))
                .cloned(),
        );
    }
    plan
}

fn reachable(sight: &Sight<'_>, config: &QuorumConfig) -> usize {
    config
        .members
        .keys()
        .filter(|member| sight.watch(member).is_some_and(|watch| !watch.is_down()))
        .count()
}

/// A member that streams from the new primary and has what that had when re-pointing began: a write
/// made since then would have been acknowledged by it.
fn holds_mark(sight: &Sight<'_>, primary: &InstanceId, member: &InstanceId) -> bool {
    let Some((mark, since)) = &sight.desk.repoint_mark else {
        return false;
    };
    let Some(reading) = sight.watch(member).and_then(|watch| watch.reading()) else {
        return false;
    };
    let offset = reading
        .facts
        .position
        .as_ref()
        .filter(|p| p.lineage == mark.lineage)
        .map_or(Offset(0), |p| p.offset);
    sight.desk.repointed.contains(member)
        && reading.asked_at >= *since
        && streams(&reading.facts, primary)
        && offset >= mark.offset
}
