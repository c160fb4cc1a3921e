//! Steady: the primary has its authority, and what instances report is reconciled with what is committed.
//!
//! In this order, one decision at a time: a lost primary, instances nobody knew, the write quorum in
//! force on the primary, instances that follow somebody else, and who belongs to the write quorum.

use crate::failover::adoption;
use crate::failover::membership::{membership, readmissions, reinforcement};
use crate::failover::plan::Plan;
use crate::failover::reattach::reattach;
use crate::failover::sight::Sight;
use crate::failover::stranded::rebuild_stranded;
use crate::failover::write_quorum::write_quorum;
use crate::failover::writes::{resume, writes};
use crate::ledger::{Decision, QuorumConfig};
use crate::observation::Role;

pub(crate) fn plan(sight: &Sight<'_>) -> Plan {
    let mut plan = Plan::default();
    if resume(sight, &mut plan) {
        return plan;
    }
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
    writes(sight, &mut plan, primary, facts);
    let room = reattach(sight, &mut plan, primary);
    rebuild_stranded(sight, &mut plan, primary, room);
    let newest = sight.state.configs.last();
    let in_force = newest.map(QuorumConfig::write_quorum) == facts.write_quorum;
    if plan.decision.is_none() && in_force {
        readmissions(sight, &mut plan, primary);
    }
    if plan.decision.is_none() && in_force {
        match sight.state.configs.len() {
            1 => membership(sight, &mut plan, primary),
            _ => reinforcement(sight, &mut plan, primary, facts),
        }
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
