//! Standing: an instance that was told to promote, became primary, and cannot be frozen as one.
//!
//! Some engines freeze no primary. Such an instance counts all the same, with the point at which it forked (rules S10, L7):
//! that point is fixed for ever, the order that made it primary is carried out and can no longer arrive late, and nobody
//! follows it, because nobody is re-pointed before a promotion is committed as seen. It may be the target once more; the
//! order to promote then only puts the new write quorum in force there.
//!
//! Where it forked may lie before the point at which it was told, and then before the floor that this point became: what
//! lay between was a piece of a record. It ranks with the point at which it was told, until another primary has left the
//! chain there: that one's writes have the same offsets as the piece that was lost, and are whole.

use std::collections::BTreeMap;

use crate::failover::sight::Sight;
use crate::id::{InstanceId, Member};
use crate::monitor::Reading;
use crate::observation::Role;
use crate::position::Offset;
use crate::ranking::Target;

/// One standing instance.
#[derive(Debug)]
pub(super) struct Standing<'a> {
    /// The target that it would be.
    pub(super) target: Target,
    /// How much of the chain it held when it was told.
    pub(super) held: Offset,
    /// What it says.
    pub(super) reading: &'a Reading,
}

/// The standing instances.
pub(super) fn standing<'a>(sight: &Sight<'a>) -> BTreeMap<InstanceId, Standing<'a>> {
    let told = sight.state.told.keys();
    told.filter_map(|instance| Some((instance.clone(), stands(sight, instance)?)))
        .collect()
}

fn stands<'a>(sight: &Sight<'a>, instance: &InstanceId) -> Option<Standing<'a>> {
    let told = sight.state.told.get(instance)?;
    let reading = sight.reading_of_stage(instance)?;
    let facts = &reading.facts;
    let refused = sight.desk.unfrozen.contains(instance);
    let primary = facts.role == Role::Primary && facts.synced;
    if !refused || !primary || facts.incarnation != told.incarnation {
        return None;
    }
    let position = facts.fork.clone()?;
    let offset = sight.state.chain.offset_of(&position)?;
    let member = Member {
        instance: instance.clone(),
        incarnation: facts.incarnation.clone(),
    };
    let held = sight.state.held_when_told(instance, &position, offset);
    let target = Target {
        member,
        position,
        offset,
    };
    Some(Standing {
        target,
        held,
        reading,
    })
}
