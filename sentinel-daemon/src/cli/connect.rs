//! `sentinel check --connect`: looks at every seed of every service once, and judges whether it can be guarded.
//!
//! Uses the adapters' probe, which changes nothing on the instances. Discovers nothing: replicas that are no seeds are
//! counted as their primary sees them, and seeds also as they see themselves, because an engine may know a replica by
//! name only once the coordinator has named it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::id::{InstanceId, ProbeId};
use sentinel_core::observation::{
    Facts, Link, Observation, Persistable, ProbeFailure, ProbeRequest, RestartGuard, Role, Upstream,
};
use sentinel_core::runtime::{Adapter, AdapterContext, Clock};
use serde::Serialize;
use tokio::sync::mpsc;

use super::age::aligned;
use crate::engines;
use crate::settings::{GuardedService, Secrets, Settings};

/// How long one instance may take; far longer than any probe of a running node.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What one instance said.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    pub(super) service: String,
    pub(super) instance: String,
    /// `primary`, `replica`, `frozen`, or `null` when it gave no facts.
    pub(super) role: Option<&'static str>,
    pub(super) upstream: Option<String>,
    pub(super) synced: Option<bool>,
    /// Whether it keeps over its restart what it is told.
    pub(super) persistable: Option<bool>,
    /// For how long it delays a full sync; 0 when it does not, `null` for an engine that needs none.
    pub(super) restart_guard_ms: Option<u64>,
    /// Replicas that stream from it.
    pub(super) replicas_streaming: Option<usize>,
}

/// What stands in the way, and what only deserves attention.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) seen: Vec<Seen>,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Looks at all seeds. Blocks.
pub(super) fn look(settings: &Settings, secrets: &Secrets) -> Result<Findings, std::io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(async {
        let (disconnects, _unread) = mpsc::channel(1);
        let (notes, _unread) = mpsc::channel(1);
        let context = AdapterContext {
            clock: Clock::new(),
            disconnects,
            notes,
        };
        let adapters: Vec<Arc<dyn Adapter>> = engines::equip(settings, secrets)
            .adapters
            .into_iter()
            .map(|factory| factory(context.clone()))
            .collect();
        let mut findings = Findings::default();
        for service in &settings.services {
            let adapter = adapters
                .iter()
                .find(|adapter| adapter.engine() == service.settings.engine)
                .expect("the settings were refused if an engine was unknown");
            let mut facts = Vec::new();
            for instance in &service.settings.seeds {
                let observation = probe(adapter, service, instance).await;
                let seen = findings.note(service, instance, observation);
                facts.extend(seen.map(|facts| (instance.clone(), facts)));
            }
            findings.judge(service, &facts);
        }
        findings
    }))
}

async fn probe(
    adapter: &Arc<dyn Adapter>,
    service: &GuardedService,
    instance: &InstanceId,
) -> Observation {
    let request = ProbeRequest {
        id: ProbeId(0),
        service: service.settings.name.clone(),
        instance: instance.clone(),
        deadline: Clock::new().now() + PROBE_TIMEOUT,
    };
    adapter.probe(request).await
}

impl Findings {
    /// Records one instance, and returns its facts.
    fn note(
        &mut self,
        service: &GuardedService,
        instance: &InstanceId,
        observation: Observation,
    ) -> Option<Facts> {
        let name = &service.settings.name;
        let facts = match observation {
            Observation::Facts(facts) => Some(*facts),
            Observation::Failure(failure) => {
                let problem = match failure {
                    ProbeFailure::Refused => {
                        "nothing listens there: start it, or correct `instances`".to_owned()
                    }
                    ProbeFailure::Reset => {
                        "it closed the connection: is it a server of this engine?".to_owned()
                    }
                    ProbeFailure::TimedOut => format!(
                        "no answer within {} s: is it reachable from here?",
                        PROBE_TIMEOUT.as_secs()
                    ),
                    ProbeFailure::Rejected(text) => text,
                };
                self.errors
                    .push(format!("service {name}, instance {instance}: {problem}"));
                None
            }
        };
        self.seen.push(seen(service, instance, facts.as_ref()));
        let facts = facts?;
        if let Persistable::No(why) = &facts.persistable {
            self.errors
                .push(format!("service {name}, instance {instance}: it {why}"));
        }
        Some(facts)
    }

    /// Judges what all seeds of a service said.
    fn judge(&mut self, service: &GuardedService, facts: &[(InstanceId, Facts)]) {
        let name = &service.settings.name;
        let k = service.settings.min_replicas as usize;
        let primaries: Vec<&(InstanceId, Facts)> = facts
            .iter()
            .filter(|(_, facts)| facts.role == Role::Primary)
            .collect();
        match primaries[..] {
            [] if facts.is_empty() => {}
            [] => self.errors.push(format!(
                "service {name}: none of `instances` is a primary: add the primary"
            )),
            [(id, primary)] => {
                let streaming = (streaming(primary).chain(streaming_from(id, facts)))
                    .collect::<BTreeSet<_>>()
                    .len();
                if streaming < k {
                    self.errors.push(format!(
                        "service {name}: `min_replicas` is {k} and {streaming} replicas stream from the primary, so no write could be acknowledged: start replicas, or lower it"
                    ));
                } else if streaming == k {
                    self.warnings.push(format!(
                        "service {name}: `min_replicas` is {k} and {streaming} replicas stream from the primary, so the loss of one stops the writes until it is excluded"
                    ));
                }
                if primary.restart_guard == RestartGuard::None {
                    self.warnings.push(format!(
                        "service {name}: nothing delays a full sync from the primary yet; `sentinel run` sets that"
                    ));
                }
            }
            [_, _, ..] => self.errors.push(format!(
                "service {name}: {} of `instances` are primaries: make all but one of them replicas, or give each its own service",
                primaries.len()
            )),
        }
    }
}

/// As the primary sees it.
fn streaming(facts: &Facts) -> impl Iterator<Item = &InstanceId> {
    let replicas = facts.replicas.iter();
    replicas
        .filter(|replica| replica.link == Link::Streaming)
        .map(|replica| &replica.instance)
}

/// As the replicas see it.
fn streaming_from<'a>(
    primary: &InstanceId,
    facts: &'a [(InstanceId, Facts)],
) -> impl Iterator<Item = &'a InstanceId> {
    let role = Role::Replica {
        upstream: Upstream::Instance(primary.clone()),
        link: Link::Streaming,
    };
    facts
        .iter()
        .filter(move |(_, facts)| facts.role == role)
        .map(|(id, _)| id)
}

fn seen(service: &GuardedService, instance: &InstanceId, facts: Option<&Facts>) -> Seen {
    let (role, upstream) = match facts.map(|facts| &facts.role) {
        None => (None, None),
        Some(Role::Primary) => (Some("primary"), None),
        Some(Role::Replica { upstream, .. }) => match upstream {
            Upstream::Instance(upstream) => (Some("replica"), Some(upstream.to_string())),
            Upstream::Frozen => (Some("frozen"), None),
        },
    };
    Seen {
        service: service.settings.name.to_string(),
        instance: instance.to_string(),
        role,
        upstream,
        synced: facts.map(|facts| facts.synced),
        persistable: facts.map(|facts| facts.persistable == Persistable::Yes),
        restart_guard_ms: facts.and_then(|facts| match facts.restart_guard {
            RestartGuard::Delay(milliseconds) => Some(milliseconds),
            RestartGuard::None => Some(0),
            RestartGuard::Unneeded => None,
        }),
        replicas_streaming: facts.map(|facts| streaming(facts).count()),
    }
}

/// The table for people.
pub(super) fn lines(seen: &[Seen]) -> Vec<String> {
    let title = [
        "service",
        "instance",
        "role",
        "data",
        "persists",
        "sync delay",
        "replicas",
    ]
    .map(str::to_owned);
    let rows = seen.iter().map(|seen| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let yes_no = |value: Option<bool>, yes: &str, no: &str| {
            or_dash(value.map(|value| if value { yes } else { no }.to_owned()))
        };
        let role = match (seen.role, &seen.upstream) {
            (Some(role), Some(upstream)) => Some(format!("{role} of {upstream}")),
            (role, _) => role.map(str::to_owned),
        };
        [
            seen.service.clone(),
            seen.instance.clone(),
            or_dash(role),
            yes_no(seen.synced, "whole", "not whole"),
            yes_no(seen.persistable, "yes", "no"),
            or_dash(seen.restart_guard_ms.map(|ms| format!("{ms}ms"))),
            or_dash(seen.replicas_streaming.map(|count| count.to_string())),
        ]
    });
    aligned(&std::iter::once(title).chain(rows).collect::<Vec<_>>())
}
