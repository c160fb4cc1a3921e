//! Which services are shown, and what happens to each.
//!
//! Read off what the user asked for; starts nothing.

use std::time::Duration;

use super::options::{DemoEngine, DemoOptions, Engine, Fault};
use crate::output;

/// One service, before anything of it runs.
#[derive(Clone, Debug)]
pub(super) struct ServicePlan {
    pub(super) name: &'static str,
    pub(super) engine: Engine,
    pub(super) fault: Fault,
    pub(super) down_after: Duration,
}

impl ServicePlan {
    /// Tells the user how this service is getting on.
    pub(super) fn note(&self, text: &str) {
        output::note(text);
    }
}

impl DemoOptions {
    /// Every service that is to be shown.
    pub(super) fn services(&self) -> Vec<ServicePlan> {
        let plan = |name, engine| ServicePlan {
            name,
            engine,
            fault: self.chosen_fault(),
            down_after: self.down_after,
        };
        match self.engine {
            DemoEngine::Redis => vec![plan("demo", Engine::Redis)],
        }
    }
}
