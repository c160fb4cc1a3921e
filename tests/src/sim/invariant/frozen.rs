//! Invariant 7: a frozen replica receives nothing, from nobody, until it is ordered otherwise; also after
//! its own restart. It is let go only after the abort of its epoch was committed (`docs/safety.md`, rule S13).

use std::collections::BTreeMap;

use sentinel_core::action::ActionKind;
use sentinel_core::id::Token;
use sentinel_core::ledger::Stage;

use super::check::{Happening, Invariant};
use crate::sim::world::World;

/// Who is frozen, and by which commit.
#[derive(Debug, Default)]
pub(super) struct FrozenIsFrozen {
    frozen: BTreeMap<usize, Token>,
}

impl Invariant for FrozenIsFrozen {
    fn name(&self) -> &'static str {
        "7 frozen is frozen"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Executed {
            instance, action, ..
        } = seen
        {
            if let ActionKind::Unfreeze { .. } = action.kind
                && let Some(service) = world.service()
                && service.stage == Stage::Freezing
                && service.token.epoch == action.token.epoch
            {
                let (name, token) = (&action.instance, service.token);
                return Err(format!(
                    "{name} is let go by {}, and {token} still freezes",
                    action.token
                ));
            }
            match action.kind {
                ActionKind::Freeze | ActionKind::StandDown { .. } => {
                    self.frozen.insert(*instance, action.token);
                }
                ActionKind::Unfreeze { .. }
                | ActionKind::Promote { .. }
                | ActionKind::Demote { .. }
                | ActionKind::Rebuild { .. }
                | ActionKind::Repoint { .. } => {
                    self.frozen.remove(instance);
                }
                ActionKind::Configure { .. }
                | ActionKind::Pause { .. }
                | ActionKind::Resume
                | ActionKind::RefuseWrites
                | ActionKind::AcceptWrites => {}
            }
        }
        if let Happening::ByHand { instance } = seen {
            self.frozen.remove(instance);
        }
        if let Happening::Fed { replica, upstream } | Happening::Overwriting { replica, upstream } =
            seen
            && let Some(token) = self.frozen.get(replica)
        {
            return Err(format!(
                "{}, frozen by {token}, receives from {}",
                world.addresses[*replica], world.addresses[*upstream]
            ));
        }
        Ok(())
    }
}
