//! A small world without chance: machines that hear each other at once, instances that stream at once.
//!
//! For scripts that show one path each. Loss, delay, crashes and invariants are the simulator's business.

mod server;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Hand, Outcome};
use sentinel_core::config::{NodeRole, NodeSettings, ServiceSettings, Timing};
use sentinel_core::event::EventKind;
use sentinel_core::id::{Incarnation, InstanceId, NodeName, ServiceName, Token};
use sentinel_core::ledger::{ServiceState, Stage};
use sentinel_core::observation::{
    Facts, Link, Observation, Persistable, ProbeFailure, ReplicaLink, RestartGuard, Role, Upstream,
    Writes,
};
use sentinel_core::peer::{AgentReport, AgentState, PeerMessage, Restored};
use sentinel_core::planted::Bugs;
use sentinel_core::position::{Lineage, Offset, Position};
use sentinel_core::sentinel::{Ask, AskError, Input, Output, Sentinel};
use sentinel_core::time::Instant;

pub(crate) use server::Server;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<NodeName, Sentinel>,
    pub(crate) dead: BTreeSet<NodeName>,
    pub(crate) servers: BTreeMap<InstanceId, Server>,
    pub(crate) events: Vec<(NodeName, EventKind)>,
    /// What was answered to questions.
    pub(crate) answers: Vec<Result<Token, AskError>>,
    /// Answers that take until their deadline.
    late: BTreeMap<(Instant, u64), (NodeName, Input)>,
    slow_acts: BTreeMap<(Instant, u64), (NodeName, Box<Action>)>,
    pub(crate) slow_configure: Duration,
    pub(crate) slow_probe: Duration,
    /// Other names of servers.
    pub(crate) aliases: BTreeMap<InstanceId, InstanceId>,
    sequence: u64,
    lineages: u32,
    /// A promotion takes the next number that the server itself knows of.
    pub(crate) numbered: bool,
    /// So many instances, from the first, have an agent on the node of the same place.
    agents: u16,
    told_runs: BTreeMap<u16, bool>,
    claimed_at: Instant,
}

pub(crate) const SERVICE: &str = "orders";

pub(crate) fn instance(n: u16) -> InstanceId {
    InstanceId::new("10.0.0.21", 6000 + n)
}

pub(crate) fn name(n: usize) -> NodeName {
    NodeName::new(format!("s{n}"))
}

/// An incarnation is one server's alone, as the contract demands.
fn incarnation(of: &InstanceId, server: &Server) -> Incarnation {
    Incarnation::new(format!("{of}.{}", server.life))
}

impl World {
    /// Three voters; instance 0 is primary, the others stream from it.
    pub(crate) fn new(replicas: u16) -> Self {
        Self::with_seeds(replicas, [instance(0)].into())
    }

    pub(crate) fn with_seeds(replicas: u16, seeds: BTreeSet<InstanceId>) -> Self {
        Self::made(replicas, seeds, 0)
    }

    /// The same, and the first nodes are agents of as many instances.
    pub(crate) fn minded(replicas: u16, agents: u16) -> Self {
        Self::made(replicas, [instance(0)].into(), agents)
    }

    fn made(replicas: u16, seeds: BTreeSet<InstanceId>, agents: u16) -> Self {
        let minds = |node: &NodeName| {
            let own = (0..agents).filter(|n| name(usize::from(*n) + 1) == *node);
            own.map(|n| (ServiceName::from(SERVICE), instance(n)))
                .collect()
        };
        let voters: BTreeSet<NodeName> = (1..=3).map(name).collect();
        let mut service = ServiceSettings::new(ServiceName::from(SERVICE), "test".into(), seeds);
        service.down_after = Duration::from_secs(1);
        let node = |node: &NodeName| {
            let settings = NodeSettings {
                cluster: "test".into(),
                agent_of: minds(node),
                name: node.clone(),
                role: NodeRole::Voter,
                voters: voters.clone(),
                seed: 7,
                timing: Timing::default(),
                bugs: Bugs::none(),
            };
            Sentinel::new(
                settings,
                vec![service.clone()],
                Restored::default(),
                Instant::ORIGIN,
            )
            .unwrap()
        };
        let nodes = voters
            .iter()
            .map(|voter| (voter.clone(), node(voter)))
            .collect();
        let servers = (0..=replicas)
            .map(|n| (instance(n), Server::new(n)))
            .collect();
        Self {
            now: Instant::ORIGIN,
            nodes,
            dead: BTreeSet::new(),
            servers,
            events: Vec::new(),
            answers: Vec::new(),
            late: BTreeMap::new(),
            slow_acts: BTreeMap::new(),
            slow_configure: Duration::ZERO,
            slow_probe: Duration::ZERO,
            aliases: BTreeMap::new(),
            sequence: 0,
            lineages: 1,
            numbered: false,
            agents,
            told_runs: BTreeMap::new(),
            claimed_at: Instant::ORIGIN,
        }
    }

    pub(crate) fn server(&mut self, n: u16) -> &mut Server {
        self.servers.get_mut(&instance(n)).unwrap()
    }

    pub(crate) fn leader(&self) -> Option<NodeName> {
        let alive = self
            .nodes
            .iter()
            .filter(|(name, _)| !self.dead.contains(*name));
        alive
            .filter(|(_, node)| node.is_leader())
            .map(|(name, _)| name.clone())
            .next()
    }

    pub(crate) fn state(&self) -> ServiceState {
        let node = self.leader().unwrap_or_else(|| name(1));
        self.nodes[&node].table().services[&ServiceName::from(SERVICE)].clone()
    }

    pub(crate) fn report(&self) -> Vec<String> {
        let node = self.leader().unwrap_or_else(|| name(1));
        let view = self.nodes[&node].view();
        let service = &view.services[&ServiceName::from(SERVICE)];
        service
            .report
            .iter()
            .chain(&service.blockers)
            .map(|reason| reason.code.clone())
            .collect()
    }

    /// Steps until the condition holds; how long that took.
    pub(crate) fn until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Duration {
        let start = self.now;
        while !holds(self) {
            let patient = self.now.since(start) < Duration::from_secs(60);
            assert!(
                patient,
                "{what}: not within a minute: {:#?}",
                self.nodes[&self.leader().unwrap()].view()
            );
            self.step();
        }
        self.now.since(start)
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while self.now < end {
            steps += 1;
            assert!(
                steps < 60_000,
                "time stands still at {:?}: {:?} slow {:?} late {:?} timers {:?} {:?}",
                self.now,
                self.report(),
                self.slow_acts.keys().next(),
                self.late.keys().next(),
                self.nodes
                    .iter()
                    .map(|(n, m)| (n.clone(), m.poll_timeout()))
                    .collect::<Vec<_>>(),
                self.servers
                    .values()
                    .map(|s| s.orders.len())
                    .collect::<Vec<_>>()
            );
            self.step();
        }
    }

    /// A node that is not its agent claims an instance as well, ten times a second.
    pub(crate) fn claim(&mut self, n: u16, rival: usize) {
        if self.now.since(self.claimed_at) < Duration::from_millis(100) {
            return;
        }
        self.claimed_at = self.now;
        let instances = BTreeMap::from([(instance(n), AgentState::default())]);
        let report = AgentReport {
            beat: self.now.as_nanos(),
            instances: BTreeMap::from([(ServiceName::from(SERVICE), instances)]),
        };
        for node in self.nodes.keys().filter(|node| **node != name(rival)) {
            let message = Box::new(PeerMessage::Agent(report.clone()));
            let from = name(rival);
            self.sequence += 1;
            self.late.insert(
                (self.now, self.sequence),
                (node.clone(), Input::Received { from, message }),
            );
        }
    }

    /// The agents tell whether their servers run.
    fn tell_runs(&mut self) {
        for n in 0..self.agents {
            let runs = self.server(n).alive;
            if self.told_runs.insert(n, runs) == Some(runs) {
                continue;
            }
            let state = AgentState {
                runs: Some(runs),
                ..AgentState::default()
            };
            let input = Input::Noted {
                service: ServiceName::from(SERVICE),
                instance: instance(n),
                state,
            };
            self.sequence += 1;
            let node = name(usize::from(n) + 1);
            self.late.insert((self.now, self.sequence), (node, input));
        }
    }

    /// Asks the leader for a switchover.
    pub(crate) fn ask_switchover(&mut self, to: Option<u16>) {
        let leader = self.leader().unwrap();
        let ask = Ask::Switchover {
            service: ServiceName::from(SERVICE),
            to: to.map(instance),
        };
        self.late
            .insert((self.now, 0), (leader, Input::Ask { id: 1, ask }));
    }

    pub(crate) fn steady_on(&mut self, n: u16, members: usize) -> Duration {
        self.until(&format!("steady on {n} with {members} members"), |world| {
            world
                .leader()
                .is_some_and(|leader| !world.nodes[&leader].table().services.is_empty())
                && {
                    let state = world.state();
                    state.stage == Stage::Steady
                        && state
                            .primary
                            .as_ref()
                            .is_some_and(|p| p.instance == instance(n))
                        && state.configs.len() == 1
                        && state.configs[0].members.len() == members
                }
        })
    }

    fn step(&mut self) {
        let awake = self
            .nodes
            .iter()
            .filter(|(name, _)| !self.dead.contains(*name));
        let timers = awake.map(|(name, node)| (node.poll_timeout(), name.clone()));
        let (at, node) = timers.min().unwrap();
        let slow = self.slow_acts.keys().next().map(|(due, _)| *due);
        let late = self.late.keys().next().map(|(due, _)| *due);
        if let Some(due) = slow.filter(|due| *due <= at && late.is_none_or(|late| *due <= late)) {
            let (_, (node, action)) = self.slow_acts.pop_first().unwrap();
            self.now = self.now.max(due);
            let outcome = self.act(&action);
            self.sequence += 1;
            self.late.insert(
                (self.now, self.sequence),
                (
                    node,
                    Input::Acted {
                        id: action.id,
                        outcome,
                    },
                ),
            );
            return;
        }
        let (at, first) = match self.late.first_key_value() {
            Some(((due, _), _)) if *due <= at => {
                let ((due, _), late) = self.late.pop_first().unwrap();
                (due, late)
            }
            Some(_) | None => (at, (node, Input::Tick)),
        };
        self.now = self.now.max(at);
        let mut inputs = VecDeque::from([first]);
        let mut rounds = 0;
        while let Some((node, input)) = inputs.pop_front() {
            rounds += 1;
            assert!(
                rounds < 10_000,
                "{node} never comes to rest: {input:?}, {:?}",
                inputs.front()
            );
            if self.dead.contains(&node) {
                continue;
            }
            self.nodes.get_mut(&node).unwrap().handle(self.now, input);
            while let Some(output) = self.nodes.get_mut(&node).unwrap().poll_output() {
                self.carry_out(&node, output, &mut inputs);
            }
        }
        self.replicate();
        self.tell_runs();
    }

    fn carry_out(
        &mut self,
        node: &NodeName,
        output: Output,
        inputs: &mut VecDeque<(NodeName, Input)>,
    ) {
        match output {
            Output::Send { to, message } => {
                inputs.push_back((
                    to,
                    Input::Received {
                        from: node.clone(),
                        message,
                    },
                ));
            }
            Output::Probe(request) => {
                let server = &self.servers[&self.real(&request.instance)];
                let (at, observation) = match (server.alive, server.hung) {
                    (false, _) => (self.now, Observation::Failure(ProbeFailure::Refused)),
                    (true, true) => (
                        request.deadline,
                        Observation::Failure(ProbeFailure::TimedOut),
                    ),
                    (true, false) => (
                        self.now + self.slow_probe,
                        Observation::Facts(Box::new(self.facts(&request.instance))),
                    ),
                };
                let answer = (
                    node.clone(),
                    Input::Probed {
                        id: request.id,
                        observation,
                    },
                );
                self.answer_at(at, answer, inputs);
            }
            Output::Act(action)
                if matches!(action.kind, ActionKind::Configure { .. })
                    && self.slow_configure > Duration::ZERO =>
            {
                self.sequence += 1;
                let due = self.now + self.slow_configure;
                self.slow_acts
                    .insert((due, self.sequence), (node.clone(), action));
            }
            Output::Act(action) => {
                let outcome = self.act(&action);
                let late = matches!(outcome, Outcome::Unknown(_));
                let at = if late { action.deadline } else { self.now };
                let answer = (
                    node.clone(),
                    Input::Acted {
                        id: action.id,
                        outcome,
                    },
                );
                self.answer_at(at, answer, inputs);
            }
            Output::Publish(event) => self.events.push((node.clone(), event.kind)),
            Output::Answered { answer, .. } => self.answers.push(answer),
            Output::Persist(_) | Output::View(_) | Output::Stopped => {}
        }
    }

    fn answer_at(
        &mut self,
        at: Instant,
        answer: (NodeName, Input),
        inputs: &mut VecDeque<(NodeName, Input)>,
    ) {
        if at <= self.now {
            inputs.push_back(answer);
        } else {
            self.sequence += 1;
            self.late.insert((at, self.sequence), answer);
        }
    }

    fn real(&self, name: &InstanceId) -> InstanceId {
        self.aliases.get(name).unwrap_or(name).clone()
    }

    fn facts(&self, of: &InstanceId) -> Facts {
        let of = &self.real(of);
        let server = &self.servers[of];
        let position = |lineage: u32, offset| Position {
            lineage: Lineage::new(lineage.to_string()),
            offset: Offset(offset),
        };
        let follows =
            |server: &Server| server.upstream.as_ref().map(|up| self.real(up)).as_ref() == Some(of);
        let replicas = self
            .servers
            .iter()
            .filter(|(_, other)| other.alive && !other.stranded && follows(other));
        Facts {
            incarnation: incarnation(of, server),
            server: incarnation(of, server).as_str().into(),
            role: if server.primary {
                Role::Primary
            } else {
                Role::Replica {
                    upstream: server
                        .upstream
                        .clone()
                        .map_or(Upstream::Frozen, Upstream::Instance),
                    link: if server.stranded {
                        Link::Stranded
                    } else if server.upstream.as_ref().is_some_and(|up| self.serves(up)) {
                        if server.synced {
                            Link::Streaming
                        } else {
                            Link::Syncing
                        }
                    } else {
                        Link::Broken
                    },
                }
            },
            position: Some(position(server.lineage, server.offset)),
            fork: server
                .fork
                .map(|(lineage, offset)| position(lineage, offset)),
            synced: server.synced,
            holds_data: server.holds_data,
            persistable: Persistable::Yes,
            priority: 100,
            write_quorum: server.quorum.clone(),
            replicas: replicas
                .map(|(instance, other)| ReplicaLink {
                    instance: instance.clone(),
                    link: if other.synced {
                        Link::Streaming
                    } else {
                        Link::Syncing
                    },
                    acknowledged: Offset(other.offset),
                    applied: None,
                })
                .collect(),
            restart_guard: RestartGuard::None,
            writes: Writes::Itself,
            applied: None,
            trouble: None,
        }
    }

    fn serves(&self, instance: &InstanceId) -> bool {
        self.servers
            .get(&self.real(instance))
            .is_some_and(|server| server.alive && !server.hung)
    }

    fn act(&mut self, action: &Action) -> Outcome {
        let real = self.real(&action.instance);
        if let Some(outcome) = self.instead(&real, action) {
            return outcome;
        }
        self.lineages += 1;
        let numbered = self.numbered.then(|| self.servers[&real].lineage + 1);
        let fresh = numbered.unwrap_or(self.lineages);
        let server = self.server_of(&real, action);
        match &action.kind {
            ActionKind::Freeze if server.primary && server.stubborn => {
                return Outcome::Refused("a primary cannot be frozen".into());
            }
            ActionKind::Freeze | ActionKind::StandDown { .. } => {
                (server.primary, server.upstream) = (false, None);
            }
            ActionKind::Rebuild { primary, life } => {
                server.become_copy(incarnation(&real, server) == *life);
                server.upstream = Some(primary.clone());
            }
            ActionKind::Unfreeze { primary }
            | ActionKind::Demote { primary }
            | ActionKind::Repoint { primary } => {
                server.primary = false;
                server.upstream = Some(primary.clone());
            }
            ActionKind::Configure { quorum } => server.quorum = Some(quorum.clone()),
            ActionKind::Pause { .. } => server.paused = true,
            ActionKind::Resume if server.unminded => {
                return Outcome::Refused("it needs an agent".into());
            }
            ActionKind::Resume => {
                server.paused = false;
                server.alive |= server.stops_to_pause && !server.unminded;
            }
            ActionKind::RefuseWrites | ActionKind::AcceptWrites => {
                return Outcome::Refused("it refuses writes by itself".into());
            }
            ActionKind::Promote {
                expect,
                position,
                quorum,
            } => {
                if server.life.to_string()
                    != expect.incarnation.as_str().rsplit('.').next().unwrap()
                {
                    return Outcome::Refused("another incarnation".into());
                }
                server.quorum = Some(quorum.clone());
                if server.primary && server.stubborn {
                    return Outcome::Done(Box::new(self.facts(&action.instance)));
                }
                assert_eq!(position.offset, Offset(server.offset));
                server.offset -= std::mem::take(&mut server.torn);
                server.primary = true;
                server.fork = Some((server.lineage, server.offset));
                server.lineage = fresh;
            }
        }
        if server.hang_on == Some(action.kind.word()) {
            server.hung = true;
            return Outcome::Unknown("no answer".into());
        }
        Outcome::Done(Box::new(self.facts(&action.instance)))
    }

    /// What comes of an order that the server does not get to, or not as it is.
    fn instead(&mut self, real: &InstanceId, action: &Action) -> Option<Outcome> {
        if self.still_copies(real, action) {
            return Some(Outcome::UnderWay("copying".into()));
        }
        let server = &self.servers[real];
        let minded = server.stops_to_pause && !server.unminded && action.kind.hand() == Hand::Agent;
        if server.deaf || !(minded || self.serves(real)) {
            return Some(Outcome::Unknown("no answer".into()));
        }
        let pauses = matches!(action.kind, ActionKind::Pause { .. });
        pauses.then(|| self.stop_to_pause(real))?
    }

    /// What comes of the pause of a server that has to end for it, or does not do it; `None` for another.
    fn stop_to_pause(&mut self, real: &InstanceId) -> Option<Outcome> {
        let last = self.facts(real);
        let server = self.servers.get_mut(real).unwrap();
        if let Some(answer) = &server.pause_answer {
            server.orders.push("pause");
            return Some(answer.clone());
        }
        if !server.stops_to_pause {
            return None;
        }
        server.orders.push("pause");
        server.paused = true;
        server.alive = false;
        Some(match server.stopping {
            true => Outcome::UnderWay("the server is stopping".into()),
            false => Outcome::Done(Box::new(last)),
        })
    }

    fn server_of(&mut self, real: &InstanceId, action: &Action) -> &mut Server {
        let server = self.servers.get_mut(real).unwrap();
        server.orders.push(action.kind.word());
        server
    }

    fn still_copies(&mut self, real: &InstanceId, action: &Action) -> bool {
        let server = self.servers.get_mut(real).unwrap();
        let copies = matches!(action.kind, ActionKind::Rebuild { .. }) && server.copy_takes > 0;
        if copies {
            server.copy_takes -= 1;
            server.alive = server.copy_takes == 0;
            server.orders.push(action.kind.word());
        }
        copies
    }

    /// Replicas copy what their upstream has; a replica off its history copies everything.
    fn replicate(&mut self) {
        let upstreams: Vec<_> = self
            .servers
            .iter()
            .map(|(n, s)| (n.clone(), s.upstream.clone()))
            .collect();
        for (replica, upstream) in upstreams {
            let Some(upstream) = upstream.filter(|up| self.serves(up)) else {
                continue;
            };
            let (lineage, fork, offset) = {
                let up = &self.servers[&self.real(&upstream)];
                (up.lineage, up.fork, up.offset)
            };
            let server = self.servers.get_mut(&replica).unwrap();
            let fed = !server.lagging && !server.stranded;
            if server.alive && !server.hung && server.synced && fed {
                (server.lineage, server.fork, server.offset) = (lineage, fork, offset);
            }
        }
    }
}
