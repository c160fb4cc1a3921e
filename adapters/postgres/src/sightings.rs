//! The branch of history on which each instance was seen last, shared by all lines of an adapter.
//!
//! A standby cannot tell by itself that its primary has begun a new timeline; the primary's own line can.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use sentinel_core::id::{InstanceId, ServiceName};

use crate::history::History;

/// The newest sighting of each instance.
#[derive(Debug, Default)]
pub(crate) struct Sightings(Mutex<BTreeMap<(ServiceName, InstanceId), History>>);

impl Sightings {
    pub(crate) fn note(&self, service: &ServiceName, instance: &InstanceId, history: &History) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert((service.clone(), instance.clone()), history.clone());
    }

    pub(crate) fn of(&self, service: &ServiceName, instance: &InstanceId) -> Option<History> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&(service.clone(), instance.clone())).cloned()
    }
}
