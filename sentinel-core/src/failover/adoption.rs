//! Adoption: taking over a service as it stands, when no primary was ever authorised.
//!
//! Only one instance may claim to be primary, and every known instance has had its chance to answer.
//! The write quorum begins with the replicas that stream whole data.

use std::collections::{BTreeMap, BTreeSet};

use crate::failover::plan::Plan;
use crate::failover::sight::{Sight, follows, streams};
use crate::id::{Incarnation, InstanceId, Member};
use crate::ledger::Decision;
use crate::observation::{Facts, Link, Persistable, Role, Upstream};
use crate::position::Offset;
use crate::reason::Reason;

pub(crate) fn plan(sight: &Sight<'_>) -> Plan {
    let mut plan = Plan::default();
    discover(sight, &mut plan, &sight.state.instances);
    if plan.decision.is_some() {
        return plan;
    }
    let settled_at = sight.desk.stage_since + sight.state.settings.down_after;
    let open: Vec<String> = unsettled(sight).iter().map(InstanceId::to_string).collect();
    if !open.is_empty() {
        plan.because(
            "not_settled",
            format!("no answer yet from {}", open.join(", ")),
        );
        return plan;
    }
    let primaries: Vec<(&InstanceId, &Facts)> = claimants(sight).collect();
    let (instance, facts) = match primaries.as_slice() {
        [] => {
            plan.because(
                "no_primary",
                "no instance claims to be primary: start one, or promote one by hand",
            );
            return plan;
        }
        [one] => *one,
        [..] => {
            let names: Vec<String> = primaries
                .iter()
                .map(|(instance, _)| instance.to_string())
                .collect();
            let text = format!(
                "{} claim to be primary: make all but one a replica",
                names.join(" and ")
            );
            plan.because("two_primaries", text);
            return plan;
        }
    };
    if let Persistable::No(why) = &facts.persistable {
        plan.because("not_persistable", format!("{instance} {why}"));
        return plan;
    }
    let members = streaming_members(sight, instance, facts);
    let k = sight.state.settings.min_replicas as usize;
    if members.len() < k && sight.now < settled_at {
        plan.because(
            "few_replicas",
            format!(
                "{} of {k} replicas stream from {instance}; waiting a moment for more",
                members.len()
            ),
        );
        plan.wake_at(settled_at);
        return plan;
    }
    if let Some(doubt) = doubt(sight, instance, facts, members.len() >= k) {
        plan.reasons.push(doubt);
        return plan;
    }
    adopt(&mut plan, instance, facts, members);
    plan
}

/// Why the only claimant may be the wrong one: what it has would overwrite what others have. A claimant
/// with a write quorum of followers is the primary whatever else there is.
fn doubt(
    sight: &Sight<'_>,
    claimant: &InstanceId,
    facts: &Facts,
    followed: bool,
) -> Option<Reason> {
    if !facts.synced {
        let text = format!("{claimant} claims to be primary, and is still loading its data");
        return Some(Reason::new("claimant_loading", text));
    }
    let others = sight.state.instances.iter();
    for other in others.filter(|i| *i != claimant && sight.alias_of(i).is_none()) {
        let Some(own) = sight.facts(other) else {
            if followed {
                continue;
            }
            let text = format!(
                "{claimant} claims to be primary and has too few replicas, and {other} does not answer, which may be the real one: start it, or take it out of the settings of an empty cluster"
            );
            return Some(Reason::new("claimant_doubtful", text));
        };
        if own.holds_data && !facts.holds_data {
            let text = format!(
                "{claimant} claims to be primary and is empty, and {other} holds data: make {other} the primary by hand, or empty it"
            );
            return Some(Reason::new("claimant_empty", text));
        }
        if own.holds_data && !followed && !follows(own, claimant) {
            let text = format!(
                "{claimant} claims to be primary and has too few replicas, and {other} holds data and does not follow it: make one follow the other by hand"
            );
            return Some(Reason::new("claimant_doubtful", text));
        }
    }
    None
}

/// A primary that restarted, and of which nobody has a copy, may be adopted anew: as long as no write
/// quorum ever had `k` members, no write was ever acknowledged, so none can be lost. An empty one is
/// not: its replicas may hold what it no longer has (rules S13, S15).
pub(crate) fn adopt_anew(sight: &Sight<'_>, plan: &mut Plan) {
    let Some(primary) = &sight.state.primary else {
        return;
    };
    // Every promotion that follows an acknowledged write raises the floor, and only a promotion shrinks a write
    // quorum below `k`. The chain says less: it also grows when an engine merely renames its history.
    let nothing_acknowledged = sight.state.floor == Offset(0)
        && sight
            .state
            .configs
            .iter()
            .all(|config| config.members.len() < config.k as usize);
    let Some(facts) = sight.facts(&primary.instance) else {
        return;
    };
    let restarted =
        facts.incarnation != primary.incarnation && facts.role == Role::Primary && facts.synced;
    if !nothing_acknowledged || !restarted {
        return;
    }
    if !facts.holds_data {
        let text = format!(
            "{} restarted empty: load its data, or promote a replica by hand",
            primary.instance
        );
        plan.because("restarted_empty", text);
        return;
    }
    let text = format!(
        "{} restarted with its data, and no write was ever acknowledged",
        primary.instance
    );
    plan.because("adopt_anew", text);
    adopt(plan, &primary.instance, facts, BTreeMap::new());
}

fn adopt(
    plan: &mut Plan,
    instance: &InstanceId,
    facts: &Facts,
    members: BTreeMap<InstanceId, Incarnation>,
) {
    let Some(position) = facts.position.clone() else {
        plan.because(
            "veto_position_unknown",
            format!("{instance} cannot tell its position"),
        );
        return;
    };
    plan.because(
        "adopt",
        format!(
            "{instance} is the only primary, {} replicas stream from it",
            members.len()
        ),
    );
    let primary = Member {
        instance: instance.clone(),
        incarnation: facts.incarnation.clone(),
    };
    plan.decision = Some(Decision::Adopt {
        primary,
        position,
        members,
    });
}

fn claimants<'a>(sight: &Sight<'a>) -> impl Iterator<Item = (&'a InstanceId, &'a Facts)> {
    let sight = *sight;
    let claims = move |instance: &'a InstanceId| Some((instance, sight.facts(instance)?));
    sight
        .state
        .instances
        .iter()
        .filter_map(claims)
        .filter(move |(instance, facts)| {
            facts.role == Role::Primary && sight.alias_of(instance).is_none()
        })
}

/// Instances that have neither answered nor been silent for long enough to be left out.
fn unsettled(sight: &Sight<'_>) -> BTreeSet<InstanceId> {
    let settled = |instance: &InstanceId| {
        sight
            .watch(instance)
            .is_some_and(|watch| watch.is_down() || watch.current().is_some())
    };
    sight
        .state
        .instances
        .iter()
        .filter(|instance| !settled(instance))
        .cloned()
        .collect()
}

fn streaming_members(
    sight: &Sight<'_>,
    primary: &InstanceId,
    facts: &Facts,
) -> BTreeMap<InstanceId, Incarnation> {
    let listed = facts
        .replicas
        .iter()
        .filter(|replica| replica.link == Link::Streaming);
    let sound = listed.filter_map(|replica| {
        let own = sight.facts(&replica.instance)?;
        let same = own.position.as_ref().map(|p| &p.lineage)
            == facts.position.as_ref().map(|p| &p.lineage);
        let fit = same && streams(own, primary) && own.persistable == Persistable::Yes;
        fit.then(|| (replica.instance.clone(), own.incarnation.clone()))
    });
    sound.collect()
}

/// Proposes what these instances name and nobody knows yet: a primary's replicas, a replica's upstream.
pub(crate) fn discover(sight: &Sight<'_>, plan: &mut Plan, from: &BTreeSet<InstanceId>) {
    let mut found = BTreeSet::new();
    for facts in from.iter().filter_map(|instance| sight.facts(instance)) {
        found.extend(
            facts
                .replicas
                .iter()
                .map(|replica| replica.instance.clone()),
        );
        if let Role::Replica {
            upstream: Upstream::Instance(upstream),
            ..
        } = &facts.role
        {
            found.insert(upstream.clone());
        }
    }
    found.retain(|instance| !sight.state.instances.contains(instance));
    let room = crate::ledger::INSTANCES_MAX.saturating_sub(sight.state.instances.len());
    let found: BTreeSet<InstanceId> = found.into_iter().take(room).collect();
    if !found.is_empty() {
        let names: Vec<String> = found.iter().map(InstanceId::to_string).collect();
        plan.because("discovered", format!("found {}", names.join(", ")));
        plan.decision = Some(Decision::Discover { instances: found });
    }
}
