//! Agents: nodes on the hosts of instances, to which the leader sends the orders that need a host.
//!
//! An agent tells every voter twice a second, and at once when something changes, which instances it looks
//! after and what it is doing. All of it is soft: an agent that is not heard is as if there were none, and
//! the leader's own adapter does what can be done over the network. Whether an order is too old is judged by
//! the agent's adapter, which keeps the highest token on disk; this file only carries orders and outcomes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::action::{Action, Hand, Outcome};
use crate::event::EventKind;
use crate::id::{ActionId, InstanceId, NodeName, ServiceName};
use crate::peer::{AgentReport, AgentState, OrderMessage, PeerMessage};
use crate::reason::Reason;
use crate::sentinel::{Output, Sentinel, Timer};
use crate::time::Instant;

/// How often an agent tells what it does.
const REPORT_PACE: Duration = Duration::from_millis(500);

/// An agent that has not been heard for so long gets no orders: two reports, and a little.
const AGENT_PATIENCE: Duration = Duration::from_millis(1200);

/// Reports from which an order's deadline may be counted: no leader uses one that it heard longer ago than that, and the
/// deadline follows soon.
const BEATS_KEPT: Duration = Duration::from_secs(5);

/// How much later than its deadline an outcome may arrive.
const OUTCOME_GRACE: Duration = Duration::from_millis(100);

/// Instances that agents may claim in all; more are not kept.
const CLAIMS_MAX: usize = 4096;

/// Both sides: the agents that a voter knows, and what an agent has to tell.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// Who looks after an instance, as last heard.
    known: BTreeMap<(ServiceName, InstanceId), Claim>,
    /// Whoever claims an instance besides, and when it last did.
    rivals: BTreeMap<(ServiceName, InstanceId), (NodeName, Instant)>,
    /// What this node's own agent is doing.
    own: BTreeMap<(ServiceName, InstanceId), AgentState>,
    /// Who ordered what this node is carrying out for somebody else.
    orderers: BTreeMap<ActionId, NodeName>,
    reported_at: Option<Instant>,
    /// This node's own reports of late: an order that names another one is of an earlier life, or too old.
    beats: VecDeque<Instant>,
}

#[derive(Clone, Debug)]
struct Claim {
    agent: NodeName,
    beat: u64,
    heard: Instant,
    /// It has not answered an order since.
    owes_answer: bool,
    state: AgentState,
}

impl Agents {
    /// What the agents of a service's instances were lately heard to do.
    pub(super) fn of(
        &self,
        now: Instant,
        service: &ServiceName,
    ) -> BTreeMap<InstanceId, AgentState> {
        let first = (service.clone(), InstanceId::new("", 0));
        let known = self.known.range(first.clone()..);
        let known = known
            .take_while(|((of, _), _)| of == service)
            .filter(|(_, claim)| now.since(claim.heard) <= AGENT_PATIENCE)
            .map(|((_, instance), claim)| (instance.clone(), claim.state.clone()));
        let own = self.own.range(first..);
        let own = own
            .take_while(|((of, _), _)| of == service)
            .map(|((_, instance), state)| (instance.clone(), state.clone()));
        known.chain(own).collect()
    }

    /// Instances that two nodes claim, as reasons for a report.
    pub(super) fn disputes(&self, now: Instant, service: &ServiceName) -> Vec<Reason> {
        let first = (service.clone(), InstanceId::new("", 0));
        let claims = self.rivals.range(first..);
        let claims = claims
            .take_while(|((of, _), _)| of == service)
            .filter(|(_, (_, heard))| now.since(*heard) <= AGENT_PATIENCE);
        let reason = |instance: &InstanceId, rival: &NodeName| {
            Reason::new(
                "two_agents",
                format!(
                    "{rival} says that it is the agent of {instance}, and another node said so before: it gets no orders; take the instance out of the settings of one of them"
                ),
            )
        };
        claims
            .map(|((_, instance), (rival, _))| reason(instance, rival))
            .collect()
    }
}

impl Sentinel {
    /// An order that needs a host goes to the agent there; any other, or without an agent, to our own adapter.
    pub(super) fn hand_out(&mut self, now: Instant, action: Action) {
        let key = (action.service.clone(), action.instance.clone());
        let agent = self.agents.known.get(&key).filter(|claim| {
            action.kind.hand() == Hand::Agent
                && claim.agent != self.settings.name
                && !claim.owes_answer
                && now.since(claim.heard) <= AGENT_PATIENCE
        });
        let Some(Claim {
            agent, beat, heard, ..
        }) = agent.cloned()
        else {
            self.outputs.push_back(Output::Act(Box::new(action)));
            return;
        };
        self.timers
            .set(Timer::Order(action.id), action.deadline + OUTCOME_GRACE);
        let order = OrderMessage {
            id: action.id,
            beat,
            within: action.deadline.since(heard),
            service: action.service,
            instance: action.instance,
            token: action.token,
            kind: action.kind,
        };
        self.outputs.push_back(Output::Send {
            to: agent,
            message: Box::new(PeerMessage::Order(Box::new(order))),
        });
    }

    /// An order that went to an agent was not answered in time: until it is heard again it gets no more.
    pub(super) fn on_order_timer(&mut self, now: Instant, id: ActionId) {
        let Some(name) = self.acts.get(&id).cloned() else {
            return;
        };
        let desk = self.posts.get(&name).and_then(|post| post.desk.as_ref());
        let instance = desk.and_then(|desk| desk.ordered(id));
        if let Some(instance) = instance.cloned()
            && let Some(claim) = self.agents.known.get_mut(&(name, instance))
        {
            claim.owes_answer = true;
        }
        let text = "the agent on its host did not answer in time";
        self.on_acted(now, id, &Outcome::Unknown(text.into()));
    }

    /// A voter sends an order for an instance of ours.
    pub(super) fn on_order(&mut self, from: NodeName, order: OrderMessage) {
        let key = (order.service.clone(), order.instance.clone());
        if !self.settings.voters.contains(&from) || !self.settings.agent_of.contains(&key) {
            let text = format!("this node is no agent of {}", order.instance);
            self.answer_order(from, order.id, Outcome::Refused(text));
            return;
        }
        let beat = Instant::from_nanos(order.beat);
        if !self.agents.beats.contains(&beat) {
            let text = "the order was given before this agent started, or is too old";
            self.answer_order(from, order.id, Outcome::Refused(text.into()));
            return;
        }
        self.agents.orderers.insert(order.id, from);
        self.outputs.push_back(Output::Act(Box::new(Action {
            id: order.id,
            service: order.service,
            instance: order.instance,
            token: order.token,
            deadline: beat + order.within,
            kind: order.kind,
        })));
    }

    /// An order of another node has come to its end here; `false` if it was none.
    pub(super) fn answered_for_another(&mut self, id: ActionId, outcome: &Outcome) -> bool {
        let Some(orderer) = self.agents.orderers.remove(&id) else {
            return false;
        };
        self.answer_order(orderer, id, outcome.clone());
        true
    }

    fn answer_order(&mut self, to: NodeName, id: ActionId, outcome: Outcome) {
        let message = Box::new(PeerMessage::OrderDone { id, outcome });
        self.outputs.push_back(Output::Send { to, message });
    }

    /// This node's own agent has something to tell.
    pub(super) fn on_noted(
        &mut self,
        now: Instant,
        service: &ServiceName,
        instance: &InstanceId,
        state: &AgentState,
    ) {
        let key = (service.clone(), instance.clone());
        if !self.settings.agent_of.contains(&key) {
            return;
        }
        let before = self.agents.own.insert(key, state.clone());
        if before.as_ref() == Some(state) {
            return;
        }
        if let Some(post) = self.posts.get_mut(service) {
            post.view_stale = true;
            self.visited.insert(service.clone());
        }
        if before
            .as_ref()
            .is_none_or(|before| before.runs != state.runs)
        {
            self.look_now(now, service, instance);
        }
        self.tell_kept(service, instance, before.as_ref(), state);
        self.report_agent(now);
    }

    /// Once at each node that heard of it.
    fn tell_kept(
        &mut self,
        service: &ServiceName,
        instance: &InstanceId,
        before: Option<&AgentState>,
        now_is: &AgentState,
    ) {
        if let (Some(before), Some(what)) = (before, &now_is.kept)
            && before.kept.as_ref() != Some(what)
        {
            let (instance, what) = (instance.clone(), what.clone());
            self.publish(service, EventKind::DivergedKept { instance, what });
        }
    }

    /// Tells every other voter what this node's agent does, at its pace.
    pub(super) fn tell_agents(&mut self, now: Instant) {
        let due = self
            .agents
            .reported_at
            .is_none_or(|at| now.since(at) >= REPORT_PACE);
        if !self.settings.agent_of.is_empty() && due {
            self.report_agent(now);
        }
    }

    fn report_agent(&mut self, now: Instant) {
        self.agents.reported_at = Some(now);
        let beats = &mut self.agents.beats;
        beats.retain(|beat| now.since(*beat) <= BEATS_KEPT);
        beats.push_back(now);
        let mut report = AgentReport {
            beat: now.as_nanos(),
            ..AgentReport::default()
        };
        for (service, instance) in &self.settings.agent_of {
            let key = (service.clone(), instance.clone());
            let state = self.agents.own.get(&key).cloned().unwrap_or_default();
            let instances = report.instances.entry(service.clone()).or_default();
            instances.insert(instance.clone(), state);
        }
        let others = self.settings.voters.iter();
        for voter in others.filter(|voter| **voter != self.settings.name) {
            self.outputs.push_back(Output::Send {
                to: voter.clone(),
                message: Box::new(PeerMessage::Agent(report.clone())),
            });
        }
    }

    /// Whether another node than this one looks after an instance, and was lately heard. Two hands at one data folder would
    /// undo each other's work; which of them is the right one, nobody here can know, so the first stays.
    fn is_claimed_otherwise(
        &self,
        now: Instant,
        key: &(ServiceName, InstanceId),
        from: &NodeName,
    ) -> bool {
        let fresh = |claim: &&Claim| now.since(claim.heard) <= AGENT_PATIENCE;
        let known = self.agents.known.get(key).filter(fresh);
        self.settings.agent_of.contains(key) || known.is_some_and(|claim| claim.agent != *from)
    }

    fn note_rival(&mut self, now: Instant, key: (ServiceName, InstanceId), from: &NodeName) {
        let (service, instance) = key.clone();
        let before = self.agents.rivals.insert(key, (from.clone(), now));
        let known = before
            .is_some_and(|(rival, heard)| rival == *from && now.since(heard) <= AGENT_PATIENCE);
        if !known {
            self.touched.insert(service.clone());
            self.alarm(format!(
                "service {service}: {from} says that it is the agent of {instance}, and another node said so before; it gets no orders"
            ));
        }
    }

    /// A node tells which instances its agent looks after. A process that ended or began is looked at, at once.
    pub(super) fn on_agent(&mut self, now: Instant, from: &NodeName, report: AgentReport) {
        for (service, instances) in report.instances {
            for (instance, state) in instances {
                let key = (service.clone(), instance.clone());
                if self.is_claimed_otherwise(now, &key, from) {
                    self.note_rival(now, key, from);
                    continue;
                }
                let before = self.agents.known.get(&key).cloned();
                if before.is_none() && self.agents.known.len() >= CLAIMS_MAX {
                    continue;
                }
                let before = before.map(|before| before.state);
                let changed = before.as_ref() != Some(&state);
                let turned = before
                    .as_ref()
                    .is_some_and(|before| before.runs != state.runs);
                self.tell_kept(&service, &instance, before.as_ref(), &state);
                let claim = Claim {
                    agent: from.clone(),
                    beat: report.beat,
                    heard: now,
                    owes_answer: false,
                    state,
                };
                self.agents.known.insert(key, claim);
                if changed && let Some(post) = self.posts.get_mut(&service) {
                    post.view_stale = true;
                    self.visited.insert(service.clone());
                }
                if turned {
                    self.look_now(now, &service, &instance);
                }
            }
        }
    }
}
