//! What a plan is made from, and what it consists of.
//!
//! A plan leaves nothing to decide later: orders to give now, at most one decision to propose, and
//! why. A plan that does nothing says why too.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::action::ActionKind;
use crate::detector::Evidence;
use crate::failover::desk::Desk;
use crate::failover::{adoption, freezing, promoting, repointing, steady};
use crate::id::{InstanceId, Member};
use crate::ledger::{Decision, ServiceState, Stage};
use crate::monitor::{Monitor, Reading, Watch};
use crate::observation::{Facts, Link, Role, Upstream};
use crate::planted::{Bug, Bugs};
use crate::ranking::{self, Counted};
use crate::reason::Reason;
use crate::time::Instant;
use crate::vote::Verdict;

/// Everything that a leader sees of one service.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The moment.
    pub now: Instant,
    /// What is committed.
    pub state: &'a ServiceState,
    /// What this node observed.
    pub monitor: &'a Monitor,
    /// What the voters think of the primary; `None` before adoption.
    pub verdict: Option<&'a Verdict>,
    /// What this leader has ordered.
    pub desk: &'a Desk,
    /// Rules left out on purpose.
    pub bugs: &'a Bugs,
}

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
    plan
}

impl<'a> Sight<'a> {
    /// One instance as this node sees it.
    pub fn watch(&self, instance: &InstanceId) -> Option<&'a Watch> {
        self.monitor.get(instance)
    }

    /// What an instance says now; `None` unless it is up.
    pub fn facts(&self, instance: &InstanceId) -> Option<&'a Facts> {
        self.watch(instance)?.current()
    }

    /// The newest reading of an instance, provided that it was asked for in this stage.
    pub fn reading_of_stage(&self, instance: &InstanceId) -> Option<&'a Reading> {
        self.watch(instance)?
            .reading()
            .filter(|reading| reading.asked_at > self.desk.stage_since)
    }

    /// The primary's facts, provided that it is up, is a primary, has its authority and lineage.
    pub fn sound_primary(&self) -> Option<(&'a Member, &'a Facts)> {
        let primary = self.state.primary.as_ref()?;
        let facts = self.facts(&primary.instance)?;
        let on_chain = facts
            .position
            .as_ref()
            .is_some_and(|p| self.state.chain.ends_with(&p.lineage));
        (facts.incarnation == primary.incarnation && facts.role == Role::Primary && on_chain)
            .then_some((primary, facts))
    }

    /// The name under which a server is known best, if this is another name of it: an incarnation belongs to
    /// one server. An alias is never claimed, admitted or ordered, so that one copy is not counted twice.
    pub fn alias_of(&self, instance: &InstanceId) -> Option<&'a InstanceId> {
        let own = &self.facts(instance)?.incarnation;
        let rank = |name: &InstanceId| {
            let is_primary = self
                .state
                .primary
                .as_ref()
                .is_some_and(|p| p.instance == *name);
            let is_member = self
                .state
                .configs
                .iter()
                .any(|config| config.members.contains_key(name));
            (
                !is_primary,
                !self.is_named_by_others(name),
                !is_member,
                name.clone(),
            )
        };
        let others = self
            .state
            .instances
            .iter()
            .filter(|other| *other != instance);
        let same = others.filter(|other| self.facts(other).is_some_and(|f| f.incarnation == *own));
        same.min_by_key(|other| rank(other))
            .filter(|best| rank(best) < rank(instance))
    }

    /// Whether a server names this instance as its replica or its upstream: the name that acknowledgements carry.
    fn is_named_by_others(&self, name: &InstanceId) -> bool {
        self.state
            .instances
            .iter()
            .filter_map(|other| self.facts(other))
            .any(|facts| {
                follows(facts, name)
                    || facts
                        .replicas
                        .iter()
                        .any(|replica| replica.instance == *name)
            })
    }

    /// Whether the quorum thinks that the primary is down.
    pub fn primary_is_down(&self) -> bool {
        self.verdict.is_some_and(Verdict::is_down)
    }

    /// What would count if every reachable member were frozen now, and why the others would not (rule L6).
    pub fn prospect(&self) -> (Counted, Vec<Reason>) {
        let mut counted = Counted::new();
        let mut reasons = Vec::new();
        for instance in self.to_freeze() {
            let Some(watch) = self.watch(&instance) else {
                continue;
            };
            let Some(facts) = watch.current() else {
                let cause = watch.rejected().unwrap_or("it does not answer");
                reasons.push(Reason::new(
                    "veto_unreachable",
                    format!("{instance} cannot be frozen: {cause}"),
                ));
                continue;
            };
            match ranking::count(self.state, &instance, facts, self.bugs) {
                Ok(offset) => {
                    counted.insert(instance, offset);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        (counted, reasons)
    }

    /// Every instance that a failover freezes: the members of each write quorum, and the told.
    pub fn to_freeze(&self) -> BTreeSet<InstanceId> {
        let members = self
            .state
            .configs
            .iter()
            .flat_map(|config| config.members.keys());
        // Going back to the old primary once somebody was told is an ordinary promotion of it (rule S13).
        let primary = self
            .state
            .primary
            .as_ref()
            .filter(|_| !self.state.told.is_empty());
        let told = self
            .state
            .told
            .keys()
            .chain(primary.map(|primary| &primary.instance));
        members.chain(told).cloned().collect()
    }

    /// Why a failover started now would not come to its end; empty when it would (rule L6).
    pub fn blockers(&self) -> Vec<Reason> {
        let (counted, mut reasons) = self.prospect();
        let facts = counted
            .keys()
            .filter_map(|i| Some((i.clone(), self.facts(i)?)))
            .collect();
        let mut blocked = false;
        if !self.bugs.has(Bug::SkipSeal)
            && let Err(missing) = ranking::seal(self.state, &counted)
        {
            reasons.extend(missing);
            blocked = true;
        }
        if let Err(vetoes) = ranking::choose(self.state, &counted, &facts, self.bugs) {
            reasons.extend(vetoes);
            blocked = true;
        }
        // Replicas outside the write quorum cannot be promoted; say why they are outside.
        if blocked {
            reasons.extend(self.outsiders());
            reasons
        } else {
            Vec::new()
        }
    }

    fn outsiders(&self) -> Vec<Reason> {
        let primary = self.state.primary.as_ref().map(|primary| &primary.instance);
        let inside = self.to_freeze();
        let outside = self
            .state
            .instances
            .iter()
            .filter(|i| Some(*i) != primary && !inside.contains(*i));
        outside
            .map(
                |instance| match self.watch(instance).and_then(Watch::reading) {
                    None => Reason::new("veto_never_seen", format!("{instance} was never reached")),
                    Some(reading) if !reading.facts.synced => {
                        let text = format!(
                            "{instance} has not finished its first sync, so its data are not whole"
                        );
                        Reason::new("veto_first_sync", text)
                    }
                    Some(_) => Reason::new(
                        "veto_not_admitted",
                        format!("{instance} is not admitted to the write quorum"),
                    ),
                },
            )
            .collect()
    }

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
}

impl Sight<'_> {
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

/// Whether a replica receives from this primary.
pub fn follows(facts: &Facts, primary: &InstanceId) -> bool {
    matches!(&facts.role, Role::Replica { upstream: Upstream::Instance(upstream), .. } if upstream == primary)
}

/// Whether a replica streams from this primary.
pub fn streams(facts: &Facts, primary: &InstanceId) -> bool {
    follows(facts, primary)
        && matches!(
            &facts.role,
            Role::Replica {
                link: Link::Streaming,
                ..
            }
        )
        && facts.synced
}
