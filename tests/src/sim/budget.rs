//! How much memory may be lost: `k = 1` tolerates the loss of one copy, so a second one is destroyed only
//! when the first is back for certain (`docs/safety.md`, "what k = 1 tolerates").
//!
//! Judges by the truth of the simulated world, which no coordinator has. Without this budget a run would
//! blame the protocol for what no protocol could save.

use std::time::Duration;

use sentinel_core::id::Member;
use sentinel_core::ledger::Stage;

use super::instance::{Duty, Instance, Process};
use super::world::World;

/// After a primary came back with lost memory, nothing else breaks for so long: the empty-restart guard is a
/// delay, and promises nothing when detection takes longer than it (rule S15).
pub const CALM: Duration = Duration::from_secs(8);

impl World {
    /// Whether every copy is whole, caught up and trusted, so that one may be lost.
    pub fn may_lose_memory(&self) -> bool {
        let Some(service) = self.service() else {
            return false;
        };
        let (Stage::Steady, Some(primary), [config]) =
            (&service.stage, &service.primary, service.configs.as_slice())
        else {
            return false;
        };
        let newest = self.acknowledged.last().map_or(0, |write| write.offset);
        self.instances.iter().all(|instance| {
            let member = Member {
                instance: instance.id.clone(),
                incarnation: instance.incarnation(),
            };
            let trusted = if member.instance == primary.instance {
                member.incarnation == primary.incarnation && instance.duty == Duty::Primary
            } else {
                config.members.get(&member.instance) == Some(&member.incarnation)
            };
            let caught_up = instance.whole && instance.offset() >= newest;
            instance.process == Process::Running && trusted && caught_up
        })
    }

    /// Whether a dead server may start again with less than it had, without wiping others before anybody
    /// could look: nobody follows it, or it never was a primary.
    pub fn may_restart(&self, i: usize) -> bool {
        let follows =
            |other: &Instance| other.duty == Duty::Follow(i) || other.saved.duty == Duty::Follow(i);
        self.instances[i].saved.duty != Duty::Primary || !self.instances.iter().any(follows)
    }

    /// Whether nothing is broken at present.
    pub fn is_calm(&self) -> bool {
        self.network.is_whole()
            && self.nodes.iter().all(super::node::Node::is_running)
            && self.instances.iter().all(|i| i.process == Process::Running)
    }
}
