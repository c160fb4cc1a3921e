//! The adapter as the driver sees it: finds the line to an instance, and lets it probe or act.
//!
//! Knows which services it serves and which instances have an agent in this process, and nothing of
//! roles or quorums.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sentinel_core::action::{Action, ActionKind, Hand, Outcome};
use sentinel_core::id::{EngineName, InstanceId, ServiceName};
use sentinel_core::observation::{Observation, ProbeFailure, ProbeRequest};
use sentinel_core::runtime::{Adapter, AdapterContext, AdapterFactory, Lines};

use crate::act;
use crate::host::Hosts;
use crate::line::Line;
use crate::service::PostgresService;
use crate::sightings::Sightings;

/// The engine's name in the settings.
pub const ENGINE: &str = "postgres";

/// PostgreSQL, from 13 on.
pub struct PostgresAdapter {
    services: BTreeMap<ServiceName, PostgresService>,
    hosts: Hosts,
    context: AdapterContext,
    sightings: Arc<Sightings>,
    lines: Lines<Line>,
}

impl fmt::Debug for PostgresAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAdapter")
            .field("services", &self.services)
            .field("hosts", &self.hosts.keys())
            .finish_non_exhaustive()
    }
}

impl PostgresAdapter {
    /// Makes the adapter for these services when the driver starts. `hosts`: the instances on this very
    /// host whose agent runs in this process.
    pub fn factory(
        services: BTreeMap<ServiceName, PostgresService>,
        hosts: Hosts,
    ) -> AdapterFactory {
        Box::new(move |context| Arc::new(Self::new(services, hosts, context)))
    }

    /// The adapter for these services. Must be used within a tokio runtime.
    pub fn new(
        services: BTreeMap<ServiceName, PostgresService>,
        hosts: Hosts,
        context: AdapterContext,
    ) -> Self {
        Self {
            services,
            hosts,
            context,
            sightings: Arc::default(),
            lines: Lines::default(),
        }
    }

    fn line(&self, service: &ServiceName, instance: &InstanceId) -> Result<Arc<Line>, String> {
        let settings = self.services.get(service).ok_or_else(|| {
            format!("service {service} has no settings for PostgreSQL on this node; add it to the settings and restart")
        })?;
        Ok(self.lines.to(service, instance, || {
            let shared = (self.context.clone(), Arc::clone(&self.sightings));
            let (service, instance) = (service.clone(), instance.clone());
            Line::new(service, instance, settings.clone(), shared)
        }))
    }
}

impl Adapter for PostgresAdapter {
    fn engine(&self) -> EngineName {
        EngineName::new(ENGINE)
    }

    fn probe(&self, request: ProbeRequest) -> BoxFuture<'static, Observation> {
        let line = self.line(&request.service, &request.instance);
        Box::pin(async move {
            match line {
                Ok(line) => line.probe(&request).await,
                Err(text) => Observation::Failure(ProbeFailure::Rejected(text)),
            }
        })
    }

    fn act(&self, action: Action) -> BoxFuture<'static, Outcome> {
        if action.kind.hand() == Hand::Agent {
            let key = (action.service.clone(), action.instance.clone());
            if let Some(host) = self.hosts.get(&key) {
                return host.carry_out(action);
            }
        }
        let line = self.line(&action.service, &action.instance);
        let upstream = match &action.kind {
            ActionKind::Repoint { primary }
            | ActionKind::Unfreeze { primary }
            | ActionKind::Demote { primary } => self.line(&action.service, primary).ok(),
            ActionKind::Freeze
            | ActionKind::StandDown { .. }
            | ActionKind::Configure { .. }
            | ActionKind::Promote { .. }
            | ActionKind::Rebuild { .. }
            | ActionKind::Pause { .. }
            | ActionKind::Resume
            | ActionKind::RefuseWrites
            | ActionKind::AcceptWrites => None,
        };
        Box::pin(async move {
            match line {
                Ok(line) => act::carry_out(&line, upstream, action).await,
                Err(text) => Outcome::Refused(text),
            }
        })
    }
}
