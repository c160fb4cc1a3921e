//! Invariant 11: an ineligible candidate (not whole, not of an admitted incarnation, below the floor, vetoed)
//! is never promoted, and a healthy copy is never overwritten: no full sync takes an acknowledged write
//! from a replica which neither its upstream nor the authorised primary holds (`docs/safety.md`, rules S4, S15).

use std::collections::BTreeSet;

use sentinel_core::action::{Action, ActionKind};
use sentinel_core::id::{Incarnation, InstanceId, Member};
use sentinel_core::ledger::{ServiceState, Stage};
use sentinel_core::position::Offset;

use super::check::{Happening, Invariant, Was};
use crate::sim::instance::Duty;
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// Who was ever trusted, and where the newest primary began.
#[derive(Debug, Default)]
pub(super) struct Eligible {
    admitted: BTreeSet<(InstanceId, Incarnation)>,
    floor: Offset,
}

impl Invariant for Eligible {
    fn name(&self) -> &'static str {
        "11 only the eligible, nothing overwritten"
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
        {
            return self.promoted(world, *instance, action, was);
        }
        if let Happening::Overwriting { replica, upstream } = seen {
            return overwritten(world, *replica, *upstream);
        }
        Ok(())
    }
}

impl Eligible {
    fn applied(&mut self, service: &ServiceState) -> Result<(), String> {
        for config in &service.configs {
            let members = config.members.iter();
            self.admitted
                .extend(members.map(|(instance, life)| (instance.clone(), life.clone())));
        }
        if let Stage::Promoting { target, .. } = &service.stage {
            self.trusted(target)?;
        }
        if let Some(primary) = &service.primary {
            self.admitted
                .insert((primary.instance.clone(), primary.incarnation.clone()));
        }
        // A promotion that was seen may have forked before the piece of a record at which its target was frozen.
        let forked = service.chain.last().filter(|last| last.lineage.is_some());
        let forked = forked.is_some_and(|last| last.start == service.floor);
        if service.floor < self.floor && !forked {
            return Err(format!(
                "the floor falls from {} to {}",
                self.floor, service.floor
            ));
        }
        self.floor = service.floor;
        Ok(())
    }

    fn trusted(&self, member: &Member) -> Result<(), String> {
        let key = (member.instance.clone(), member.incarnation.clone());
        if self.admitted.contains(&key) {
            Ok(())
        } else {
            Err(format!("{member} is a target, and was never admitted"))
        }
    }

    fn promoted(
        &self,
        world: &World,
        instance: usize,
        action: &Action,
        was: &Was,
    ) -> Result<(), String> {
        let name = &action.instance;
        if !was.whole {
            return Err(format!("{name} is promoted in the middle of a full sync"));
        }
        if world.settings.vetoed.contains(&instance) {
            return Err(format!("{name} is promoted, and has priority 0"));
        }
        self.trusted(&Member {
            instance: name.clone(),
            incarnation: was.incarnation.clone(),
        })
    }
}

fn overwritten(world: &World, replica: usize, upstream: usize) -> Result<(), String> {
    let (victim, source) = (&world.instances[replica], &world.instances[upstream]);
    let authorised = world.service().and_then(|service| match &service.stage {
        Stage::Promoting { target, .. } => world.index_of(&target.instance),
        Stage::Unadopted
        | Stage::Steady
        | Stage::Switching { .. }
        | Stage::Freezing
        | Stage::Repointing => service
            .primary
            .as_ref()
            .and_then(|primary| world.index_of(&primary.instance)),
    });
    let kept = |write: &crate::sim::history::Write| {
        source.holds(write) || authorised.is_some_and(|p| world.instances[p].holds(write))
    };
    match world
        .acknowledged
        .iter()
        .find(|write| victim.holds(write) && !kept(write))
    {
        Some(write) => Err(format!(
            "{} loses acknowledged write {} to a full sync from {}, which lacks it",
            victim.id, write.value, source.id
        )),
        None => Ok(()),
    }
}
