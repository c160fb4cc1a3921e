//! How a committed decision changes the table. Deterministic: every node does the same.
//!
//! A decision was made from one token; a service that has moved on since ignores it, so that two
//! decisions made from one state cannot both take effect. Whether a decision is wise was checked
//! before it was proposed (`failover/check.rs`); here only its shape is.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::ServiceSettings;
use crate::event::EventKind;
use crate::id::{Epoch, Incarnation, InstanceId, Member, ServiceName, Token};
use crate::ledger::state::{
    Answer, Change, Decision, HISTORY_MAX, HistoryEntry, INSTANCES_MAX, Proposal, QuorumConfig,
    ServiceState, Stage, Table, Told,
};
use crate::observation::WriteQuorum;
use crate::position::{Chain, Offset, Position};

/// What a committed decision did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: the service had moved on, or the decision does not fit its stage.
    Ignored(&'static str),
    /// It took effect; these events tell of it.
    Done(Vec<EventKind>),
}

impl Table {
    /// Applies the proposal committed at `index`.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Applied {
        self.index = index;
        if let Decision::Add(settings) = &proposal.decision {
            return self.add(&proposal.service, settings, proposal);
        }
        match self.services.get_mut(&proposal.service) {
            None => Applied::Ignored("no such service"),
            Some(service) if proposal.expect != Some(service.token) => {
                Applied::Ignored("the service has moved on")
            }
            Some(service) => service.apply(proposal),
        }
    }

    fn add(
        &mut self,
        name: &ServiceName,
        settings: &ServiceSettings,
        proposal: &Proposal,
    ) -> Applied {
        if self.services.contains_key(name) {
            return Applied::Ignored("the service exists");
        }
        let mut service = ServiceState {
            settings: settings.clone(),
            token: Token {
                epoch: Epoch(0),
                step: 1,
            },
            stage: Stage::Unadopted,
            primary: None,
            configs: Vec::new(),
            chain: Chain::default(),
            floor: Offset(0),
            told: BTreeMap::new(),
            barred: BTreeMap::new(),
            planned: None,
            instances: settings.seeds.iter().take(INSTANCES_MAX).cloned().collect(),
            answer: None,
            history: Default::default(),
        };
        service.remember(proposal);
        self.services.insert(name.clone(), service);
        Applied::Done(vec![EventKind::ServiceAdded])
    }
}

impl ServiceState {
    fn apply(&mut self, proposal: &Proposal) -> Applied {
        let before = self.clone();
        self.token.step += 1;
        match self.decide(&proposal.decision) {
            Ok(events) => {
                self.remember(proposal);
                Applied::Done(events)
            }
            Err(why) => {
                *self = before;
                Applied::Ignored(why)
            }
        }
    }

    fn remember(&mut self, proposal: &Proposal) {
        self.history.push_back(HistoryEntry {
            token: self.token,
            term: proposal.term,
            decision: proposal.decision.word().to_owned(),
            reasons: proposal.reasons.clone(),
        });
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    fn decide(&mut self, decision: &Decision) -> Result<Vec<EventKind>, &'static str> {
        match decision {
            Decision::Add(_) => Err("the service exists"),
            Decision::Discover { instances } => Ok(self.discover(instances)),
            Decision::Adopt {
                primary,
                position,
                members,
            } => Ok(self.adopt(primary, position, members)),
            Decision::Switch { target } => self.begin_switching(target),
            Decision::CallOff { reason } => {
                if !matches!(self.stage, Stage::Switching { .. }) {
                    return Err("no switchover to call off");
                }
                self.stage = Stage::Steady;
                Ok(vec![EventKind::SwitchoverCalledOff {
                    reason: reason.clone(),
                }])
            }
            Decision::Freeze => self.begin_freezing(),
            Decision::Abort => self.abort(),
            Decision::Promote {
                target,
                position,
                start,
                members,
            } => self.begin_promoting(target, position, *start, members),
            Decision::Promoted {
                position,
                fork,
                namesakes,
            } => self.promoted(position, *fork, namesakes),
            Decision::Complete => self.complete(),
            Decision::Change { members, k, change } => self.begin_change(members, *k, change),
            Decision::FinishChange => {
                if self.stage != Stage::Steady || self.configs.len() < 2 {
                    return Err("no change to finish");
                }
                self.configs.drain(..self.configs.len() - 1);
                Ok(Vec::new())
            }
            Decision::Readmit { member } => {
                for config in &mut self.configs {
                    if let Some(incarnation) = config.members.get_mut(&member.instance) {
                        *incarnation = member.incarnation.clone();
                    }
                }
                Ok(vec![EventKind::Readmitted {
                    instance: member.instance.clone(),
                }])
            }
            Decision::Rename { position } => {
                if self.stage != Stage::Steady {
                    return Err("a failover is under way");
                }
                self.chain.open(position.offset);
                self.chain
                    .name_last(position.lineage.clone(), position.offset);
                Ok(Vec::new())
            }
            Decision::Acknowledge { found } => self.acknowledge(found),
        }
    }

    fn adopt(
        &mut self,
        primary: &Member,
        position: &Position,
        members: &BTreeMap<InstanceId, Incarnation>,
    ) -> Vec<EventKind> {
        self.token.epoch = self.token.epoch.next();
        self.stage = Stage::Steady;
        self.chain = Chain::adopted(position.lineage.clone());
        self.floor = Offset(0);
        self.told.clear();
        self.barred.clear();
        self.planned = None;
        self.configs = vec![self.config(members.clone(), self.settings.min_replicas)];
        self.primary = Some(primary.clone());
        self.answer_with(&primary.instance)
    }

    fn begin_promoting(
        &mut self,
        target: &Member,
        position: &Position,
        start: Offset,
        members: &BTreeMap<InstanceId, Incarnation>,
    ) -> Result<Vec<EventKind>, &'static str> {
        if self.stage != Stage::Freezing {
            return Err("no failover is freezing");
        }
        if self.chain.offset_of(position).is_none()
            && let Some(told) = self.told.get_mut(&target.instance)
        {
            told.branches.insert(position.lineage.clone(), start);
        }
        self.floor = self.floor.max(start);
        let held = self.held_when_told(&target.instance, position, start);
        self.chain.open_torn(start, held);
        self.configs = vec![self.config(members.clone(), self.settings.min_replicas)];
        self.stage = Stage::Promoting {
            target: target.clone(),
            position: position.clone(),
        };
        Ok(vec![EventKind::TargetSelected {
            instance: target.instance.clone(),
        }])
    }

    fn promoted(
        &mut self,
        position: &Position,
        fork: Offset,
        namesakes: &BTreeMap<InstanceId, Incarnation>,
    ) -> Result<Vec<EventKind>, &'static str> {
        let Stage::Promoting { target, .. } = self.stage.clone() else {
            return Err("nobody is being promoted");
        };
        self.barred.extend(namesakes.clone());
        self.chain.name_last(position.lineage.clone(), fork);
        // Whatever was acknowledged is whole on the target, so it lies before the fork.
        self.floor = self.floor.min(fork);
        self.stage = Stage::Repointing;
        self.primary = Some(target.clone());
        Ok(self.answer_with(&target.instance))
    }

    fn abort(&mut self) -> Result<Vec<EventKind>, &'static str> {
        if self.stage != Stage::Freezing || !self.told.is_empty() {
            return Err("nothing to abort");
        }
        self.stage = Stage::Steady;
        let mut events = vec![EventKind::FailoverAborted {
            reason: "the primary answers again".into(),
        }];
        if self.planned.take().is_some() {
            events.push(EventKind::SwitchoverCalledOff {
                reason: "the replicas could not be frozen in time".into(),
            });
        }
        Ok(events)
    }

    fn begin_switching(&mut self, target: &InstanceId) -> Result<Vec<EventKind>, &'static str> {
        if self.stage != Stage::Steady || self.configs.len() != 1 {
            return Err("the service is not steady");
        }
        self.stage = Stage::Switching {
            target: target.clone(),
        };
        Ok(vec![EventKind::SwitchoverStarted {
            target: target.clone(),
        }])
    }

    /// Whoever was told and not frozen since may hold a history of a name that another one bears (rule S12).
    fn complete(&mut self) -> Result<Vec<EventKind>, &'static str> {
        if self.stage != Stage::Repointing {
            return Err("no failover to complete");
        }
        self.stage = Stage::Steady;
        self.planned = None;
        let primary = self.primary.as_ref().map(|primary| &primary.instance);
        for (instance, told) in std::mem::take(&mut self.told) {
            let frozen = self
                .configs
                .iter()
                .any(|config| config.members.contains_key(&instance));
            if primary != Some(&instance) && !frozen {
                self.barred.insert(instance, told.incarnation);
            }
        }
        if let Some(primary) = primary {
            self.barred.remove(primary);
        }
        Ok(vec![EventKind::FailoverEnded])
    }

    fn config(&self, members: BTreeMap<InstanceId, Incarnation>, k: u32) -> QuorumConfig {
        QuorumConfig {
            version: self.token,
            k,
            members,
        }
    }

    fn discover(&mut self, instances: &BTreeSet<InstanceId>) -> Vec<EventKind> {
        let mut events = Vec::new();
        for instance in instances {
            if self.instances.len() < INSTANCES_MAX && self.instances.insert(instance.clone()) {
                events.push(EventKind::InstanceDiscovered {
                    instance: instance.clone(),
                });
            }
        }
        events
    }

    fn begin_freezing(&mut self) -> Result<Vec<EventKind>, &'static str> {
        match &self.stage {
            Stage::Unadopted => return Err("no primary was adopted"),
            Stage::Freezing => return Err("a failover is freezing already"),
            Stage::Promoting { target, .. } => {
                let start = self.chain.last().map_or(Offset(0), |last| last.start);
                let again = self.told.get_mut(&target.instance);
                match again.filter(|told| told.incarnation == target.incarnation) {
                    Some(told) => told.start = told.start.max(start),
                    None => {
                        let incarnation = target.incarnation.clone();
                        let told = Told {
                            incarnation,
                            start,
                            branches: BTreeMap::new(),
                        };
                        self.told.insert(target.instance.clone(), told);
                    }
                }
                self.chain.give_up_unnamed();
                self.planned = None;
            }
            Stage::Steady | Stage::Repointing => self.planned = None,
            Stage::Switching { target } => self.planned = Some(target.clone()),
        }
        self.token.epoch = self.token.epoch.next();
        self.stage = Stage::Freezing;
        Ok(vec![EventKind::FailoverStarted {
            epoch: self.token.epoch,
        }])
    }

    fn begin_change(
        &mut self,
        members: &BTreeMap<InstanceId, Incarnation>,
        k: u32,
        change: &Change,
    ) -> Result<Vec<EventKind>, &'static str> {
        // One who comes back may enter a change whose own members cannot end it.
        let open = match change {
            Change::Admit(_) => !self.configs.is_empty(),
            Change::Exclude(_) | Change::Adjust => self.configs.len() == 1,
        };
        if self.stage != Stage::Steady || !open {
            return Err("another change is under way");
        }
        let config = self.config(members.clone(), k);
        self.configs.push(config);
        Ok(match change {
            Change::Admit(instance) => {
                self.barred.remove(instance);
                vec![EventKind::Admitted {
                    instance: instance.clone(),
                }]
            }
            Change::Exclude(instance) => vec![EventKind::Excluded {
                instance: instance.clone(),
            }],
            Change::Adjust => Vec::new(),
        })
    }

    fn acknowledge(&mut self, found: &WriteQuorum) -> Result<Vec<EventKind>, &'static str> {
        if self.stage != Stage::Steady || self.configs.is_empty() {
            return Err("no write quorum to compare with");
        }
        let known = |instance: &InstanceId| {
            self.configs
                .iter()
                .rev()
                .find_map(|c| c.members.get(instance))
                .cloned()
        };
        let members = found
            .members
            .iter()
            .map(|instance| {
                (
                    instance.clone(),
                    known(instance).unwrap_or_else(|| Incarnation::from("")),
                )
            })
            .collect();
        self.configs.insert(
            0,
            QuorumConfig {
                version: found.version,
                k: found.k,
                members,
            },
        );
        Ok(Vec::new())
    }

    fn answer_with(&mut self, primary: &InstanceId) -> Vec<EventKind> {
        let from = self.answer.take().map(|answer| answer.primary);
        self.answer = Some(Answer {
            primary: primary.clone(),
            epoch: self.token.epoch,
        });
        match from {
            None => vec![EventKind::PrimaryAdopted {
                instance: primary.clone(),
            }],
            Some(from) => vec![EventKind::PrimarySwitched {
                from: Some(from),
                to: primary.clone(),
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::id::Term;
    use crate::position::Lineage;

    struct Ledger {
        table: Table,
        index: u64,
    }

    fn instance(n: u16) -> InstanceId {
        InstanceId::new("10.0.0.21", n)
    }

    fn member(n: u16) -> Member {
        Member {
            instance: instance(n),
            incarnation: "life".into(),
        }
    }

    fn at(lineage: &str, offset: u64) -> Position {
        Position {
            lineage: Lineage::new(lineage),
            offset: Offset(offset),
        }
    }

    fn members(of: &[u16]) -> BTreeMap<InstanceId, Incarnation> {
        of.iter().map(|n| (instance(*n), "life".into())).collect()
    }

    impl Ledger {
        fn new() -> Self {
            let name = ServiceName::from("orders");
            let settings = ServiceSettings::new(name, "test".into(), [instance(1)].into());
            let mut ledger = Self {
                table: Table::default(),
                index: 0,
            };
            ledger.decide(Decision::Add(Box::new(settings)));
            let adopt = Decision::Adopt {
                primary: member(1),
                position: at("a", 7),
                members: members(&[2, 3]),
            };
            ledger.decide(adopt);
            ledger
        }

        fn decide_from(&mut self, expect: Option<Token>, decision: Decision) -> Applied {
            self.index += 1;
            let service = ServiceName::from("orders");
            let reasons = Vec::new();
            let proposal = Proposal {
                service,
                expect,
                term: Term(1),
                decision,
                reasons,
            };
            self.table.apply(self.index, &proposal)
        }

        fn decide(&mut self, decision: Decision) -> Applied {
            let expect = self
                .table
                .services
                .values()
                .next()
                .map(|service| service.token);
            self.decide_from(expect, decision)
        }

        fn service(&self) -> &ServiceState {
            self.table.services.values().next().unwrap()
        }
    }

    fn promote(n: u16, start: u64, with: &[u16]) -> Decision {
        let (target, position) = (member(n), at("a", start));
        Decision::Promote {
            target,
            position,
            start: Offset(start),
            members: members(with),
        }
    }

    #[test]
    fn two_decisions_from_one_token_do_not_both_take_effect() {
        let mut ledger = Ledger::new();
        let token = ledger.service().token;
        ledger.decide(Decision::Freeze);
        let late = ledger.decide_from(Some(token), Decision::FinishChange);
        assert_eq!(late, Applied::Ignored("the service has moved on"));
        assert!(ledger.service().token > token);
    }

    #[test]
    fn a_failover_moves_the_answer_with_the_observation() {
        let mut ledger = Ledger::new();
        ledger.decide(Decision::Freeze);
        ledger.decide(promote(2, 40, &[3]));
        let answer = ledger.service().answer.clone().unwrap();
        assert_eq!(
            (answer.primary, answer.epoch),
            (instance(1), Epoch(1)),
            "old until observed"
        );
        ledger.decide(Decision::Promoted {
            position: at("b", 40),
            fork: Offset(40),
            namesakes: BTreeMap::new(),
        });
        let answer = ledger.service().answer.clone().unwrap();
        assert_eq!((answer.primary, answer.epoch), (instance(2), Epoch(2)));
        assert_eq!(ledger.service().floor, Offset(40));
        assert!(ledger.service().chain.ends_with(&Lineage::new("b")));
        ledger.decide(Decision::Complete);
        assert_eq!(ledger.service().stage, Stage::Steady);
    }

    #[test]
    fn an_unobserved_promotion_is_told_and_its_branch_given_up() {
        let mut ledger = Ledger::new();
        ledger.decide(Decision::Freeze);
        ledger.decide(promote(2, 40, &[3]));
        ledger.decide(Decision::Freeze);
        let service = ledger.service();
        assert_eq!(service.token.epoch, Epoch(3));
        assert!(service.told.contains_key(&instance(2)));
        assert_eq!(service.chain.elements().len(), 1);
        assert_eq!(service.floor, Offset(40), "the floor stays");
        assert_eq!(
            ledger.decide(Decision::Abort),
            Applied::Ignored("nothing to abort")
        );
    }

    #[test]
    fn an_instance_that_was_told_twice_still_counts_where_it_left_the_chain() {
        let mut ledger = Ledger::new();
        ledger.decide(Decision::Freeze);
        ledger.decide(promote(2, 40, &[3]));
        ledger.decide(Decision::Freeze);
        // Nobody saw lineage `b`, which it began; it is promoted from there once more, and again unseen.
        let again = Decision::Promote {
            target: member(2),
            position: at("b", 45),
            start: Offset(40),
            members: members(&[3]),
        };
        ledger.decide(again);
        ledger.decide(Decision::Freeze);
        let service = ledger.service();
        let offset = |position: Position, fork: Position| {
            service.told_offset(&instance(2), Some(&position), Some(&fork))
        };
        assert_eq!(
            offset(at("c", 45), at("b", 45)),
            Some(Offset(40)),
            "promoted from b"
        );
        assert_eq!(
            offset(at("b", 45), at("a", 40)),
            Some(Offset(40)),
            "never promoted from b"
        );
        assert_eq!(offset(at("x", 45), at("y", 45)), None);
    }

    #[test]
    fn a_joint_change_is_one_at_a_time_and_survives_an_abort() {
        let mut ledger = Ledger::new();
        let change = || Decision::Change {
            members: members(&[2]),
            k: 1,
            change: Change::Exclude(instance(3)),
        };
        ledger.decide(change());
        assert_eq!(
            ledger.decide(change()),
            Applied::Ignored("another change is under way")
        );
        ledger.decide(Decision::Freeze);
        ledger.decide(Decision::Abort);
        assert_eq!(ledger.service().configs.len(), 2);
        ledger.decide(Decision::FinishChange);
        assert_eq!(ledger.service().configs[0].members, members(&[2]));
    }

    #[test]
    fn a_foreign_write_quorum_counts_with_whom_we_know() {
        let mut ledger = Ledger::new();
        let found = WriteQuorum {
            version: Token::default(),
            k: 1,
            members: [instance(2), instance(9)].into(),
        };
        ledger.decide(Decision::Acknowledge { found });
        let first = &ledger.service().configs[0];
        assert_eq!(first.members[&instance(2)], "life".into());
        assert_eq!(
            first.members[&instance(9)],
            "".into(),
            "a stranger never counts as frozen"
        );
    }

    #[test]
    fn the_history_is_bounded() {
        let mut ledger = Ledger::new();
        for n in 0..200 {
            ledger.decide(Decision::Rename {
                position: at(&format!("l{n}"), 7),
            });
        }
        assert_eq!(ledger.service().history.len(), HISTORY_MAX);
    }
}
