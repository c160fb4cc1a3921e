//! Invariant 4: no acknowledged write is ever lost: it is in the data of every later authorised primary,
//! and in the end in everybody's (`docs/safety.md`, rules S1 to S11).
//!
//! Only writes that a guard was told to be acknowledged count; what timed out may be kept or not.

use sentinel_core::action::ActionKind;
use sentinel_core::id::{Epoch, Incarnation};
use sentinel_core::ledger::Stage;

use super::check::{Happening, Invariant};
use crate::sim::history::Write;
use crate::sim::instance::Duty;
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// The newest primary whose promotion was executed and not overtaken.
#[derive(Debug, Default)]
pub(super) struct NothingLost {
    newest: Option<(usize, Incarnation)>,
    completed: Epoch,
}

impl Invariant for NothingLost {
    fn name(&self) -> &'static str {
        "4 nothing acknowledged is lost"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Executed {
            instance,
            action,
            was,
        } = seen
            && let ActionKind::Promote { .. } = action.kind
            && was.duty != Duty::Primary
        {
            // The order of an epoch that was given up makes no primary: nobody follows it.
            let given_up = world
                .service()
                .is_some_and(|service| service.token.epoch > action.token.epoch);
            if given_up {
                return Ok(());
            }
            self.newest = Some((*instance, was.incarnation.clone()));
            return holds_all(world, *instance);
        }
        if let Happening::Applied { table, .. } = seen
            && let Some(service) = table.services.get(&service_name())
            && let (Stage::Repointing, Some(answer), Some(primary)) =
                (&service.stage, &service.answer, &service.primary)
            && answer.epoch > self.completed
        {
            self.completed = answer.epoch;
            if let Some(index) = world.index_of(&primary.instance)
                && world.instances[index].incarnation() == primary.incarnation
            {
                return holds_all(world, index);
            }
        }
        if let (Happening::Acknowledged { write }, Some((newest, incarnation))) =
            (seen, &self.newest)
        {
            let newest = &world.instances[*newest];
            if newest.incarnation() == *incarnation && !newest.holds(write) {
                return Err(lost(world, write, newest.index));
            }
        }
        if let Happening::Rested = seen {
            return (0..world.instances.len()).try_for_each(|index| holds_all(world, index));
        }
        Ok(())
    }
}

fn holds_all(world: &World, index: usize) -> Result<(), String> {
    let instance = &world.instances[index];
    match world
        .acknowledged
        .iter()
        .find(|write| !instance.holds(write))
    {
        Some(write) => Err(lost(world, write, index)),
        None => Ok(()),
    }
}

fn lost(world: &World, write: &Write, index: usize) -> String {
    format!(
        "{} at {} bytes lacks write {} (offset {}), which {} acknowledged in lineage {} at {:?}",
        world.addresses[index],
        world.instances[index].offset(),
        write.value,
        write.offset,
        world.addresses[write.instance],
        write.lineage,
        write.at
    )
}
