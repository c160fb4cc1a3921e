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

/// Order of candidates, the best first: the most data, then whom an operator wants, then priority, then name.
type Rank<'a> = (std::cmp::Reverse<Offset>, bool, u32, &'a InstanceId);

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
    /// The incarnation in which an instance is trusted: as a member of a write quorum, as told to promote, or, once
    /// somebody was told, as the old primary (rule S13).
    pub fn admitted(&self, instance: &InstanceId) -> Option<&Incarnation> {
        let member = self
            .configs
            .iter()
            .rev()
            .find_map(|config| config.members.get(instance));
        let told = || self.told.get(instance).map(|told| &told.incarnation);
        let old = || {
            self.primary
                .as_ref()
                .filter(|old| old.instance == *instance && !self.told.is_empty())
        };
        member
            .or_else(told)
            .or_else(|| old().map(|old| &old.incarnation))
    }

    /// Offset of an instance on the chain: its position if that lies on it, else, if it was told to
    /// promote, the point at which it left the chain (rules S1, S10, L7).
    pub fn offset_on_chain(&self, instance: &InstanceId, facts: &Facts) -> Option<Offset> {
        let position = facts.position.as_ref();
        let on_chain = position.and_then(|position| self.chain.offset_of(position));
        on_chain.or_else(|| self.told_offset(instance, position, facts.fork.as_ref()))
    }

    /// Where an instance that was told to promote left the chain; `None` for any other.
    pub fn told_offset(
        &self,
        instance: &InstanceId,
        position: Option<&Position>,
        fork: Option<&Position>,
    ) -> Option<Offset> {
        let told = self.told.get(instance)?;
        let left_by = |position: &Position| told.branches.get(&position.lineage).copied();
        let fork_on_chain = fork.and_then(|fork| self.chain.offset_of(fork));
        fork_on_chain
            .or_else(|| position.and_then(left_by))
            .or_else(|| fork.and_then(left_by))
    }

    /// How much of the chain an instance held that has forked here since: as much as when it was told, for what it lost by
    /// its fork was no whole record. Once another primary has left the chain there, that one's writes have the same
    /// offsets and are whole, so that what was lost ranks with them no more.
    pub fn held_when_told(&self, instance: &InstanceId, fork: &Position, offset: Offset) -> Offset {
        let told = self.told.get(instance);
        let told = told.filter(|_| self.chain.ends_with(&fork.lineage));
        told.map_or(offset, |told| told.start.max(offset))
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
        let unplanned = state.planned.as_ref() != Some(instance);
        let key: Rank<'_> = (std::cmp::Reverse(offset), unplanned, priority, instance);
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::config::ServiceSettings;
    use crate::id::{ServiceName, Term, Token};
    use crate::ledger::{Decision, Proposal, QuorumConfig, Table, Told};
    use crate::observation::{Link, Persistable, RestartGuard, Role, Upstream, Writes};
    use crate::position::Lineage;

    fn instance(n: u16) -> InstanceId {
        InstanceId::new("10.0.0.21", n)
    }

    fn at(lineage: &str, offset: u64) -> Position {
        Position {
            lineage: Lineage::new(lineage),
            offset: Offset(offset),
        }
    }

    fn frozen_at(position: Position) -> Facts {
        Facts {
            incarnation: "life".into(),
            server: "process".into(),
            role: Role::Replica {
                upstream: Upstream::Frozen,
                link: Link::Broken,
            },
            position: Some(position),
            fork: None,
            synced: true,
            holds_data: true,
            persistable: Persistable::Yes,
            priority: 100,
            write_quorum: None,
            replicas: Vec::new(),
            restart_guard: RestartGuard::None,
            writes: Writes::Itself,
            applied: None,
            trouble: None,
        }
    }

    /// Instance 1 is primary of lineage `a`; 2 and 3 are its members.
    fn state() -> ServiceState {
        let name = ServiceName::from("orders");
        let settings = ServiceSettings::new(name.clone(), "test".into(), [instance(1)].into());
        let life = |n| (instance(n), Incarnation::from("life"));
        let mut table = Table::default();
        let decisions = [
            Decision::Add(Box::new(settings)),
            Decision::Adopt {
                primary: Member {
                    instance: instance(1),
                    incarnation: "life".into(),
                },
                position: at("a", 10),
                members: [life(2), life(3)].into(),
            },
        ];
        for (index, decision) in (1u64..).zip(decisions) {
            let expect = table.services.get(&name).map(|service| service.token);
            let proposal = Proposal {
                service: name.clone(),
                expect,
                term: Term(1),
                decision,
                reasons: Vec::new(),
            };
            table.apply(index, &proposal);
        }
        table.services[&name].clone()
    }

    fn code(result: Result<Offset, Reason>) -> String {
        result.map_or_else(|reason| reason.code, |offset| offset.to_string())
    }

    #[test]
    fn what_counts() {
        let state = state();
        let whole = || frozen_at(at("a", 40));
        for (facts, wanted) in [
            (whole(), "40"),
            (
                Facts {
                    synced: false,
                    ..whole()
                },
                "veto_first_sync",
            ),
            (
                Facts {
                    incarnation: "later".into(),
                    ..whole()
                },
                "veto_restarted",
            ),
            (
                Facts {
                    position: None,
                    ..whole()
                },
                "veto_position_unknown",
            ),
            (frozen_at(at("b", 40)), "veto_off_chain"),
        ] {
            assert_eq!(
                code(count(&state, &instance(2), &facts, &Bugs::none())),
                wanted
            );
        }
        assert_eq!(
            code(count(&state, &instance(4), &whole(), &Bugs::none())),
            "veto_not_admitted"
        );
    }

    #[test]
    fn a_told_instance_counts_where_it_left_the_chain() {
        let mut state = state();
        let told = Told {
            incarnation: "life".into(),
            start: Offset(40),
            branches: BTreeMap::new(),
        };
        state.told.insert(instance(2), told);
        let mut facts = frozen_at(at("unobserved", 55));
        facts.fork = Some(at("a", 40));
        assert_eq!(
            code(count(&state, &instance(2), &facts, &Bugs::none())),
            "40"
        );
    }

    #[test]
    fn every_write_quorum_in_force_is_sealed() {
        let mut state = state();
        let counted = |of: &[u16]| {
            of.iter()
                .map(|n| (instance(*n), Offset(1)))
                .collect::<Counted>()
        };
        assert!(seal(&state, &counted(&[2])).is_err());
        assert!(seal(&state, &counted(&[2, 3])).is_ok());
        // A joint change: the larger one needs one member more.
        let mut larger = state.configs[0].clone();
        larger.members.insert(instance(4), "life".into());
        state.configs.push(larger);
        assert_eq!(seal(&state, &counted(&[2, 3])).unwrap_err().len(), 1);
        assert!(seal(&state, &counted(&[2, 3, 4])).is_ok());
        // k = 0 counts nobody, so that nothing seals it (rule L5).
        state.configs = vec![QuorumConfig {
            version: Token::default(),
            k: 0,
            members: BTreeMap::new(),
        }];
        assert!(seal(&state, &Counted::new()).is_err());
    }

    fn chosen(state: &ServiceState, of: &[(u16, u64, u32)]) -> Result<u16, Vec<String>> {
        let facts: Vec<(InstanceId, Facts)> = of
            .iter()
            .map(|(n, offset, priority)| {
                (
                    instance(*n),
                    Facts {
                        priority: *priority,
                        ..frozen_at(at("a", *offset))
                    },
                )
            })
            .collect();
        let counted = of
            .iter()
            .map(|(n, offset, _)| (instance(*n), Offset(*offset)))
            .collect();
        let facts = facts
            .iter()
            .map(|(instance, facts)| (instance.clone(), facts))
            .collect();
        choose(state, &counted, &facts, &Bugs::none())
            .map(|target| target.member.instance.port())
            .map_err(|reasons| reasons.into_iter().map(|reason| reason.code).collect())
    }

    #[test]
    fn the_highest_is_chosen_and_vetoes_do_not_lower_the_bar() {
        let mut state = state();
        assert_eq!(chosen(&state, &[(2, 40, 100), (3, 41, 100)]), Ok(3));
        assert_eq!(
            chosen(&state, &[(2, 40, 100), (3, 40, 50)]),
            Ok(3),
            "priority breaks a tie"
        );
        assert_eq!(
            chosen(&state, &[(2, 40, 100), (3, 40, 100)]),
            Ok(2),
            "then the name does"
        );
        let vetoed = chosen(&state, &[(2, 40, 100), (3, 41, 0)]).unwrap_err();
        assert_eq!(vetoed, ["veto_not_highest", "veto_priority"]);
        state.floor = Offset(50);
        assert_eq!(
            chosen(&state, &[(2, 40, 100)]).unwrap_err(),
            ["veto_below_floor"]
        );
        assert_eq!(chosen(&state, &[]).unwrap_err(), ["no_candidate"]);
    }
}
