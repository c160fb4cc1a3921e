//! Stranded: a replica whose upstream no longer has what follows the replica's own position. It streams never again by
//! itself; a new copy of the primary helps, and costs what it holds now.
//!
//! What it holds is no acknowledged write's only copy while the primary answers with its authority: that one holds them
//! all. But a member counts in the next failover with what it holds, and a copy that is being made counts with nothing.
//! So a member leaves the write quorum first, as long as others are there to acknowledge without it. Where they are not,
//! no write can be acknowledged before it is back in any case, and it is copied as the member that it is. One at a time.
//!
//! Knows facts, members and who has an agent. How it is known that the upstream has nothing is the adapter's business.

use crate::action::ActionKind;
use crate::failover::plan::Plan;
use crate::failover::sight::{Sight, follows};
use crate::id::{InstanceId, Member};
use crate::ledger::QuorumConfig;
use crate::observation::{Facts, Link, Role};

/// Has stranded replicas copied anew, one at a time. `primary` is sound, and `room` is how many instances may begin to
/// copy the whole data set.
pub(super) fn rebuild_stranded(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, room: usize) {
    let mut room = room.min(1).saturating_sub(at_work(sight));
    for instance in &sight.state.instances {
        let Some(facts) = stranded(sight, &primary.instance, instance) else {
            continue;
        };
        let upstream = &primary.instance;
        if leaves_first(sight, upstream, instance) {
            let text = format!(
                "{instance} cannot go on from {upstream}, which no longer has what follows: it is copied anew once it has left the write quorum"
            );
            plan.because("stranded_member", text);
        } else if !sight.agents.contains_key(instance) {
            let text = format!(
                "{instance} cannot go on from {upstream}, which no longer has what follows, and has no agent: make a new copy of {upstream} there by hand"
            );
            plan.because("stranded_by_hand", text);
        } else if room == 0 && !sight.desk.rebuilding.contains_key(instance) {
            let text = format!(
                "{instance} cannot go on from {upstream}, which no longer has what follows: it waits until others have synced"
            );
            plan.because("stranded_waits", text);
        } else if !is_confirmed(sight, upstream, instance) {
            plan.because("stranded_doubtful", format!("{instance} cannot go on from {upstream}: whether that one still answers is looked at first"));
            plan.look.insert(upstream.clone());
        } else {
            room = 0;
            let text = format!(
                "{instance} cannot go on from {upstream}, which no longer has what follows: it is copied anew from there"
            );
            plan.because("stranded", text);
            let kind = ActionKind::Rebuild {
                primary: upstream.clone(),
                life: facts.incarnation.clone(),
            };
            plan.order(sight, instance, kind);
        }
    }
}

/// Whether the primary has answered since the replica was read: a copy is not given up for one of a server that ended a
/// moment ago.
fn is_confirmed(sight: &Sight<'_>, primary: &InstanceId, instance: &InstanceId) -> bool {
    let read = |of: &InstanceId| sight.watch(of).and_then(|watch| watch.reading());
    let answered = match (read(primary), read(instance)) {
        (Some(there), Some(here)) => there.asked_at > here.read_at,
        (Some(_) | None, Some(_) | None) => false,
    };
    answered || sight.desk.rebuilding.contains_key(instance)
}

/// What an instance says that is stranded below this primary, if it is one and is to be treated as such.
fn stranded<'a>(
    sight: &Sight<'a>,
    primary: &InstanceId,
    instance: &InstanceId,
) -> Option<&'a Facts> {
    let facts = sight.facts(instance)?;
    let known = sight.reading_of_stage(instance).is_some();
    let own = sight.alias_of(instance).is_none() && !sight.is_barred(instance, facts);
    (is_stranded(facts, primary) && known && own && instance != primary).then_some(facts)
}

/// Whether a replica follows this primary, and cannot go on from it.
pub(super) fn is_stranded(facts: &Facts, primary: &InstanceId) -> bool {
    let gone = matches!(&facts.role, Role::Replica { link, .. } if *link == Link::Stranded);
    gone && follows(facts, primary)
}

/// Whether a write quorum still counts it that can do without it.
fn leaves_first(sight: &Sight<'_>, primary: &InstanceId, instance: &InstanceId) -> bool {
    let mut configs = sight.state.configs.iter();
    let counts = configs.any(|config| config.members.contains_key(instance));
    let newest = sight.state.configs.last();
    counts && newest.is_some_and(|newest| others_suffice(sight, primary, newest, instance))
}

/// Whether enough members are there to acknowledge without this one: they stream from the primary, and answer.
pub(super) fn others_suffice(
    sight: &Sight<'_>,
    primary: &InstanceId,
    config: &QuorumConfig,
    without: &InstanceId,
) -> bool {
    let Some(facts) = sight.facts(primary) else {
        return false;
    };
    let streaming = facts.replicas.iter().filter(|replica| {
        let member = config.members.contains_key(&replica.instance);
        let answers = sight.facts(&replica.instance).is_some();
        replica.instance != *without && member && replica.link == Link::Streaming && answers
    });
    streaming.count() >= config.k as usize
}

/// Copies that go on. One whose order was last refused, or left open, holds nobody else up.
fn at_work(sight: &Sight<'_>) -> usize {
    let going = sight.desk.rebuilding.keys();
    going
        .filter(|instance| !sight.desk.refusals.contains_key(*instance))
        .count()
}
