//! What a plan consists of, and who makes it.
//!
//! A plan leaves nothing to decide later: orders to give now, at most one decision to propose, and
//! why. A plan that does nothing says why too.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::action::ActionKind;
use crate::detector::Evidence;
use crate::failover::sight::Sight;
use crate::failover::{adoption, freezing, promoting, repointing, steady, switching};
use crate::id::InstanceId;
use crate::ledger::{Decision, Stage};
use crate::reason::Reason;
use crate::time::Instant;
use crate::vote::Verdict;

/// One thing to do to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// To whom.
    pub instance: InstanceId,
    /// What.
    pub kind: ActionKind,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Orders, one per instance.
    pub orders: Vec<Order>,
    /// What to propose.
    pub decision: Option<Decision>,
    /// Instances to look at before anything else.
    pub look: BTreeSet<InstanceId>,
    /// Whether the frozen members seal.
    pub sealed: bool,
    /// Notes to keep on the desk.
    pub notes: Vec<Note>,
    /// Why.
    pub reasons: Vec<Reason>,
    /// When the plan may change by time alone.
    pub wake: Option<Instant>,
}

/// Something to remember; the desk is not changed while a plan is made.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// This replica catches up to this point before it is trusted.
    CatchUp(InstanceId, crate::failover::desk::CatchUp),
    /// The newest write quorum was read back on the primary.
    InForce(crate::id::Token),
    /// Where the primary was after that.
    Target(crate::position::Position),
    /// Another write quorum than the newest was read on the primary: marks taken before are void (rule S3).
    NotInForce,
    /// The new primary was here when re-pointing began.
    RepointMark(crate::position::Position),
    /// Fewer members than the write quorum needs stream from the primary.
    Short,
    /// Enough do.
    Enough,
    /// The pause of a switchover is over: somebody else is primary, or it has ended by itself.
    NotPaused,
}

impl Plan {
    /// Adds an order unless the instance is busy or left alone.
    pub fn order(&mut self, sight: &Sight<'_>, instance: &InstanceId, kind: ActionKind) {
        let taken = self.orders.iter().any(|order| order.instance == *instance);
        if !taken && sight.desk.is_free(sight.now, instance, &kind) {
            self.orders.push(Order {
                instance: instance.clone(),
                kind,
            });
        }
    }

    /// Adds a reason.
    pub fn because(&mut self, code: &str, text: impl Into<String>) {
        self.reasons.push(Reason::new(code, text));
    }

    /// Asks to be made again at this instant at the latest.
    pub fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// Makes the plan for the stage that the service is in.
pub fn plan(sight: &Sight<'_>) -> Plan {
    let mut plan = match &sight.state.stage {
        Stage::Unadopted => adoption::plan(sight),
        Stage::Steady => steady::plan(sight),
        Stage::Switching { target } => switching::plan(sight, target),
        Stage::Freezing => freezing::plan(sight),
        Stage::Promoting { target, position } => promoting::plan(sight, target, position),
        Stage::Repointing => repointing::plan(sight),
    };
    if let Some(retry) = sight.desk.next_retry(sight.now) {
        plan.wake_at(retry);
    }
    for (instance, text) in &sight.desk.refusals {
        plan.because(
            "order_refused",
            format!("{instance} did not carry out the last order: {text}"),
        );
    }
    for (instance, text) in &sight.desk.jobs {
        plan.because("under_way", format!("{instance}: {text}"));
    }
    plan
}

impl Sight<'_> {
    /// Begins a failover if the verdict is Down and it could come to its end; else says what is in the way.
    pub fn fail_over(&self, plan: &mut Plan) {
        let Some(verdict) = self.verdict else { return };
        let witnesses: Vec<String> = verdict
            .witnesses
            .iter()
            .map(|(node, evidence)| format!("{node} ({evidence})"))
            .collect();
        plan.because(
            "primary_down",
            format!(
                "down by {} of {}: {}",
                witnesses.len(),
                verdict.voters,
                witnesses.join(", ")
            ),
        );
        let blockers = self.blockers();
        if blockers.is_empty() {
            plan.decision = Some(Decision::Freeze);
        } else if self.replicas_need_shelter(verdict) {
            plan.because("shelter", "the primary restarted, and would overwrite its replicas with what it has left: they are frozen although nobody can be promoted yet");
            plan.reasons.extend(blockers);
            plan.decision = Some(Decision::Freeze);
        } else {
            plan.because("blocked", "nothing is promoted: no failover could come to its end without losing acknowledged writes");
            plan.reasons.extend(blockers);
            plan.wake_at(self.now + BLOCKED_PACE);
        }
    }

    /// A primary that restarted overwrites whoever follows it, and a full sync waits for `restart_delay` only (rule
    /// S15). It has lost its authority, so that a freeze without prospect takes no healthy primary's replicas away (rule
    /// L6). While no write quorum ever had enough members, nothing was acknowledged that could be lost.
    fn replicas_need_shelter(&self, verdict: &Verdict) -> bool {
        let restarted = verdict
            .witnesses
            .values()
            .any(|evidence| *evidence == Evidence::Restarted);
        restarted
            && self
                .state
                .configs
                .iter()
                .any(|config| config.members.len() >= config.k as usize)
    }
}

/// How often a blocked failover is thought over again, besides every change that is seen.
const BLOCKED_PACE: Duration = Duration::from_millis(100);
