//! Whether the primary takes writes: refused with an error while too few members are there to acknowledge them, for an
//! engine that would let them wait without end; and taken again after a switchover that was called off.
//!
//! Knows what the primary reports. Does not know who should belong to the write quorum.

use std::time::Duration;

use crate::action::ActionKind;
use crate::failover::plan::{Note, Plan};
use crate::failover::sight::Sight;
use crate::id::Member;
use crate::observation::{Facts, Link, ReplicaLink, Writes};

/// How long after the pause of a switchover its primary has to take writes again before it counts as lost.
const RESUME_WITHIN: Duration = Duration::from_secs(15);

/// How long after its word that it does so the voters have to see it: each looks at a server that is down several times
/// a second.
const SEEN_WITHIN: Duration = Duration::from_secs(2);

/// Keeps the primary taking writes, or refusing them, as its replicas are.
pub(super) fn writes(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, facts: &Facts) {
    let Some(config) = sight.state.configs.last() else {
        return;
    };
    // A replica that hangs still streams to its primary, for as long as that one tolerates silence.
    let answers = |replica: &ReplicaLink| {
        let watch = sight.watch(&replica.instance);
        watch.is_some_and(|watch| !watch.is_down())
    };
    let streaming = facts.replicas.iter().filter(|replica| {
        let member = config.members.contains_key(&replica.instance);
        member && replica.link == Link::Streaming && answers(replica)
    });
    let (streaming, k) = (streaming.count(), config.k as usize);
    match (facts.writes, streaming >= k) {
        (Writes::Itself, _) => {}
        (Writes::Taken, true) => {
            if sight.desk.short_since.is_some() {
                plan.notes.push(Note::Enough);
            }
        }
        (Writes::Taken, false) => refuse(sight, plan, primary, (streaming, k)),
        (Writes::Refused, true) => {
            let text = format!(
                "{streaming} members stream from {}: it takes writes again",
                primary.instance
            );
            plan.because("accept_writes", text);
            plan.order(sight, &primary.instance, ActionKind::AcceptWrites);
        }
        (Writes::Refused, false) => {
            let text = format!(
                "{streaming} of {k} members stream from {}: it refuses writes until they are back",
                primary.instance
            );
            plan.because("writes_refused", text);
        }
    }
}

/// Ends the pause of a switchover that was called off. While that is under way the primary may not answer, by our own
/// order, and nobody is promoted for that: `true` then. One that answers and has lost its authority is no such case: its
/// replicas need shelter (rule S15). A pause ends by itself long before we cease to ask for its end, so that nothing
/// else waits for an engine that cannot be told.
pub(super) fn resume(sight: &Sight<'_>, plan: &mut Plan) -> bool {
    let (Some(paused), Some(primary)) = (&sight.desk.paused, &sight.state.primary) else {
        return false;
    };
    let (until, over) = match paused.resumed {
        None => (paused.since + RESUME_WITHIN, false),
        Some(at) => (at + SEEN_WITHIN, !sight.primary_is_down()),
    };
    if over || paused.primary != primary.instance || sight.now >= until {
        plan.notes.push(Note::NotPaused);
        return false;
    }
    let instance = &paused.primary;
    if paused.resumed.is_some() {
        let text = format!("{instance} takes writes again, and the voters are to see it");
        plan.because("resumed", text);
    } else {
        plan.because("resume", format!("{instance} is to take writes again"));
        plan.order(sight, instance, ActionKind::Resume);
    }
    plan.wake_at(until);
    !sight.primary_lost_authority()
}

/// A replica that reconnects is no reason: writes wait for it as long as silence is tolerated.
fn refuse(sight: &Sight<'_>, plan: &mut Plan, primary: &Member, (streaming, k): (usize, usize)) {
    let Some(since) = sight.desk.short_since else {
        plan.notes.push(Note::Short);
        return;
    };
    let due = since + sight.state.settings.down_after;
    let text = format!(
        "{streaming} of {k} members stream from {}",
        primary.instance
    );
    if sight.now < due {
        plan.because("too_few_stream", text);
        plan.wake_at(due);
        return;
    }
    plan.because(
        "refuse_writes",
        format!("{text}: it refuses writes until they are back"),
    );
    plan.order(sight, &primary.instance, ActionKind::RefuseWrites);
}
