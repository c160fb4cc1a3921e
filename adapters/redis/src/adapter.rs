//! The adapter as the driver sees it: finds the line to an instance, and lets it probe or act.
//!
//! Knows which services it serves, and nothing of roles or quorums.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{EngineName, InstanceId, ServiceName};
use sentinel_core::observation::{Observation, ProbeFailure, ProbeRequest};
use sentinel_core::runtime::{Adapter, AdapterContext, AdapterFactory, Lines};

use crate::act;
use crate::line::Line;
use crate::service::RedisService;

/// The engine's name in the settings.
pub const ENGINE: &str = "redis";

/// Redis and Valkey, from 6.2 on.
pub struct RedisAdapter {
    services: BTreeMap<ServiceName, RedisService>,
    context: AdapterContext,
    lines: Lines<Line>,
}

impl fmt::Debug for RedisAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisAdapter")
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

impl RedisAdapter {
    /// Makes the adapter for these services when the driver starts.
    pub fn factory(services: BTreeMap<ServiceName, RedisService>) -> AdapterFactory {
        Box::new(move |context| Arc::new(Self::new(services, context)))
    }

    /// The adapter for these services. Must be used within a tokio runtime.
    pub fn new(services: BTreeMap<ServiceName, RedisService>, context: AdapterContext) -> Self {
        Self {
            services,
            context,
            lines: Lines::default(),
        }
    }

    fn line(&self, service: &ServiceName, instance: &InstanceId) -> Result<Arc<Line>, String> {
        let settings = self.services.get(service).ok_or_else(|| {
            format!("service {service} has no settings for Redis on this node; add it to the settings and restart")
        })?;
        Ok(self.lines.to(service, instance, || {
            let (service, instance) = (service.clone(), instance.clone());
            Line::new(service, instance, settings.clone(), self.context.clone())
        }))
    }
}

impl Adapter for RedisAdapter {
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
        let line = self.line(&action.service, &action.instance);
        let upstream = match &action.kind {
            ActionKind::Demote { primary } | ActionKind::Rebuild { primary, .. } => {
                self.line(&action.service, primary).ok()
            }
            ActionKind::Freeze
            | ActionKind::StandDown { .. }
            | ActionKind::Unfreeze { .. }
            | ActionKind::Configure { .. }
            | ActionKind::Promote { .. }
            | ActionKind::Repoint { .. }
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
