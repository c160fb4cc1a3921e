//! Invariant 11 for engines whose histories have names: a copy never goes on with another history than its own that
//! bears the same name (rule S12), and is never stranded by an order of ours: told to follow a primary whose history it has
//! left already, it would never stream again (`docs/safety.md`).
//!
//! A copy that is stranded because its upstream itself was promoted since is no order's fault; it is rewound later.

use std::collections::BTreeMap;

use sentinel_core::action::{Action, ActionKind};
use sentinel_core::position::Lineage;

use super::check::{Happening, Invariant};
use crate::sim::world::World;

/// Whom each copy was last told to follow, and what that one's history was called then.
#[derive(Debug, Default)]
pub(super) struct HistoriesApart {
    told: BTreeMap<usize, (usize, Lineage)>,
}

impl Invariant for HistoriesApart {
    fn name(&self) -> &'static str {
        "11 histories are kept apart"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        match seen {
            Happening::Executed {
                instance, action, ..
            } => {
                if let Some(upstream) = upstream_of(world, action) {
                    let lineage = world.instances[upstream].lineage.clone();
                    self.told.insert(*instance, (upstream, lineage));
                }
                Ok(())
            }
            Happening::Mixed { replica, upstream } => {
                let (copy, source) = (&world.instances[*replica], &world.instances[*upstream]);
                Err(format!(
                    "{} would go on from {} with another history of the name {}",
                    copy.id, source.id, source.lineage
                ))
            }
            Happening::Stranded { replica, upstream } => {
                let (copy, source) = (&world.instances[*replica], &world.instances[*upstream]);
                let ordered = (*upstream, source.lineage.clone());
                if self.told.get(replica) == Some(&ordered) {
                    return Err(format!(
                        "{} at {:?} was told to follow {}, whose history {} it has left, and never streams again",
                        copy.id,
                        copy.position(),
                        source.id,
                        source.lineage
                    ));
                }
                Ok(())
            }
            Happening::Stepped
            | Happening::Ordered { .. }
            | Happening::Sent { .. }
            | Happening::Answered { .. }
            | Happening::Applied { .. }
            | Happening::Persisted { .. }
            | Happening::Acknowledged { .. }
            | Happening::Fed { .. }
            | Happening::Overwriting { .. }
            | Happening::Restarted { .. }
            | Happening::ByHand { .. }
            | Happening::Rested => Ok(()),
        }
    }
}

fn upstream_of(world: &World, action: &Action) -> Option<usize> {
    match &action.kind {
        ActionKind::Unfreeze { primary }
        | ActionKind::Repoint { primary }
        | ActionKind::Demote { primary }
        | ActionKind::Rebuild { primary, .. } => world.index_of(primary),
        ActionKind::Freeze
        | ActionKind::StandDown { .. }
        | ActionKind::Configure { .. }
        | ActionKind::Promote { .. }
        | ActionKind::Pause { .. }
        | ActionKind::Resume
        | ActionKind::RefuseWrites
        | ActionKind::AcceptWrites => None,
    }
}
