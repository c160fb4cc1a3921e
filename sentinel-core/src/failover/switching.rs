//! Switching: an operator wants another primary. Writes are paused, the target gets the last byte, and then an ordinary
//! failover follows, which freezes, seals and promotes by its own rules.
//!
//! Nothing here is needed for safety: whoever is promoted in the end holds every acknowledged write, however
//! this stage ended. It is here so that no client sees an error, and that writes which nobody was told of
//! yet are not lost either. When something takes too long it is called off, and nothing has changed.

use std::time::Duration;

use crate::action::ActionKind;
use crate::failover::desk::Paused;
use crate::failover::plan::Plan;
use crate::failover::sight::{Sight, streams};
use crate::id::{InstanceId, Member};
use crate::ledger::{Decision, QuorumConfig, Stage};
use crate::planted::Bug;
use crate::position::Offset;
use crate::reason::Reason;

/// How long the primary may take to pause.
const PAUSE_WITHIN: Duration = Duration::from_secs(30);

/// The same once it has refused: what stands in the way for a moment only is over by then.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// The same while it says that it is at it: an engine that first writes out what it has in memory takes minutes where that
/// is much, and takes writes in the meantime.
const PREPARE_WITHIN: Duration = Duration::from_secs(300);

/// How long a paused primary waits for the target to have the last byte.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(2);

/// A pause ends by itself after this time, where the server needs nobody for that: the catching up, and an ordinary failover.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn plan(sight: &Sight<'_>, target: &InstanceId) -> Plan {
    let mut plan = Plan::default();
    let Some(primary) = &sight.state.primary else {
        return plan;
    };
    let skips_pause = sight.bugs.has(Bug::SwitchWithoutPause);
    match &sight.desk.paused {
        _ if sight.primary_lost_authority() => sight.fail_over(&mut plan),
        _ if skips_pause => plan.decision = Some(Decision::Freeze),
        Some(Paused {
            primary: paused,
            last: Some(position),
            since,
            resumed: None,
        }) if *paused == primary.instance => {
            // What the target has is compared with the last position of the primary, in the primary's own history.
            let holds = sight.facts(target).is_some_and(|facts| {
                sight.state.admitted(target) == Some(&facts.incarnation)
                    && facts.position.as_ref().is_some_and(|p| {
                        p.lineage == position.lineage && p.offset >= position.offset
                    })
            });
            let until = *since + CATCH_UP_WITHIN;
            // A leader that stood still does not know what was written since the pause ended.
            let over = sight.now >= *since + PAUSE_LIMIT;
            if holds && !over {
                plan.because(
                    "target_has_everything",
                    format!("writes are paused, and {target} has everything up to {position}"),
                );
                plan.decision = Some(Decision::Freeze);
            } else if sight.now >= until {
                let text = format!("{target} did not get the last bytes in time");
                plan.decision = Some(Decision::CallOff {
                    reason: text.clone(),
                });
                plan.because("target_late", text);
            } else {
                plan.because(
                    "catching_up",
                    format!("writes are paused until {target} has everything up to {position}"),
                );
                plan.look.insert(target.clone());
                plan.wake_at(until);
            }
        }
        Some(_) | None if sight.primary_is_down() && !goes_down_by_order(sight, primary) => {
            sight.fail_over(&mut plan);
        }
        Some(_) | None => pause(sight, &mut plan, primary, target),
    }
    plan
}

/// Whether it is down because it is stopping for the pause, and has not told yet where it ended. Somebody must be there who
/// will tell, and may not take longer than a pause.
fn goes_down_by_order(sight: &Sight<'_>, primary: &Member) -> bool {
    let late = sight
        .watch(&primary.instance)
        .is_some_and(|watch| watch.is_down() && sight.now >= watch.health_since() + PAUSE_LIMIT);
    let minded = sight.desk.pause_ordered && sight.agents.contains_key(&primary.instance);
    (minded || sight.desk.is_pausing(&primary.instance)) && !late
}

/// Checked again just before: the pause is the first thing that a client notices.
fn pause(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, target: &InstanceId) {
    let (refused, prepares) = (
        sight.desk.pause_refused.as_ref(),
        sight.desk.jobs.contains_key(&primary.instance),
    );
    let within = match (refused, prepares) {
        (Some(_), _) => REFUSED_WITHIN,
        (None, true) => PREPARE_WITHIN,
        (None, false) => PAUSE_WITHIN,
    };
    let until = sight.desk.stage_since + within;
    // A primary that ends to pause takes its replicas' streams with it, and nothing else of them.
    let obstacles = if sight.desk.pause_ordered {
        unreachable(sight, target).into_iter().collect()
    } else {
        obstacles(sight, target)
    };
    if sight.now >= until || !obstacles.is_empty() {
        let reason = match (obstacles.first(), refused) {
            (Some(first), _) => first.text.clone(),
            (None, Some(text)) => format!("the primary does not pause its writes: {text}"),
            (None, None) => "the primary did not pause its writes in time".to_owned(),
        };
        plan.because("called_off", reason.clone());
        plan.reasons.extend(obstacles);
        plan.decision = Some(Decision::CallOff { reason });
        return;
    }
    plan.because(
        "pausing",
        format!("{} is asked to pause its writes", primary.instance),
    );
    plan.wake_at(until);
    plan.order(
        sight,
        &primary.instance,
        ActionKind::Pause { limit: PAUSE_LIMIT },
    );
}

/// Why a switchover to this instance would not come to its end; empty when it would.
pub(crate) fn obstacles(sight: &Sight<'_>, target: &InstanceId) -> Vec<Reason> {
    let state = sight.state;
    let mut reasons = Vec::new();
    let Some((primary, _)) = sight.sound_primary() else {
        let text = "the primary does not answer as what was authorised";
        return vec![Reason::new("primary_unsound", text)];
    };
    if primary.instance == *target {
        let text = format!("{target} is the primary already");
        return vec![Reason::new("target_is_primary", text)];
    }
    let member = state
        .configs
        .last()
        .is_some_and(|config: &QuorumConfig| config.members.contains_key(target));
    if !member {
        let text = format!("{target} is no member of the write quorum; it must stream first");
        reasons.push(Reason::new("veto_not_admitted", text));
    }
    match sight.facts(target) {
        None => reasons.extend(unreachable(sight, target)),
        Some(facts) => {
            if !streams(facts, &primary.instance) {
                let text = format!("{target} does not stream from {}", primary.instance);
                reasons.push(Reason::new("veto_not_streaming", text));
            }
            if state.priority(target, facts) == 0 {
                let text = format!("{target} has priority 0 and is never promoted");
                reasons.push(Reason::new("veto_priority", text));
            }
        }
    }
    if sight.desk.paused.is_some() && !matches!(state.stage, Stage::Switching { .. }) {
        let text = "the pause of an earlier switchover is not over yet: ask again in a moment";
        reasons.push(Reason::new("resuming", text));
    }
    reasons.extend(sight.blockers());
    reasons
}

fn unreachable(sight: &Sight<'_>, target: &InstanceId) -> Option<Reason> {
    let text = format!("{target} does not answer");
    sight
        .facts(target)
        .is_none()
        .then(|| Reason::new("veto_unreachable", text))
}

/// The member that lags least, if the operator named nobody: the most data, then priority, then name.
pub(crate) fn best_target(sight: &Sight<'_>) -> Option<InstanceId> {
    let members = sight.state.configs.last()?.members.keys();
    let fit = members.filter(|member| obstacles(sight, member).is_empty());
    let rank = |member: &&InstanceId| {
        let facts = sight.facts(member);
        let offset = facts
            .and_then(|facts| facts.position.as_ref())
            .map_or(Offset(0), |position| position.offset);
        let priority = facts.map_or(u32::MAX, |facts| sight.state.priority(member, facts));
        (std::cmp::Reverse(offset), priority, (*member).clone())
    };
    fit.min_by_key(rank).cloned()
}
