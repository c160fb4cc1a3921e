//! Watches the instances of one service: when to look, and what was last seen.
//!
//! Sets the pace and the deadline of probes, keeps the newest facts with the instant at which they
//! were asked for, and feeds the detector. Does not know which instance is the primary, nor why
//! anybody cares.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::ServiceSettings;
use crate::detector::{Detector, Health};
use crate::id::{InstanceId, ProbeId};
use crate::observation::{Facts, Observation, ProbeFailure};
use crate::time::Instant;

/// What an instance said, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What it said.
    pub facts: Facts,
    /// When the probe or action set out: the facts hold at some instant after this one.
    pub asked_at: Instant,
    /// When the answer came.
    pub read_at: Instant,
}

/// One watched instance.
///
/// Invariants: at most one probe is under way; `reading.asked_at` never moves back.
#[derive(Clone, Debug)]
pub struct Watch {
    detector: Detector,
    under_way: Option<(ProbeId, Instant)>,
    next_probe: Instant,
    /// When the newest probe set out, whatever became of it.
    probed_at: Option<Instant>,
    /// Fresh facts were asked for while a probe was under way.
    again: Option<Instant>,
    reading: Option<Reading>,
    rejected: Option<String>,
    health: Health,
    health_since: Instant,
}

/// How the pace quickens while refusals are to be confirmed: a third of `refused_after`.
const CONFIRMATION_PACE_DIVISOR: u32 = 3;

impl Watch {
    fn new(now: Instant, settings: &ServiceSettings) -> Self {
        let late_after = settings.probe_every + settings.probe_deadline();
        Self {
            detector: Detector::new(now, settings.down_after, settings.refused_after, late_after),
            under_way: None,
            next_probe: now,
            probed_at: None,
            again: None,
            reading: None,
            rejected: None,
            health: Health::Unknown,
            health_since: now,
        }
    }

    /// What this node thinks of the instance.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Since when.
    pub fn health_since(&self) -> Instant {
        self.health_since
    }

    /// The newest facts.
    pub fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }

    /// When it was last asked for facts, by a probe or by the action that read them.
    pub fn asked_at(&self) -> Option<Instant> {
        let read = self.reading.as_ref().map(|reading| reading.asked_at);
        read.max(self.probed_at)
    }

    /// The newest facts, provided that the instance is up: what it said last still holds.
    pub fn current(&self) -> Option<&Facts> {
        match self.health {
            Health::Up => self.reading.as_ref().map(|reading| &reading.facts),
            Health::Unknown | Health::Suspect | Health::Down(_) => None,
        }
    }

    /// Why the last probe yielded nothing although the instance answered.
    pub fn rejected(&self) -> Option<&str> {
        self.rejected.as_deref()
    }

    /// Whether the instance is down.
    pub fn is_down(&self) -> bool {
        matches!(self.health, Health::Down(_))
    }
}

/// All watched instances of a service.
#[derive(Clone, Debug, Default)]
pub struct Monitor {
    watches: BTreeMap<InstanceId, Watch>,
}

impl Monitor {
    /// Watches an instance from now on; nothing changes if it is watched already.
    pub fn watch(&mut self, now: Instant, instance: &InstanceId, settings: &ServiceSettings) {
        self.watches
            .entry(instance.clone())
            .or_insert_with(|| Watch::new(now, settings));
    }

    /// Stops watching all but these.
    pub fn retain(&mut self, keep: impl Fn(&InstanceId) -> bool) {
        self.watches.retain(|instance, _| keep(instance));
    }

    /// Every watched instance.
    pub fn watches(&self) -> &BTreeMap<InstanceId, Watch> {
        &self.watches
    }

    /// One watched instance.
    pub fn get(&self, instance: &InstanceId) -> Option<&Watch> {
        self.watches.get(instance)
    }

    /// Whether a probe is due, and none is under way.
    pub fn is_due(&self, now: Instant, instance: &InstanceId) -> bool {
        self.watches
            .get(instance)
            .is_some_and(|watch| watch.under_way.is_none() && watch.next_probe <= now)
    }

    /// When to look at the instance again; `None` while a probe is under way.
    pub fn next_probe(&self, instance: &InstanceId) -> Option<Instant> {
        self.watches
            .get(instance)
            .filter(|watch| watch.under_way.is_none())
            .map(|watch| watch.next_probe)
    }

    /// A probe set out.
    pub fn on_probe(&mut self, now: Instant, instance: &InstanceId, id: ProbeId) {
        if let Some(watch) = self.watches.get_mut(instance) {
            watch.under_way = Some((id, now));
            watch.probed_at = Some(now);
        }
    }

    /// Somebody wants facts asked for at `at`: a probe sets out then, or as soon as none is under way.
    pub fn hurry(&mut self, at: Instant, instance: &InstanceId) {
        if let Some(watch) = self.watches.get_mut(instance) {
            match watch.under_way {
                Some(_) => watch.again = Some(at),
                None => watch.next_probe = watch.next_probe.min(at),
            }
        }
    }

    /// A probe came back. Returns whether it was the one under way; a stray one is ignored.
    pub fn on_observation(
        &mut self,
        now: Instant,
        instance: &InstanceId,
        id: ProbeId,
        observation: Observation,
        settings: &ServiceSettings,
    ) -> bool {
        let Some(watch) = self.watches.get_mut(instance) else {
            return false;
        };
        let Some((_, asked_at)) = watch.under_way.take_if(|(under_way, _)| *under_way == id) else {
            return false;
        };
        match observation {
            Observation::Facts(facts) => {
                watch.rejected = None;
                watch.detector.on_answer(now);
                Self::keep(
                    watch,
                    Reading {
                        facts: *facts,
                        asked_at,
                        read_at: now,
                    },
                );
                watch.next_probe = (asked_at + settings.probe_every).max(now);
            }
            Observation::Failure(failure) => {
                watch.detector.on_failure(now, &failure);
                watch.next_probe = now + Self::pause_after(&watch.detector, &failure, settings);
                if let ProbeFailure::Rejected(text) = failure {
                    watch.rejected = Some(text);
                }
            }
        }
        if let Some(at) = watch.again.take() {
            watch.next_probe = watch.next_probe.min(at.max(now));
        }
        true
    }

    /// An action read facts back: as good as a probe.
    pub fn on_facts(
        &mut self,
        now: Instant,
        instance: &InstanceId,
        facts: &Facts,
        asked_at: Instant,
    ) {
        if let Some(watch) = self.watches.get_mut(instance) {
            watch.detector.on_answer(now);
            // A probe under way may have read what the action has changed since: its answer is stray.
            if watch.under_way.take().is_some() {
                watch.next_probe = now;
            }
            Self::keep(
                watch,
                Reading {
                    facts: facts.clone(),
                    asked_at,
                    read_at: now,
                },
            );
        }
    }

    fn keep(watch: &mut Watch, reading: Reading) {
        if watch
            .reading
            .as_ref()
            .is_none_or(|old| old.asked_at <= reading.asked_at)
        {
            watch.reading = Some(reading);
        }
    }

    fn pause_after(
        detector: &Detector,
        failure: &ProbeFailure,
        settings: &ServiceSettings,
    ) -> Duration {
        match failure {
            // Silence has cost its time already, and a reset wants to know whether anybody listens.
            ProbeFailure::TimedOut | ProbeFailure::Reset => Duration::from_millis(1),
            ProbeFailure::Refused if detector.refusal_is_open() => {
                (settings.refused_after / CONFIRMATION_PACE_DIVISOR).max(Duration::from_millis(1))
            }
            ProbeFailure::Refused | ProbeFailure::Rejected(_) => settings.probe_every,
        }
    }

    /// Judges one instance; returns its former health when that has changed.
    pub fn judge(&mut self, now: Instant, instance: &InstanceId) -> Option<Health> {
        let watch = self.watches.get_mut(instance)?;
        let health = watch.detector.judge(now);
        if health == watch.health {
            return None;
        }
        watch.health_since = now;
        Some(std::mem::replace(&mut watch.health, health))
    }

    /// When the judgement of an instance may change by time alone.
    pub fn judgement_due(&self, now: Instant, instance: &InstanceId) -> Option<Instant> {
        self.watches.get(instance)?.detector.changes_at(now)
    }

    /// This node was paused: nobody is charged with its silence, and every probe under way is stale.
    pub fn excuse(&mut self, now: Instant) {
        for watch in self.watches.values_mut() {
            watch.detector.excuse(now);
            watch.under_way = None;
            watch.next_probe = now;
        }
    }
}
