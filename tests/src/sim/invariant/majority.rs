//! Invariant 3: a minority never authorises anything. A decision that any node shows lies on the disks of
//! a majority; an action is ordered only by a node that has lately heard from one (`docs/safety.md`).
//!
//! What a node orders after its deadline, because it was paused in between, is never sent, and no concern.

use std::time::Duration;

use sentinel_core::time::Instant;

use super::check::{Happening, Invariant};
use crate::sim::node::Node;
use crate::sim::world::World;

/// A message handled so long after it was sent is no fresh contact: `contact_fresh`, two delays of the
/// worst weather, a disk write at either end, and a beat.
const CONTACT_MAX: Duration = Duration::from_millis(600);

/// The newest index that was shown.
#[derive(Debug, Default)]
pub(super) struct MajorityDecides {
    shown: u64,
}

impl Invariant for MajorityDecides {
    fn name(&self) -> &'static str {
        "3 a majority decides"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        let majority = world.nodes.len() / 2 + 1;
        if let Happening::Applied { node, table } = seen
            && table.index > self.shown
        {
            self.shown = table.index;
            let copies = durable_copies(&world.nodes, table.index);
            if copies < majority {
                let (node, index) = (node + 1, table.index);
                return Err(format!(
                    "s{node} shows index {index}, which {copies} of {} disks hold",
                    world.nodes.len()
                ));
            }
        }
        if let Happening::Ordered { node, action } = seen
            && majority > 1
            && action.deadline > world.nodes[*node].clock(world.now())
        {
            let mut heard: Vec<Instant> = world.nodes[*node].heard.values().copied().collect();
            heard.sort_unstable_by(|a, b| b.cmp(a));
            let contact = heard.get(majority - 2).copied().unwrap_or_default();
            let silence = world.now().since(contact);
            if silence > CONTACT_MAX {
                let (node, word) = (node + 1, action.kind.word());
                return Err(format!(
                    "s{node} orders {word}, and what it last heard from a majority was said {silence:?} ago"
                ));
            }
        }
        Ok(())
    }
}

/// Disks that hold the same entry at this index, or a snapshot of it; of the term that most agree upon.
fn durable_copies(nodes: &[Node], index: u64) -> usize {
    let holders = |term: u64| {
        let holds = |node: &&Node| node.disk.holds(index, term);
        nodes.iter().filter(holds).count()
    };
    nodes
        .iter()
        .map(|node| node.disk.entry(index).map_or(0, |entry| entry.term))
        .map(holders)
        .max()
        .unwrap_or(0)
}
