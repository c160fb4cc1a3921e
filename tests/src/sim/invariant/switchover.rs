//! Invariant 4 for switchovers: while nothing breaks, not even a write that nobody was told of is lost: the new primary has
//! all that the old one had when its writes were paused. And one that is called off has changed nothing.
//!
//! With faults a switchover may end as any failover does, and promises what that promises.

use sentinel_core::action::ActionKind;
use sentinel_core::ledger::{ServiceState, Stage};

use super::check::{Happening, Invariant};
use crate::sim::instance::Duty;
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// The service as it was when the switchover under way began.
#[derive(Debug, Default)]
pub(super) struct SwitchedWhole {
    before: Option<Box<ServiceState>>,
}

impl Invariant for SwitchedWhole {
    fn name(&self) -> &'static str {
        "4 a switchover loses nothing"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Applied { table, .. } = seen
            && table.index > world.newest.index
            && let Some(service) = table.services.get(&service_name())
        {
            return self.applied(service);
        }
        if let Happening::Executed {
            instance,
            action,
            was,
        } = seen
            && let ActionKind::Promote { .. } = action.kind
            && was.duty != Duty::Primary
            && world.totals.faults == 0
            && let Some(service) = world.service()
            && service.planned.is_some()
            && let Some(primary) = &service.primary
            && let Some(old) = world.index_of(&primary.instance)
        {
            let (old, new) = (&world.instances[old], &world.instances[*instance]);
            if new.log.get(..old.log.len()) != Some(old.log.as_slice()) {
                return Err(format!(
                    "{} has {} bytes and is promoted in place of {}, which has {}",
                    new.id,
                    new.offset(),
                    old.id,
                    old.offset()
                ));
            }
        }
        Ok(())
    }
}

impl SwitchedWhole {
    fn applied(&mut self, service: &ServiceState) -> Result<(), String> {
        let switching = matches!(service.stage, Stage::Switching { .. });
        match &self.before {
            None if switching => self.before = Some(Box::new(service.clone())),
            Some(before) if service.stage == Stage::Steady => {
                let same = before.primary == service.primary
                    && before.configs == service.configs
                    && before.chain == service.chain
                    && before.token.epoch == service.token.epoch;
                let off = service.history.back();
                if off.is_some_and(|last| last.decision == "call_off") && !same {
                    let token = service.token;
                    return Err(format!("the switchover called off by {token} left changes"));
                }
                self.before = None;
            }
            Some(_) | None if !switching => self.before = None,
            Some(_) | None => {}
        }
        Ok(())
    }
}
