//! Invariant 5: no promotion without seal. At the instant when a promotion takes effect, no other primary,
//! alive or to be restarted, can reach `k` members of any write quorum that may be in force there
//! (`docs/safety.md`), and enough members of each were frozen by an action of this very epoch (rule S5).
//! Judged by what the servers are told to be and carried out, not by what the coordinator believes.

use std::collections::BTreeMap;

use sentinel_core::action::ActionKind;
use sentinel_core::id::{Epoch, InstanceId};
use sentinel_core::ledger::Stage;

use super::check::{Happening, Invariant};
use crate::sim::instance::{Duty, Instance, Process};
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// The write quorums that the newest failover had to seal.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    to_seal: Vec<(u32, Vec<InstanceId>)>,
    frozen: BTreeMap<InstanceId, Epoch>,
}

impl Invariant for Sealed {
    fn name(&self) -> &'static str {
        "5 no promotion without seal"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Applied { table, .. } = seen
            && table.index > world.newest.index
            && let Some(service) = table.services.get(&service_name())
            && service.stage == Stage::Freezing
        {
            let members = |config: &sentinel_core::ledger::QuorumConfig| {
                (config.k, config.members.keys().cloned().collect())
            };
            self.to_seal = service.configs.iter().map(members).collect();
        }
        if let Happening::Executed { action, .. } = seen
            && action.kind == ActionKind::Freeze
        {
            self.frozen
                .insert(action.instance.clone(), action.token.epoch);
        }
        if let Happening::Executed {
            instance,
            action,
            was,
        } = seen
            && let ActionKind::Promote { .. } = action.kind
            && was.duty != Duty::Primary
        {
            let given_up = world
                .service()
                .is_some_and(|service| service.token.epoch > action.token.epoch);
            if !given_up {
                self.frozen_now(action.token.epoch)?;
                return self.sealed(world, *instance);
            }
        }
        Ok(())
    }
}

impl Sealed {
    fn frozen_now(&self, epoch: Epoch) -> Result<(), String> {
        for (k, members) in &self.to_seal {
            let now = |member: &&InstanceId| self.frozen.get(*member) == Some(&epoch);
            let frozen = members.iter().filter(now).count();
            if frozen + (*k as usize) < members.len() + 1 {
                return Err(format!(
                    "epoch {epoch} promotes, and its freezes were carried out on {frozen} of {members:?} for k = {k}"
                ));
            }
        }
        Ok(())
    }

    fn sealed(&self, world: &World, target: usize) -> Result<(), String> {
        let others = world.instances.iter();
        for rival in others.filter(|i| i.index != target && told(i) == Duty::Primary) {
            let stored = rival
                .quorum
                .iter()
                .map(|q| (q.k, q.members.iter().cloned().collect()));
            for (k, members) in stored.chain(self.to_seal.iter().cloned()) {
                let free = unfrozen(world, rival.index, &members);
                if free.len() >= k as usize {
                    return Err(format!(
                        "{} is promoted while {} can still reach {free:?} of {members:?}, and needs {k}",
                        world.addresses[target], rival.id
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What a server is told to be, now or after its restart.
fn told(instance: &Instance) -> Duty {
    match instance.process {
        Process::Running | Process::Hung => instance.duty,
        Process::Dead => instance.saved.duty,
    }
}

fn unfrozen(world: &World, rival: usize, members: &[InstanceId]) -> Vec<InstanceId> {
    let follows = |i: &&Instance| members.contains(&i.id) && told(i) == Duty::Follow(rival);
    let free = world.instances.iter().filter(follows);
    free.map(|instance| instance.id.clone()).collect()
}
