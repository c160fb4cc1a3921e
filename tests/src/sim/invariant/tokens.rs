//! Invariant 6: an action of a lower token never takes effect on an instance after one of a higher token
//! did, also when it was sent before and arrives after (`docs/safety.md`, rules S6, S14).

use std::collections::BTreeMap;

use sentinel_core::id::Token;

use super::check::{Happening, Invariant};
use crate::sim::world::World;

/// The highest token that took effect on each instance.
#[derive(Debug, Default)]
pub(super) struct TokensRise {
    executed: BTreeMap<usize, Token>,
}

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "6 no lower token takes effect"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        let Happening::Executed {
            instance, action, ..
        } = seen
        else {
            return Ok(());
        };
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
