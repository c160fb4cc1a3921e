//! Which frozen members count, whether they seal, and who of them is promoted.
//!
//! Pure: committed state and facts in, counts and reasons out. Does not know how the facts were
//! come by; that each stems from a freeze of this epoch is the desk's business.

use std::collections::BTreeMap;

use crate::id::{Incarnation, InstanceId, Member};
use crate::ledger::ServiceState;
use crate::observation::Facts;
use crate::planted::{Bug, Bugs};
use crate::position::{Offset, Position};
use crate::reason::Reason;

/// Members that count, each with its offset on the chain.
pub type Counted = BTreeMap<InstanceId, Offset>;

/// Order of candidates, the best first: the most data, then priority, then name.
type Rank<'a> = (std::cmp::Reverse<Offset>, u32, &'a InstanceId);

/// Who is to be promoted, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Who, in which incarnation.
    pub member: Member,
    /// Its position as read.
    pub position: Position,
    /// That position's offset on the chain.
    pub offset: Offset,
}

impl ServiceState {
    /// The incarnation in which an instance is trusted: as a member of a write quorum, or as told to promote.
    pub fn admitted(&self, instance: &InstanceId) -> Option<&Incarnation> {
        let member = self
            .configs
            .iter()
            .rev()
            .find_map(|config| config.members.get(instance));
        member.or_else(|| self.told.get(instance))
    }

    /// Offset of an instance on the chain: its position if that lies on it, else, if it was told to
    /// promote, the point at which it left the chain (rules S1, S10, L7).
    pub fn offset_on_chain(&self, instance: &InstanceId, facts: &Facts) -> Option<Offset> {
        let on_chain =
            |position: &Option<Position>| position.as_ref().and_then(|p| self.chain.offset_of(p));
        on_chain(&facts.position).or_else(|| {
            if self.told.contains_key(instance) {
                on_chain(&facts.fork)
            } else {
                None
            }
        })
    }

    /// Priority of an instance for promotion: the settings' word, else its own.
    pub fn priority(&self, instance: &InstanceId, facts: &Facts) -> u32 {
        self.settings
            .priorities
            .get(instance)
            .copied()
            .unwrap_or(facts.priority)
    }
}

/// Whether an instance with these facts, if frozen, counts; and at which offset (rules S1, S4, S16).
pub fn count(
    state: &ServiceState,
    instance: &InstanceId,
    facts: &Facts,
    bugs: &Bugs,
) -> Result<Offset, Reason> {
    if bugs.has(Bug::OffsetOnly)
        && let Some(position) = &facts.position
    {
        return Ok(position.offset);
    }
    if !bugs.has(Bug::AnyIncarnation) {
        if !facts.synced {
            let text = format!("{instance} has not finished a sync, so its data are not whole");
            return Err(Reason::new("veto_first_sync", text));
        }
        match state.admitted(instance) {
            Some(admitted) if *admitted == facts.incarnation => {}
            Some(_) => {
                let text = format!(
                    "{instance} restarted since it was admitted, and may have lost what it acknowledged"
                );
                return Err(Reason::new("veto_restarted", text));
            }
            None => {
                return Err(Reason::new(
                    "veto_not_admitted",
                    format!("{instance} is no member of the write quorum"),
                ));
            }
        }
    }
    let Some(position) = &facts.position else {
        return Err(Reason::new(
            "veto_position_unknown",
            format!("{instance} cannot tell its position"),
        ));
    };
    state.offset_on_chain(instance, facts).ok_or_else(|| {
        let text =
            format!("{instance} is at {position}, which is no part of the authorised history");
        Reason::new("veto_off_chain", text)
    })
}

/// Whether the counted members seal every write quorum that may be in force: with them frozen, the
/// old primary can no longer reach enough others. Reasons name what is missing.
pub fn seal(state: &ServiceState, counted: &Counted) -> Result<(), Vec<Reason>> {
    let missing = |config: &crate::ledger::QuorumConfig| {
        let frozen = config
            .members
            .keys()
            .filter(|member| counted.contains_key(*member))
            .count();
        let needed = config.seal_size();
        (frozen < needed).then(|| {
            let open: Vec<String> =
                config.members.keys().filter(|member| !counted.contains_key(*member)).map(InstanceId::to_string).collect();
            let text = format!(
                "the write quorum of {} of {} members needs {needed} of them frozen to be sealed, {frozen} are: missing {}",
                config.k,
                config.members.len(),
                if open.is_empty() { "more members".to_owned() } else { open.join(", ") }
            );
            Reason::new("not_sealed", text)
        })
    };
    let reasons: Vec<Reason> = state.configs.iter().filter_map(missing).collect();
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(reasons)
    }
}

/// The member to promote among the counted ones: at the floor or above, no counted member beyond it,
/// no policy against it; ties by priority, then by name (rules S2, S11).
pub fn choose(
    state: &ServiceState,
    counted: &Counted,
    facts: &BTreeMap<InstanceId, &Facts>,
    bugs: &Bugs,
) -> Result<Target, Vec<Reason>> {
    let mut reasons = Vec::new();
    let bar = counted.values().max().copied().unwrap_or_default();
    let mut best: Option<(Rank<'_>, Target)> = None;
    for (instance, &offset) in counted {
        let Some(facts) = facts.get(instance) else {
            continue;
        };
        let Some(position) = facts.position.clone() else {
            continue;
        };
        let priority = state.priority(instance, facts);
        if priority == 0 {
            reasons.push(Reason::new(
                "veto_priority",
                format!("{instance} has priority 0 and is never promoted"),
            ));
            continue;
        }
        if offset < state.floor && !bugs.has(Bug::NoFloor) {
            let text = format!(
                "{instance} is at offset {offset}, below the floor {} of the newest primary",
                state.floor
            );
            reasons.push(Reason::new("veto_below_floor", text));
            continue;
        }
        if offset < bar && !bugs.has(Bug::VetoLowersBar) {
            let text =
                format!("{instance} is at offset {offset}, and another member holds up to {bar}");
            reasons.push(Reason::new("veto_not_highest", text));
            continue;
        }
        let key: Rank<'_> = (std::cmp::Reverse(offset), priority, instance);
        if best.as_ref().is_none_or(|(old, _)| key < *old) {
            let member = Member {
                instance: instance.clone(),
                incarnation: facts.incarnation.clone(),
            };
            best = Some((
                key,
                Target {
                    member,
                    position,
                    offset,
                },
            ));
        }
    }
    if counted.is_empty() {
        reasons.push(Reason::new(
            "no_candidate",
            "no replica is frozen with whole data on the authorised history",
        ));
    }
    best.map(|(_, target)| target).ok_or(reasons)
}
