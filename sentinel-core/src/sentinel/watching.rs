//! The watching side of the machine: probes, health, opinions.

use crate::detector::{Evidence, Health};
use crate::event::EventKind;
use crate::failover::desk::is_frozen;
use crate::id::{Incarnation, InstanceId, NodeName, ProbeId, ServiceName};
use crate::monitor::{Reading, Watch};
use crate::observation::{Link, Observation, ProbeRequest, Role};
use crate::peer::{Opinion, OpinionReport, OpinionState, PeerMessage};
use crate::planted::Bug;
use crate::sentinel::{Output, Sentinel, Timer};
use crate::time::Instant;

/// What was known of an instance before it was read again.
#[derive(Debug)]
pub(super) struct Before {
    incarnation: Option<Incarnation>,
    stranded: bool,
}

impl Before {
    pub(super) fn of(watch: Option<&Watch>) -> Self {
        let reading = watch.and_then(Watch::reading);
        Self {
            incarnation: reading.map(|reading| reading.facts.incarnation.clone()),
            stranded: reading.is_some_and(is_stranded),
        }
    }
}

fn is_stranded(reading: &Reading) -> bool {
    matches!(&reading.facts.role, Role::Replica { link, .. } if *link == Link::Stranded)
}

impl Sentinel {
    pub(super) fn on_instance_timer(
        &mut self,
        now: Instant,
        name: &ServiceName,
        instance: &InstanceId,
    ) {
        self.send_probe(now, name, instance);
        self.judge(now, name, instance);
        self.schedule(now, name, instance);
    }

    fn send_probe(&mut self, now: Instant, name: &ServiceName, instance: &InstanceId) {
        let (Some(service), Some(post)) = (self.table.services.get(name), self.posts.get_mut(name))
        else {
            return;
        };
        if !post.monitor.is_due(now, instance) {
            return;
        }
        let id = ProbeId(self.next_probe);
        self.next_probe += 1;
        post.monitor.on_probe(now, instance, id);
        self.probes.insert(id, (name.clone(), instance.clone()));
        self.outputs.push_back(Output::Probe(ProbeRequest {
            id,
            service: name.clone(),
            instance: instance.clone(),
            deadline: now + service.settings.probe_deadline(),
        }));
    }

    fn schedule(&mut self, now: Instant, name: &ServiceName, instance: &InstanceId) {
        let Some(post) = self.posts.get(name) else {
            return;
        };
        let due = [
            post.monitor.next_probe(instance),
            post.monitor.judgement_due(now, instance),
        ];
        if let Some(at) = due.into_iter().flatten().min() {
            self.timers
                .set(Timer::Instance(name.clone(), instance.clone()), at);
        }
    }

    /// Somebody wants fresh facts of an instance.
    pub(super) fn look_now(&mut self, now: Instant, name: &ServiceName, instance: &InstanceId) {
        if let Some(post) = self.posts.get_mut(name)
            && post.monitor.get(instance).is_some()
        {
            post.monitor.hurry(now, instance);
            self.timers
                .set(Timer::Instance(name.clone(), instance.clone()), now);
        }
    }

    pub(super) fn on_probed(&mut self, now: Instant, id: ProbeId, observation: Observation) {
        let Some((name, instance)) = self.probes.remove(&id) else {
            return;
        };
        let (Some(service), Some(post)) =
            (self.table.services.get(&name), self.posts.get_mut(&name))
        else {
            return;
        };
        let before = Before::of(post.monitor.get(&instance));
        if !post
            .monitor
            .on_observation(now, &instance, id, observation, &service.settings)
        {
            return;
        }
        self.refreshed.insert(name.clone());
        self.on_new_reading(now, &name, &instance, &before);
    }

    /// Facts came in, by a probe or by an action.
    pub(super) fn on_new_reading(
        &mut self,
        now: Instant,
        name: &ServiceName,
        instance: &InstanceId,
        before: &Before,
    ) {
        let Some(post) = self.posts.get_mut(name) else {
            return;
        };
        let reading = post.monitor.get(instance).and_then(|watch| watch.reading());
        let restarted = matches!((&before.incarnation, reading), (Some(old), Some(new)) if *old != new.facts.incarnation);
        let stranded = !before.stranded && reading.is_some_and(is_stranded);
        if let (Some(desk), Some(reading)) = (&mut post.desk, reading) {
            desk.on_reading(instance, reading);
            // The planted bug: found frozen counts, whoever froze it.
            if self.settings.bugs.has(Bug::StaleFreeze) && is_frozen(&reading.facts) {
                let evidence = desk.frozen.entry(instance.clone());
                evidence.or_insert_with(|| reading.clone());
            }
        }
        if restarted {
            self.publish(
                name,
                EventKind::InstanceRestarted {
                    instance: instance.clone(),
                },
            );
        }
        if stranded {
            let instance = instance.clone();
            self.publish(name, EventKind::InstanceStranded { instance });
        }
        self.judge(now, name, instance);
        self.schedule(now, name, instance);
        self.touched.insert(name.clone());
    }

    fn judge(&mut self, now: Instant, name: &ServiceName, instance: &InstanceId) {
        let Some(post) = self.posts.get_mut(name) else {
            return;
        };
        let Some(before) = post.monitor.judge(now, instance) else {
            return;
        };
        post.view_stale = true;
        self.touched.insert(name.clone());
        let health = post
            .monitor
            .get(instance)
            .map(|watch| watch.health().clone());
        match (before, health) {
            (Health::Down(_), Some(Health::Down(_))) => {}
            (_, Some(Health::Down(evidence))) => {
                self.publish(
                    name,
                    EventKind::InstanceDown {
                        instance: instance.clone(),
                        evidence,
                    },
                );
            }
            (Health::Down(_), Some(Health::Up)) => {
                self.publish(
                    name,
                    EventKind::InstanceUp {
                        instance: instance.clone(),
                    },
                );
            }
            (_, Some(Health::Up | Health::Suspect | Health::Unknown) | None) => {}
        }
    }

    /// Forms this node's opinion of the primary, counts it, and tells the leader: at once when it
    /// changes, and again before it expires while it is Down.
    pub(super) fn form_opinion(&mut self, now: Instant, name: &ServiceName) {
        if !self.is_steady(now) {
            return;
        }
        let me = self.settings.name.clone();
        let leader = self.leader();
        let (Some(service), Some(post)) = (self.table.services.get(name), self.posts.get_mut(name))
        else {
            return;
        };
        let Some((primary, since)) = post.authority.clone() else {
            return;
        };
        let Some(watch) = post.monitor.get(&primary.instance) else {
            return;
        };
        let state = match watch.health() {
            Health::Unknown | Health::Suspect => return,
            Health::Down(evidence) => OpinionState::Down(evidence.clone()),
            Health::Up => match watch.reading().filter(|reading| reading.asked_at > since) {
                None => return,
                Some(reading) if reading.facts.incarnation != primary.incarnation => {
                    OpinionState::Down(Evidence::Restarted)
                }
                Some(reading) if reading.facts.role != Role::Primary => {
                    OpinionState::Down(Evidence::NotPrimary)
                }
                Some(_) => OpinionState::Up,
            },
        };
        let down = matches!(state, OpinionState::Down(_));
        let pace = service.settings.probe_every;
        let opinion = Opinion {
            about: primary.instance,
            incarnation: primary.incarnation,
            state: state.clone(),
        };
        post.ballot.cast(
            now,
            me.clone(),
            opinion.clone(),
            service.settings.opinion_expiry(),
        );
        if down {
            self.timers
                .set_earlier(Timer::Service(name.clone()), now + pace);
        }
        let due = match &post.told {
            Some((told, at)) => *told != state || (down && now.since(*at) >= pace),
            None => true,
        };
        if let Some(leader) = leader.filter(|leader| due && *leader != me) {
            post.told = Some((state, now));
            let report = OpinionReport {
                opinions: [(name.clone(), opinion)].into(),
            };
            self.outputs.push_back(Output::Send {
                to: leader,
                message: Box::new(PeerMessage::Opinions(report)),
            });
        }
    }

    pub(super) fn on_opinions(&mut self, now: Instant, from: &NodeName, report: OpinionReport) {
        for (name, opinion) in report.opinions {
            if let (Some(service), Some(post)) =
                (self.table.services.get(&name), self.posts.get_mut(&name))
            {
                post.ballot.cast(
                    now,
                    from.clone(),
                    opinion,
                    service.settings.opinion_expiry(),
                );
                self.touched.insert(name);
            }
        }
    }

    /// The leader, as far as this node knows.
    pub(super) fn leader(&self) -> Option<NodeName> {
        match &self.raft {
            Some(raft) => raft.leader().cloned(),
            None => self.following.leader(),
        }
    }
}
