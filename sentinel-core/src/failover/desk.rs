//! What a leader remembers of one service while it leads: orders under way, and what came of them.
//!
//! Soft state. A new leader starts with an empty desk and does again whatever it cannot prove: every
//! order is idempotent. Everything that counts as evidence is of the current epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::action::{Action, ActionKind, Outcome};
use crate::failover::plan::Note;
use crate::id::{ActionId, Epoch, Incarnation, InstanceId, Token};
use crate::monitor::Reading;
use crate::observation::{Facts, Link, Role, Upstream};
use crate::position::Position;
use crate::time::Instant;

/// How long an instance that refused an order, or left it open, is left alone.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How long the word that a promotion goes on holds without being repeated.
const UNDER_WAY_HOLDS: Duration = Duration::from_secs(1);

/// An order under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Its id.
    pub id: ActionId,
    /// What it does.
    pub kind: ActionKind,
    /// When it was given.
    pub given_at: Instant,
    /// Token that it carries.
    pub token: Token,
}

/// A replica that must reach a point before it is trusted (rules S3, S4, L3).
#[derive(Clone, Debug, PartialEq)]
pub struct CatchUp {
    /// Which life of the replica.
    pub incarnation: Incarnation,
    /// The primary's position, read after the reason for catching up was seen.
    pub target: Position,
}

/// A write quorum that was read back on the primary.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// Which one.
    pub version: Token,
    /// When it was first read back.
    pub seen_at: Instant,
    /// The primary's position, asked for after that: a probe reads the position before the write quorum, so
    /// that the one of the same reading may be older.
    pub target: Option<Position>,
}

/// A primary whose writes were ordered to pause, and may be paused.
#[derive(Clone, Debug, PartialEq)]
pub struct Paused {
    /// Which one.
    pub primary: InstanceId,
    /// Where its last write is; `None` until it has told.
    pub last: Option<Position>,
    /// When that was heard, or that the order is open.
    pub since: Instant,
    /// When it said that it takes writes again.
    pub resumed: Option<Instant>,
}

/// Invariants: everything but `stage_since` belongs to `epoch`; at most one order per instance is under way.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The epoch of the evidence.
    pub epoch: Epoch,
    /// When the service entered its stage, as this leader saw it.
    pub stage_since: Instant,
    /// Members frozen by an executed action of this epoch, with what they said afterwards.
    pub frozen: BTreeMap<InstanceId, Reading>,
    /// Since when the frozen members seal.
    pub sealed_since: Option<Instant>,
    /// Instances re-pointed by an executed action of this epoch.
    pub repointed: BTreeSet<InstanceId>,
    /// Orders under way.
    pub under_way: BTreeMap<InstanceId, UnderWay>,
    /// Instances to leave alone for a while.
    pub retry_at: BTreeMap<InstanceId, Instant>,
    /// What each instance was last made to do, and when it may be made to do the same again: an order that
    /// was carried out to no effect is not repeated without a pause.
    pub repeat_at: BTreeMap<InstanceId, (&'static str, Instant)>,
    /// Why an instance last refused an order, for the report.
    pub refusals: BTreeMap<InstanceId, String>,
    /// Instances that refused to be frozen in this epoch, and have not been since.
    pub unfrozen: BTreeSet<InstanceId>,
    /// What goes on at an instance by an order of ours, for the report.
    pub jobs: BTreeMap<InstanceId, String>,
    /// Until when the target's promotion is known to go on.
    pub promotion_goes_on: Option<Instant>,
    /// Instances rebuilt by an executed action of this epoch.
    pub rebuilt: BTreeSet<InstanceId>,
    /// Instances that were ordered to be rebuilt and are not yet, with the life that each gives up.
    pub rebuilding: BTreeMap<InstanceId, Incarnation>,
    /// The primary whose writes are paused for a switchover, or may be.
    pub paused: Option<Paused>,
    /// The primary was ordered to pause in this stage: what it and its replicas say from here on is our own doing.
    pub pause_ordered: bool,
    /// Why the primary refused to pause when it was last ordered to.
    pub pause_refused: Option<String>,
    /// Since when too few members stream from the primary.
    pub short_since: Option<Instant>,
    /// The target of this epoch refused to be promoted, and no order to promote was left open before.
    pub promotion_refused: bool,
    /// An order to promote was left open: a later refusal says nothing about it.
    pub promotion_open: bool,
    /// Replicas catching up before they are admitted, or readmitted.
    pub catch_ups: BTreeMap<InstanceId, CatchUp>,
    /// The newest write quorum, once it was read back on the primary.
    pub in_force: Option<InForce>,
    /// The primary's position when re-pointing was first seen to be due, and when it was asked for.
    pub repoint_mark: Option<(Position, Instant)>,
    /// A proposal made from this token is under way; until the instant it is not repeated.
    pub proposed: Option<(Token, Instant)>,
}

impl Desk {
    /// An empty desk.
    pub fn new(now: Instant, epoch: Epoch) -> Self {
        Self {
            epoch,
            stage_since: now,
            frozen: BTreeMap::new(),
            sealed_since: None,
            repointed: BTreeSet::new(),
            under_way: BTreeMap::new(),
            retry_at: BTreeMap::new(),
            repeat_at: BTreeMap::new(),
            refusals: BTreeMap::new(),
            unfrozen: BTreeSet::new(),
            jobs: BTreeMap::new(),
            promotion_goes_on: None,
            rebuilt: BTreeSet::new(),
            rebuilding: BTreeMap::new(),
            paused: None,
            pause_ordered: false,
            pause_refused: None,
            short_since: None,
            promotion_refused: false,
            promotion_open: false,
            catch_ups: BTreeMap::new(),
            in_force: None,
            repoint_mark: None,
            proposed: None,
        }
    }

    /// A commit changed who counts, or the name of the history: marks set before it prove nothing after it.
    pub fn forget_marks(&mut self) {
        self.catch_ups.clear();
        self.in_force = None;
    }

    /// A commit moved the service to another stage or epoch. Orders of the old epoch stay under way
    /// until their outcome is known, so that no two overlap on one instance.
    pub fn on_stage(&mut self, now: Instant, epoch: Epoch) {
        self.stage_since = now;
        self.sealed_since = None;
        self.repoint_mark = None;
        self.pause_ordered = false;
        self.pause_refused = None;
        self.forget_marks();
        if epoch != self.epoch {
            let under_way = std::mem::take(&mut self.under_way);
            let paused = self.paused.take();
            *self = Self {
                under_way,
                paused,
                ..Self::new(now, epoch)
            };
        }
    }

    /// Keeps what a plan wants to be remembered.
    pub fn note(&mut self, now: Instant, note: Note) {
        match note {
            Note::CatchUp(instance, mark) => {
                self.catch_ups.insert(instance, mark);
            }
            Note::InForce(version) => {
                self.in_force = Some(InForce {
                    version,
                    seen_at: now,
                    target: None,
                });
            }
            Note::Target(position) => {
                if let Some(in_force) = &mut self.in_force {
                    in_force.target = Some(position);
                }
            }
            Note::NotInForce => self.in_force = None,
            Note::RepointMark(position) => self.repoint_mark = Some((position, now)),
            Note::Short => {
                self.short_since.get_or_insert(now);
            }
            Note::Enough => self.short_since = None,
            Note::NotPaused => self.paused = None,
        }
    }

    /// Whether the instance is at its pause, by what it said last or has not had the time to answer.
    pub fn is_pausing(&self, instance: &InstanceId) -> bool {
        let asked = self
            .under_way
            .get(instance)
            .is_some_and(|order| matches!(order.kind, ActionKind::Pause { .. }));
        self.jobs.contains_key(instance) || (asked && !self.refusals.contains_key(instance))
    }

    /// Whether this order may be given to the instance.
    pub fn is_free(&self, now: Instant, instance: &InstanceId, kind: &ActionKind) -> bool {
        let repeats = |(word, at): &(&'static str, Instant)| *word == kind.word() && now < *at;
        !self.under_way.contains_key(instance)
            && self.retry_at.get(instance).is_none_or(|at| *at <= now)
            && !self.repeat_at.get(instance).is_some_and(repeats)
    }

    /// When an instance that is left alone may be given an order again.
    pub fn next_retry(&self, now: Instant) -> Option<Instant> {
        let repeats = self.repeat_at.values().map(|(_, at)| at);
        self.retry_at
            .values()
            .chain(repeats)
            .copied()
            .filter(|at| *at > now)
            .min()
    }

    /// An order was given.
    pub fn on_order(&mut self, now: Instant, action: &Action) {
        let under_way = UnderWay {
            id: action.id,
            kind: action.kind.clone(),
            given_at: now,
            token: action.token,
        };
        self.pause_ordered |= matches!(action.kind, ActionKind::Pause { .. });
        if let ActionKind::Rebuild { life, .. } = &action.kind {
            let instance = action.instance.clone();
            self.rebuilding.insert(instance, life.clone());
        }
        self.under_way.insert(action.instance.clone(), under_way);
    }

    /// To whom the order of this id went, while it is under way.
    pub fn ordered(&self, id: ActionId) -> Option<&InstanceId> {
        let order = self.under_way.iter().find(|(_, order)| order.id == id);
        order.map(|(instance, _)| instance)
    }

    /// An order came to its end. Returns it, with what the instance said afterwards if it was executed.
    pub fn on_outcome(
        &mut self,
        now: Instant,
        id: ActionId,
        outcome: &Outcome,
    ) -> Option<(InstanceId, UnderWay)> {
        let instance = self
            .under_way
            .iter()
            .find(|(_, order)| order.id == id)
            .map(|(instance, _)| instance.clone())?;
        let order = self.under_way.remove(&instance)?;
        self.jobs.remove(&instance);
        // It may be paused, or will be, although nobody has heard so: that has to be ended too.
        let open = matches!(outcome, Outcome::UnderWay(_) | Outcome::Unknown(_));
        let untold = self
            .paused
            .as_ref()
            .is_none_or(|paused| paused.last.is_none() || paused.resumed.is_some());
        if open && matches!(order.kind, ActionKind::Pause { .. }) && untold {
            self.paused = Some(Paused {
                primary: instance.clone(),
                last: None,
                since: now,
                resumed: None,
            });
        }
        if matches!(order.kind, ActionKind::Pause { .. }) {
            self.pause_refused = match outcome {
                Outcome::Refused(text) => Some(text.clone()),
                Outcome::Done(_) | Outcome::UnderWay(_) | Outcome::Unknown(_) => None,
            };
        }
        match outcome {
            Outcome::Done(facts) => {
                self.retry_at.remove(&instance);
                self.repeat_at
                    .insert(instance.clone(), (order.kind.word(), now + RETRY_PAUSE));
                self.refusals.remove(&instance);
                if order.token.epoch == self.epoch {
                    self.on_done(now, &instance, &order, facts);
                }
            }
            Outcome::Refused(text) => {
                self.retry_at.insert(instance.clone(), now + RETRY_PAUSE);
                self.refusals.insert(instance.clone(), text.clone());
                if matches!(order.kind, ActionKind::Promote { .. })
                    && order.token.epoch == self.epoch
                {
                    self.promotion_refused = !self.promotion_open;
                }
                if order.kind == ActionKind::Freeze && order.token.epoch == self.epoch {
                    self.unfrozen.insert(instance.clone());
                }
            }
            Outcome::UnderWay(text) => {
                self.retry_at.insert(instance.clone(), now + RETRY_PAUSE);
                self.refusals.remove(&instance);
                self.jobs.insert(instance.clone(), text.clone());
                if matches!(order.kind, ActionKind::Promote { .. }) {
                    self.promotion_open = true;
                    self.promotion_goes_on = Some(now + UNDER_WAY_HOLDS);
                }
            }
            Outcome::Unknown(text) => {
                self.promotion_open |= matches!(order.kind, ActionKind::Promote { .. });
                self.retry_at.insert(instance.clone(), now + RETRY_PAUSE);
                self.refusals.insert(instance.clone(), text.clone());
            }
        }
        Some((instance, order))
    }

    fn on_done(&mut self, now: Instant, instance: &InstanceId, order: &UnderWay, facts: &Facts) {
        match &order.kind {
            ActionKind::Freeze | ActionKind::StandDown { .. } if is_frozen(facts) => {
                let reading = Reading {
                    facts: facts.clone(),
                    asked_at: order.given_at,
                    read_at: now,
                };
                self.frozen.insert(instance.clone(), reading);
                self.unfrozen.remove(instance);
            }
            ActionKind::Repoint { .. } | ActionKind::Demote { .. } => {
                self.repointed.insert(instance.clone());
            }
            ActionKind::Rebuild { .. } => {
                self.rebuilt.insert(instance.clone());
                self.rebuilding.remove(instance);
                self.repointed.insert(instance.clone());
            }
            ActionKind::Pause { .. } => {
                if let Some(position) = facts.position.clone() {
                    self.paused = Some(Paused {
                        primary: instance.clone(),
                        last: Some(position),
                        since: now,
                        resumed: None,
                    });
                }
            }
            ActionKind::Resume => {
                if let Some(paused) = &mut self.paused {
                    paused.resumed = Some(now);
                }
            }
            ActionKind::Freeze
            | ActionKind::StandDown { .. }
            | ActionKind::Unfreeze { .. }
            | ActionKind::Configure { .. }
            | ActionKind::Promote { .. }
            | ActionKind::RefuseWrites
            | ActionKind::AcceptWrites => {}
        }
    }

    /// An instance was read again: evidence that no longer holds is dropped, and what holds is renewed. A reading that
    /// was asked for while the freeze was under way may have been answered before it, so it contradicts nothing; what
    /// seals is read once more in any case.
    pub fn on_reading(&mut self, instance: &InstanceId, reading: &Reading) {
        if let Some(evidence) = self.frozen.get_mut(instance)
            && reading.asked_at >= evidence.asked_at
        {
            if is_frozen(&reading.facts) && reading.facts.incarnation == evidence.facts.incarnation
            {
                *evidence = reading.clone();
            } else if reading.asked_at >= evidence.read_at {
                self.frozen.remove(instance);
            }
        }
        let facts = &reading.facts;
        let rebuilt = |life: &Incarnation| *life != facts.incarnation || is_fed(facts);
        if self.rebuilding.get(instance).is_some_and(rebuilt) {
            self.rebuilding.remove(instance);
        }
        if self
            .catch_ups
            .get(instance)
            .is_some_and(|it| it.incarnation != reading.facts.incarnation)
        {
            self.catch_ups.remove(instance);
        }
    }
}

/// Whether the instance receives what it needs.
fn is_fed(facts: &Facts) -> bool {
    matches!(&facts.role, Role::Replica { link, .. } if *link == Link::Streaming)
}

/// Whether the instance receives from nobody, by a freeze.
pub fn is_frozen(facts: &Facts) -> bool {
    matches!(
        &facts.role,
        Role::Replica {
            upstream: Upstream::Frozen,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ServiceName, Term};
    use crate::observation::{Persistable, RestartGuard, Writes};

    fn at(millis: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(millis)
    }

    fn facts(upstream: Upstream) -> Facts {
        Facts {
            incarnation: "life".into(),
            server: "process".into(),
            role: Role::Replica {
                upstream,
                link: Link::Broken,
            },
            position: None,
            fork: None,
            synced: true,
            holds_data: true,
            persistable: Persistable::Yes,
            priority: 100,
            write_quorum: None,
            replicas: Vec::new(),
            restart_guard: RestartGuard::None,
            writes: Writes::Itself,
            applied: None,
            trouble: None,
        }
    }

    /// A freeze is ordered at 10 ms and known to be done at 16 ms; a reading says then that the instance still receives.
    fn frozen_after_a_reading_asked_for_at(millis: u64) -> bool {
        let replica = InstanceId::new("10.0.0.21", 2);
        let mut desk = Desk::new(at(0), Epoch(2));
        let freeze = Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: ServiceName::from("orders"),
            instance: replica.clone(),
            token: Token {
                epoch: Epoch(2),
                step: 1,
            },
            deadline: at(310),
            kind: ActionKind::Freeze,
        };
        desk.on_order(at(10), &freeze);
        let done = Outcome::Done(Box::new(facts(Upstream::Frozen)));
        desk.on_outcome(at(16), freeze.id, &done);
        let upstream = Upstream::Instance(InstanceId::new("10.0.0.21", 1));
        let reading = Reading {
            facts: facts(upstream),
            asked_at: at(millis),
            read_at: at(millis + 1),
        };
        desk.on_reading(&replica, &reading);
        desk.frozen.contains_key(&replica)
    }

    /// It would be frozen a second time, and the failover would wait for that.
    #[test]
    fn a_reading_answered_before_the_freeze_does_not_undo_it() {
        assert!(frozen_after_a_reading_asked_for_at(9), "before the order");
        assert!(frozen_after_a_reading_asked_for_at(12), "under way");
        assert!(!frozen_after_a_reading_asked_for_at(16), "after its end");
    }
}
