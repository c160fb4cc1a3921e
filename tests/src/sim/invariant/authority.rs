//! Invariant 1: at most one instance is authorised as primary per epoch, and at any instant at most one
//! instance takes and acknowledges writes (`docs/safety.md`, rules S9 and S10).

use std::collections::BTreeMap;

use sentinel_core::action::ActionKind;
use sentinel_core::id::{Epoch, InstanceId};
use sentinel_core::ledger::Stage;

use super::check::{Happening, Invariant};
use crate::sim::instance::{Duty, Instance, Process};
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// Who was authorised in each epoch, by commit or by an executed promotion.
#[derive(Debug, Default)]
pub(super) struct OneAuthority {
    authorised: BTreeMap<Epoch, InstanceId>,
}

impl Invariant for OneAuthority {
    fn name(&self) -> &'static str {
        "1 one authority"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Stepped = seen {
            return one_acknowledger(world);
        }
        if let Happening::Executed { action, .. } = seen
            && let ActionKind::Promote { .. } = action.kind
        {
            return self.authorise(action.token.epoch, &action.instance);
        }
        if let Happening::Applied { table, .. } = seen
            && let Some(service) = table.services.get(&service_name())
            && let Stage::Promoting { target, .. } = &service.stage
        {
            return self.authorise(service.token.epoch, &target.instance);
        }
        Ok(())
    }
}

impl OneAuthority {
    fn authorise(&mut self, epoch: Epoch, instance: &InstanceId) -> Result<(), String> {
        let first = self
            .authorised
            .entry(epoch)
            .or_insert_with(|| instance.clone());
        if first == instance {
            Ok(())
        } else {
            Err(format!("epoch {epoch} has two: {first} and {instance}"))
        }
    }
}

fn one_acknowledger(world: &World) -> Result<(), String> {
    let able = |instance: &&Instance| {
        instance.process == Process::Running
            && instance.duty == Duty::Primary
            && instance.quorum.as_ref().is_some_and(|quorum| {
                world.could_acknowledge(instance.index, quorum) >= quorum.k as usize
            })
    };
    let mut acknowledgers = world.instances.iter().filter(able);
    match (acknowledgers.next(), acknowledgers.next()) {
        (Some(one), Some(other)) => Err(format!("{} and {} both acknowledge", one.id, other.id)),
        (Some(_) | None, None) | (None, Some(_)) => Ok(()),
    }
}
