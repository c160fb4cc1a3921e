//! Renders `/metrics` in the text format of Prometheus: gauges from a moment, and a count of failovers.
//!
//! Gauges are made anew for each answer, so that a service or instance that is gone leaves nothing behind.
//! The count is of what this node saw since it was started; it is told events, and does not read them itself.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sentinel_core::detector::Health;
use sentinel_core::discovery::{Freshness, ServiceView};
use sentinel_core::event::{Event, EventKind};
use sentinel_core::id::ServiceName;

use crate::http::answers::stage;
use crate::source::Moment;

/// The media type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;
type Seconds = Gauge<f64, AtomicU64>;

/// What is counted from events.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    failovers: Family<Labels, Counter>,
    missed: Counter,
}

impl Counted {
    /// Something changed.
    pub fn count(&self, event: &Event) {
        match &event.kind {
            // A node that caught up over several changes may find the primary where it was.
            EventKind::PrimarySwitched {
                from: Some(from),
                to,
            } if from != to => {
                self.failovers.get_or_create(&labels(&event.service)).inc();
            }
            EventKind::PrimarySwitched { .. }
            | EventKind::ServiceAdded
            | EventKind::PrimaryAdopted { .. }
            | EventKind::InstanceDiscovered { .. }
            | EventKind::InstanceDown { .. }
            | EventKind::InstanceUp { .. }
            | EventKind::InstanceRestarted { .. }
            | EventKind::PrimaryDown { .. }
            | EventKind::PrimaryDownRevoked { .. }
            | EventKind::SwitchoverStarted { .. }
            | EventKind::SwitchoverCalledOff { .. }
            | EventKind::FailoverStarted { .. }
            | EventKind::TargetSelected { .. }
            | EventKind::InstanceStranded { .. }
            | EventKind::RebuildSent { .. }
            | EventKind::RepointSent { .. }
            | EventKind::RepointDone { .. }
            | EventKind::Demoted { .. }
            | EventKind::DivergedKept { .. }
            | EventKind::FailoverEnded
            | EventKind::FailoverAborted { .. }
            | EventKind::Admitted { .. }
            | EventKind::Excluded { .. }
            | EventKind::Readmitted { .. }
            | EventKind::Alarm { .. } => {}
        }
    }

    /// So many events went by unseen.
    pub fn missed(&self, events: u64) {
        self.missed.inc_by(events);
    }
}

/// The whole answer.
pub fn render(moment: &Moment, counted: &Counted) -> String {
    let mut registry = Registry::with_prefix("sentinel");
    node(moment, &mut registry);
    services(moment, &mut registry);
    for name in moment.view.services.keys() {
        // So that the first failover is an increase and no new series.
        drop(counted.failovers.get_or_create(&labels(name)));
    }
    registry.register(
        "failovers",
        "Changes of the primary that this node saw since it was started",
        counted.failovers.clone(),
    );
    registry.register(
        "events_missed",
        "Events that this node could not count",
        counted.missed.clone(),
    );
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

fn node(moment: &Moment, registry: &mut Registry) {
    let view = &moment.view;
    let gauges: [(&str, &str, i64); 5] = [
        ("up", "1 while this node answers", 1),
        (
            "is_leader",
            "1 on the leader",
            i64::from(view.leader.as_ref() == Some(&view.node)),
        ),
        (
            "term",
            "Newest Raft term that this node knows",
            signed(view.term.0),
        ),
        (
            "stale",
            "1 when no leader was heard for stale_after",
            i64::from(moment.freshness() != Freshness::Fresh),
        ),
        (
            "voters",
            "Voters of the cluster",
            signed(view.voters.len() as u64),
        ),
    ];
    for (name, help, value) in gauges {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    if let Some(heard) = view.leader_heard {
        let age = Seconds::default();
        age.set(moment.now.since(heard).as_secs_f64());
        registry.register(
            "leader_heard_age_seconds",
            "Time since a leader was last heard",
            age,
        );
    }
}

fn services(moment: &Moment, registry: &mut Registry) {
    let epochs = register(registry, "service_epoch", "Epoch of the answer");
    let stages = register(
        registry,
        "service_stage",
        "1 for the stage that the service is in",
    );
    let primaries = register(
        registry,
        "service_primary",
        "1 for the instance that is the primary",
    );
    let blockers = register(
        registry,
        "service_blockers",
        "Reasons for which the next failover would not succeed",
    );
    let members = register(
        registry,
        "service_write_quorum_members",
        "Instances whose acknowledgement counts",
    );
    let instances = register(
        registry,
        "instance_up",
        "1 when this node sees the instance up, 0 when it is suspect, down or not known",
    );
    for (name, service) in &moment.view.services {
        let service: &ServiceView = service;
        let set = |family: &Gauges, value: u64| {
            family.get_or_create(&labels(name)).set(signed(value));
        };
        let mark = |family: &Gauges, label: &'static str, text: String, value: i64| {
            let mut labels = labels(name);
            labels.push((label, text));
            family.get_or_create(&labels).set(value);
        };
        set(&epochs, service.primary_epoch.0);
        set(&blockers, service.blockers.len() as u64);
        set(&members, service.write_quorum_members.len() as u64);
        mark(&stages, "stage", stage(&service.stage).0.to_owned(), 1);
        if let Some(primary) = service.primary.as_ref().filter(|_| !moment.refuses()) {
            mark(&primaries, "instance", primary.to_string(), 1);
        }
        for (id, instance) in &service.instances {
            let up = i64::from(instance.health == Health::Up);
            mark(&instances, "instance", id.to_string(), up);
        }
    }
}

fn register(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

fn labels(service: &ServiceName) -> Labels {
    vec![("service", service.to_string())]
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
