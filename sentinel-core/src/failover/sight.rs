//! What a leader sees of one service, and the questions that every stage asks of it.
//!
//! Joins the committed state, the leader's own observation, the verdict and the desk. Answers, and
//! decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::detector::Evidence;
use crate::failover::desk::Desk;
use crate::id::{Incarnation, InstanceId, Member};
use crate::ledger::ServiceState;
use crate::monitor::{Monitor, Reading, Watch};
use crate::observation::{Facts, Link, Role, Upstream};
use crate::peer::AgentState;
use crate::planted::{Bug, Bugs};
use crate::position::Position;
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
    /// What the agents on the instances' hosts were lately heard to do.
    pub agents: &'a BTreeMap<InstanceId, AgentState>,
    /// Rules left out on purpose.
    pub bugs: &'a Bugs,
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

    /// The name under which a server is known best, if this is another name of it. An alias is never claimed, admitted or
    /// ordered, so that one copy is not counted twice.
    pub fn alias_of(&self, instance: &InstanceId) -> Option<&'a InstanceId> {
        let own = &self.facts(instance)?.server;
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
        let same = others.filter(|other| self.facts(other).is_some_and(|f| f.server == *own));
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

    /// Whether an instance may hold a history of a name that is not its own, and must be rebuilt (rule S12).
    pub fn is_barred(&self, instance: &InstanceId, facts: &Facts) -> bool {
        self.state.barred.get(instance) == Some(&facts.incarnation)
            && !self.desk.rebuilt.contains(instance)
            && !self.bugs.has(Bug::RepointTold)
    }

    /// The life in which an instance is barred of which nothing more is known, and which may have to be rebuilt.
    pub fn may_be_barred(&self, instance: &InstanceId) -> Option<&'a Incarnation> {
        let barred = self.state.barred.get(instance);
        barred.filter(|_| !self.bugs.has(Bug::RepointTold))
    }

    /// Whether these are a primary's that goes on with the newest history of the chain, and is not the authorised one:
    /// what it has beyond the beginning of that history is its own (rule S12).
    pub fn is_namesake(&self, facts: &Facts) -> bool {
        let newest = |position: &Position| self.state.chain.ends_with(&position.lineage);
        facts.role == Role::Primary
            && facts.position.as_ref().is_some_and(newest)
            && !self.bugs.has(Bug::RepointTold)
    }

    /// Whether the agent on its host says that the server does not run.
    pub fn is_stopped(&self, instance: &InstanceId) -> bool {
        let agent = self.agents.get(instance);
        self.facts(instance).is_none() && agent.is_some_and(|agent| agent.runs == Some(false))
    }

    /// Whether the quorum thinks that the primary is down.
    pub fn primary_is_down(&self) -> bool {
        self.verdict.is_some_and(Verdict::is_down)
    }

    /// Whether the quorum thinks so for more than its silence: it answers, and is no longer what was authorised.
    pub fn primary_lost_authority(&self) -> bool {
        let lost = |evidence: &Evidence| match evidence {
            Evidence::Restarted | Evidence::NotPrimary => true,
            Evidence::Refusal | Evidence::Silence => false,
        };
        self.primary_is_down() && self.verdict.is_some_and(|v| v.witnesses.values().any(lost))
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
}

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

/// Whether a replica, in this life, streams from the primary and has reached a point of its history.
pub(super) fn holds(
    sight: &Sight<'_>,
    primary: &InstanceId,
    instance: &InstanceId,
    incarnation: &Incarnation,
    target: &Position,
) -> bool {
    sight.facts(instance).is_some_and(|facts| {
        facts.incarnation == *incarnation
            && streams(facts, primary)
            && facts
                .position
                .as_ref()
                .is_some_and(|p| p.lineage == target.lineage && p.offset >= target.offset)
    })
}
