//! Invariant 6: an action of a lower token never takes effect on an instance after one of a higher token
//! did, also when it was sent before and arrives after; and one that went to an agent takes no effect after the deadline
//! that its leader gave it, which the next leader waits out (`docs/safety.md`, rules S6, S14).

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::id::{ActionId, Token};
use sentinel_core::peer::PeerMessage;
use sentinel_core::time::Instant;

use super::check::{Happening, Invariant};
use crate::sim::world::World;

/// The highest token that took effect on each instance.
#[derive(Debug, Default)]
pub(super) struct TokensRise {
    executed: BTreeMap<usize, Token>,
    deadlines: BTreeMap<ActionId, Instant>,
}

/// From the last look at a deadline to the effect.
const EFFECT_MAX: Duration = Duration::from_millis(5);

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "6 no lower token takes effect"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Sent {
            message: PeerMessage::Order(order),
            ..
        } = seen
        {
            let patience = world.settings.service().action_deadline;
            self.deadlines.insert(order.id, world.now() + patience);
        }
        let Happening::Executed {
            instance, action, ..
        } = seen
        else {
            return Ok(());
        };
        let deadline = self.deadlines.get(&action.id);
        if deadline.is_some_and(|deadline| world.now() > *deadline + EFFECT_MAX) {
            return Err(format!(
                "{} executes {} of {} long after its deadline",
                world.addresses[*instance],
                action.kind.word(),
                action.token
            ));
        }
        let highest = self.executed.entry(*instance).or_insert(action.token);
        if action.token < *highest {
            return Err(format!(
                "{} executes {} of {} after {highest}",
                world.addresses[*instance],
                action.kind.word(),
                action.token
            ));
        }
        *highest = action.token;
        Ok(())
    }
}
