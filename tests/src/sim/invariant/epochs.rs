//! Invariant 2: epochs never go back, in any answer of any node, also over its restarts (`docs/safety.md`).

use std::collections::BTreeMap;

use sentinel_core::id::Epoch;

use super::check::{Happening, Invariant};
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// The highest epoch that each node has answered.
#[derive(Debug, Default)]
pub(super) struct EpochsRise {
    answered: BTreeMap<usize, Epoch>,
}

impl Invariant for EpochsRise {
    fn name(&self) -> &'static str {
        "2 epochs rise"
    }

    fn observe(&mut self, _world: &World, seen: &Happening<'_>) -> Result<(), String> {
        let Happening::Answered { node, view } = seen else {
            return Ok(());
        };
        // A node that names no primary answers nothing.
        let Some(service) = view.services.get(&service_name()) else {
            return Ok(());
        };
        if service.primary.is_none() {
            return Ok(());
        }
        let epoch = service.primary_epoch;
        let highest = self.answered.entry(*node).or_insert(epoch);
        if epoch < *highest {
            let node = node + 1;
            return Err(format!("s{node} answers epoch {epoch} after {highest}"));
        }
        *highest = epoch;
        Ok(())
    }
}
