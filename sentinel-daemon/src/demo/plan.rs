//! Which services are shown, and what happens to each.
//!
//! Read off what the user asked for; starts nothing.

use std::path::PathBuf;
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
    /// Where the user says that the programs of PostgreSQL are.
    pub(super) postgres_bin: Option<PathBuf>,
    /// Put in front of what is told of this service, where it is not the only one.
    label: &'static str,
}

impl ServicePlan {
    /// Tells the user how this service is getting on.
    pub(super) fn note(&self, text: &str) {
        output::note(&format!("{}{text}", self.label));
    }
}

impl DemoOptions {
    /// Every service that is to be shown.
    pub(super) fn services(&self) -> Vec<ServicePlan> {
        let plan = |name, engine, label| ServicePlan {
            name,
            engine,
            fault: self.chosen_fault(),
            down_after: self.down_after,
            postgres_bin: self.postgres_bin.clone(),
            label,
        };
        match self.engine {
            DemoEngine::Redis => vec![plan("demo", Engine::Redis, "")],
            DemoEngine::Postgres => vec![plan("demo", Engine::Postgres, "")],
            DemoEngine::Both => vec![
                plan("demo-redis", Engine::Redis, "redis     "),
                plan("demo-postgres", Engine::Postgres, "postgres  "),
            ],
        }
    }
}
