//! One simulated run from its settings to its result: begin, trouble, mend for good, demand progress.
//!
//! Phase one breaks things while the invariants look on; phase two mends (or leaves a minority of the
//! voters dead for good) and demands a primary that acknowledges, and calm afterwards.

use std::time::Duration;

use sentinel_core::id::Epoch;
use sentinel_core::ledger::{Decision, Stage, Table};
use sentinel_core::time::Instant;

use super::chance::Chance;
use super::history::Totals;
use super::instance::{Duty, Process};
use super::invariant::{Happening, Violation};
use super::settings::{Settings, service_name};
use super::world::World;

/// A cluster forms and adopts its primary within this.
const FORMING_MAX: Duration = Duration::from_secs(20);

/// From the mending of everything to an acknowledged write: the longest restart that the budget holds
/// back, then detection, election, failover, the delay before a full sync, its copy, exclusion and
/// readmission, with room.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// After that nothing may happen for so long.
const CALM: Duration = Duration::from_secs(15);

/// Longer than a silence that began before the mending can take to become a failover.
const LATE_VERDICT: Duration = Duration::from_secs(3);

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// The first violation, if any.
    pub violation: Option<Violation>,
    /// Totals.
    pub totals: Totals,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Virtual time.
    pub simulated: Duration,
    /// From the mending to the first acknowledged write; `None` when it did not come to that.
    pub recovered: Option<Duration>,
    /// The newest lines, when they were kept.
    pub tail: String,
}

/// Runs one seed.
pub fn run(settings: Settings) -> Report {
    let mut world = World::new(settings);
    let recovered = world.play();
    finish(&world, recovered)
}

/// The result of a world as it stands.
pub fn finish(world: &World, recovered: Option<Duration>) -> Report {
    Report {
        violation: world.violation.clone(),
        totals: world.totals.clone(),
        hash: world.trace.hash(),
        simulated: world.now().since(Instant::ORIGIN),
        recovered,
        tail: world.trace.tail(usize::MAX),
    }
}

impl World {
    fn play(&mut self) -> Option<Duration> {
        self.form();
        self.begin_trouble();
        let until = self.now() + self.settings.trouble;
        self.run_until(until);
        self.end_trouble();
        self.leave_a_minority_dead();
        self.conclude()
    }

    /// Mends everything for good, demands progress, then calm.
    pub(super) fn conclude(&mut self) -> Option<Duration> {
        let mended = self.now();
        self.mend_everything();
        let recovered = self.recover(mended);
        self.rest();
        recovered
    }

    /// Runs until the primary is adopted and has acknowledged a write.
    pub fn form(&mut self) {
        let until = self.now() + FORMING_MAX;
        let formed = self.run_while(until, |world| world.acknowledged.is_empty());
        if !formed {
            self.complain(
                "8 progress",
                "no write was acknowledged after the start".into(),
            );
        }
    }

    fn leave_a_minority_dead(&mut self) {
        let mut chance = Chance::new(self.settings.seed ^ 0x000d_ead5);
        if chance.percent(40) {
            let minority = (self.nodes.len() - 1) / 2;
            for n in 0..minority {
                if self.nodes[n].is_alive() {
                    self.crash_node(n);
                }
                self.nodes[n].retire();
            }
        }
    }

    fn recover(&mut self, mended: Instant) -> Option<Duration> {
        let count = self.acknowledged.len();
        let works = self.run_while(mended + RECOVERY_MAX, |world| {
            !(world.is_settled() && world.acknowledged.len() > count)
        });
        if !works {
            let state = self.describe();
            self.complain(
                "8 progress",
                format!("{RECOVERY_MAX:?} after mending: {state}"),
            );
            return None;
        }
        Some(self.now().since(mended))
    }

    /// Nothing happens any longer, and everybody has everything.
    fn rest(&mut self) {
        // A silence from before the mending may still lead to a failover: that is no new one.
        self.run_until(self.now() + LATE_VERDICT);
        // Replicas that were dead or excluded may still be on their way back.
        let until = self.now() + RECOVERY_MAX;
        let whole = self.run_while(until, |world| !world.may_lose_memory());
        if !whole {
            let state = self.describe();
            self.complain("8 progress", format!("never whole again: {state}"));
        }
        let epoch = self.epoch();
        let until = self.now() + CALM;
        self.run_until(until);
        if self.epoch() != epoch {
            self.complain(
                "9 no ping-pong",
                format!("a failover without a fault: {epoch}"),
            );
        }
        self.tell(&Happening::Rested);
    }

    /// Runs while something holds; false when it still held at the end, or something was violated.
    pub fn run_while(&mut self, until: Instant, holds: impl Fn(&Self) -> bool) -> bool {
        loop {
            if self.violation.is_some() {
                return false;
            }
            if !holds(self) {
                return true;
            }
            if !self.step(until) {
                return false;
            }
        }
    }

    /// Whether every live node shows a steady service whose primary is one indeed.
    pub fn is_settled(&self) -> bool {
        let Some(service) = self.service() else {
            return false;
        };
        let (Stage::Steady, Some(primary)) = (&service.stage, &service.primary) else {
            return false;
        };
        let Some(index) = self.index_of(&primary.instance) else {
            return false;
        };
        let instance = &self.instances[index];
        instance.process == Process::Running
            && instance.duty == Duty::Primary
            && instance.incarnation() == primary.incarnation
            && self
                .acknowledged
                .last()
                .is_some_and(|write| write.instance == index)
    }

    /// The service's epoch.
    pub fn epoch(&self) -> Epoch {
        self.service()
            .map_or(Epoch(0), |service| service.token.epoch)
    }

    pub(super) fn complain(&mut self, invariant: &'static str, text: String) {
        if self.violation.is_none() {
            let at = self.now();
            let violation = Violation {
                invariant,
                text,
                at,
            };
            self.trace.line(at, || violation.to_string());
            self.violation = Some(violation);
        }
    }

    /// Counts decisions that no node has shown before.
    pub(super) fn note_decisions(&mut self, n: usize, table: &Table) {
        let known = self.service().map_or(0, |service| service.token.step);
        let Some(service) = table.services.get(&service_name()) else {
            return;
        };
        for entry in &service.history {
            if entry.token.step <= known {
                continue;
            }
            self.trace.line(self.schedule.now(), || {
                let reasons: Vec<&str> = entry.reasons.iter().map(|r| r.text.as_str()).collect();
                format!(
                    "s{} shows {} {}: {}",
                    n + 1,
                    entry.token,
                    entry.decision,
                    reasons.join("; ")
                )
            });
            match entry.decision.as_str() {
                word if word == Decision::Abort.word() => self.totals.aborts += 1,
                "admit" | "exclude" | "adjust" => self.totals.changes += 1,
                "switch" => self.totals.switchovers += 1,
                "call_off" => self.totals.called_off += 1,
                "readmit" => self.totals.readmissions += 1,
                _other_word => {}
            }
        }
    }

    /// The state of everything in a few lines, for people.
    pub fn describe(&self) -> String {
        let mut text = match self.service() {
            None => "no service".to_owned(),
            Some(service) => format!(
                "token {} stage {:?} primary {:?} configs {:?} chain {:?} floor {} told {:?}",
                service.token,
                service.stage,
                service.primary,
                service.configs,
                service.chain,
                service.floor,
                service.told
            ),
        };
        for i in &self.instances {
            text += &format!(
                "\n  {} {:?} {:?} {} at {:?} fork {:?} {:?} replicas {:?} quorum {:?}",
                i.id,
                i.process,
                i.duty,
                i.incarnation(),
                i.position(),
                i.parent,
                i.feed,
                i.downstream,
                i.quorum
            );
            if self.is_postgres() {
                let host = &self.hosts[i.index];
                text += &format!(
                    " whole {} writes {:?} promoting {:?} agent {:?} {} {:?}",
                    i.whole,
                    i.postgres.writes,
                    i.postgres.promoting,
                    self.agent_of(i.index),
                    host.token,
                    host.job
                );
            }
        }
        for (n, node) in self.nodes.iter().enumerate() {
            text += &format!(
                "\n  s{} alive {} leads {}",
                n + 1,
                node.is_alive(),
                node.is_leader()
            );
            let view = node.view.as_ref().filter(|_| node.is_leader());
            let service = view.and_then(|view| view.services.get(&service_name()));
            for reason in service.iter().flat_map(|service| &service.report) {
                text += &format!("\n    {}: {}", reason.code, reason.text);
            }
        }
        text
    }
}
