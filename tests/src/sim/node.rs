//! One of our nodes: the real machine, driven as the daemon drives it, with a simulated disk and clock.
//!
//! One input, then every output in order; what follows a `Persist` waits until it is durable, and
//! inputs wait meanwhile. A crash loses the machine and everything that was not durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::config::{NodeRole, NodeSettings, Timing};
use sentinel_core::discovery::{Announced, View};
use sentinel_core::id::{ActionId, NodeName};
use sentinel_core::peer::{PeerMessage, Persist};
use sentinel_core::planted::Bugs;
use sentinel_core::sentinel::{Input, Output, Sentinel};
use sentinel_core::time::Instant;

use super::admin::Pending;
use super::chance::Chance;
use super::disk::Disk;
use super::event::{Event, Request, RequestId};
use super::invariant::Happening;
use super::network::Place;
use super::settings::Settings;
use super::world::World;

/// Shortest and longest time that a durable write takes, in microseconds.
const DISK_MICROS: (u64, u64) = (100, 5_000);

/// An input, and for a peer's message who sent it and when.
#[derive(Debug)]
struct Arrived {
    input: Input,
    sent: Option<(usize, Instant)>,
}

/// One node.
///
/// Invariants: without a machine, everything but `disk`, `life` and `settings` is empty; outputs are
/// carried out only while nothing is being written.
#[derive(Debug)]
pub struct Node {
    /// Its settings.
    pub settings: NodeSettings,
    /// Which life of it; rises with every crash.
    pub life: u32,
    /// What survives a crash.
    pub disk: Disk,
    /// What it answers from.
    pub view: Option<Arc<View>>,
    /// Probes and actions that have not come to their end.
    pub pending: BTreeMap<RequestId, Pending>,
    /// Its connection to each server.
    pub slots: BTreeMap<usize, u64>,
    /// Of every peer, when the newest message that was handled had been sent.
    pub heard: BTreeMap<usize, Instant>,
    /// Orders that came from peers, for this node's agent.
    pub carried: BTreeSet<ActionId>,
    machine: Option<Sentinel>,
    clock_ahead: Duration,
    paused: bool,
    retired: bool,
    inbox: VecDeque<Arrived>,
    outbox: VecDeque<Output>,
    writing: Option<Persist>,
    wake_at: Option<Instant>,
    shown: Option<u64>,
}

impl Node {
    /// The name of the node of this index.
    pub fn name_of(index: usize) -> NodeName {
        NodeName::new(format!("s{}", index + 1))
    }

    /// A node that was never started.
    pub fn new(
        index: usize,
        voters: &BTreeSet<NodeName>,
        settings: &Settings,
        chance: &mut Chance,
    ) -> Self {
        let settings = NodeSettings {
            cluster: "sim".into(),
            agent_of: settings.claims(index),
            name: Self::name_of(index),
            role: NodeRole::Voter,
            voters: voters.clone(),
            seed: chance.next_number(),
            timing: Timing::default(),
            bugs: Bugs::planted(settings.bugs.iter().copied()),
        };
        Self {
            settings,
            life: 0,
            disk: Disk::default(),
            view: None,
            pending: BTreeMap::new(),
            slots: BTreeMap::new(),
            heard: BTreeMap::new(),
            carried: BTreeSet::new(),
            machine: None,
            clock_ahead: chance.millis(1, 1_000_000),
            paused: false,
            retired: false,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            writing: None,
            wake_at: None,
            shown: None,
        }
    }

    /// Whether it is stopped and will go on.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether its process exists.
    pub fn is_alive(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether it will never be started again.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Keeps it from ever being started again.
    pub fn retire(&mut self) {
        self.retired = true;
    }

    /// Whether it exists and runs.
    pub fn is_running(&self) -> bool {
        self.is_alive() && !self.paused
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        self.machine.as_ref().is_some_and(Sentinel::is_leader)
    }

    /// An instant of the world on this node's clock.
    pub fn clock(&self, world: Instant) -> Instant {
        world + self.clock_ahead
    }

    /// An instant of this node's clock in the world.
    pub fn world(&self, clock: Instant) -> Instant {
        Instant::from_nanos(
            clock
                .as_nanos()
                .saturating_sub(Instant::ORIGIN.as_nanos() + nanos(self.clock_ahead)),
        )
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("short durations")
}

impl World {
    /// Starts a node from its disk.
    pub fn start_node(&mut self, n: usize) {
        let service = self.settings.service();
        let now = self.nodes[n].clock(self.now());
        let node = &mut self.nodes[n];
        let restored = node.disk.restored().clone();
        let machine = Sentinel::new(node.settings.clone(), vec![service], restored, now)
            .expect("a node starts from its own disk");
        node.machine = Some(machine);
        self.trace
            .line(self.schedule.now(), || format!("s{} starts", n + 1));
        for peer in 0..self.nodes.len() {
            if peer != n && self.nodes[peer].is_alive() {
                self.introduce(n, peer);
                self.introduce(peer, n);
            }
        }
        self.drain(n);
        self.drive(n);
        self.take_up_agent(n);
    }

    fn introduce(&mut self, n: usize, peer: usize) {
        let input = Input::PeerConnected {
            peer: Node::name_of(peer),
            announced: Announced::default(),
        };
        self.feed(n, input);
    }

    /// A node loses everything but its disk. What was being written is drawn to be kept or not.
    pub fn crash_node(&mut self, n: usize) {
        let kept = self.chance.percent(50);
        let node = &mut self.nodes[n];
        if let Some(persist) = node.writing.take()
            && kept
        {
            node.disk.write(persist);
        }
        node.machine = None;
        node.life += 1;
        node.paused = false;
        node.inbox.clear();
        node.outbox.clear();
        node.pending.clear();
        node.heard.clear();
        node.carried.clear();
        node.wake_at = None;
        node.shown = None;
        node.view = None;
        let slots = std::mem::take(&mut node.slots);
        for connection in slots.into_values() {
            self.close_client(connection);
        }
        self.forget(Place::Node(n));
        self.break_off_job(n);
        self.trace
            .line(self.schedule.now(), || format!("s{} crashes", n + 1));
    }

    /// Stops a node's process.
    pub fn pause_node(&mut self, n: usize) {
        self.nodes[n].paused = true;
        self.trace
            .line(self.schedule.now(), || format!("s{} pauses", n + 1));
    }

    /// Lets it go on.
    pub fn resume_node(&mut self, n: usize) {
        if self.nodes[n].paused {
            self.nodes[n].paused = false;
            self.trace
                .line(self.schedule.now(), || format!("s{} goes on", n + 1));
            self.resume(Place::Node(n));
        }
    }

    pub(super) fn on_wake(&mut self, n: usize, life: u32) {
        let now = self.nodes[n].clock(self.now());
        let node = &mut self.nodes[n];
        let due = node.wake_at.is_some_and(|at| at <= now);
        if node.life == life && due && node.machine.is_some() {
            node.wake_at = None;
            self.feed(n, Input::Tick);
        }
    }

    pub(super) fn on_durable(&mut self, n: usize, life: u32) {
        if self.nodes[n].life != life {
            return;
        }
        if let Some(persist) = self.nodes[n].writing.take() {
            self.nodes[n].disk.write(persist);
            self.tell(&Happening::Persisted { node: n });
            self.drive(n);
        }
    }

    pub(super) fn on_peer(
        &mut self,
        from: usize,
        to: usize,
        sent: Instant,
        message: Box<PeerMessage>,
    ) {
        if !self.nodes[to].is_alive() {
            return;
        }
        let input = Input::Received {
            from: Node::name_of(from),
            message,
        };
        let sent = Some((from, sent));
        self.nodes[to].inbox.push_back(Arrived { input, sent });
        self.drive(to);
    }

    /// Hands a node an input.
    pub fn feed(&mut self, n: usize, input: Input) {
        if self.nodes[n].is_alive() {
            let sent = None;
            self.nodes[n].inbox.push_back(Arrived { input, sent });
            self.drive(n);
        }
    }

    /// The driver's loop, until the node waits for its disk or for the world.
    fn drive(&mut self, n: usize) {
        loop {
            if self.nodes[n].writing.is_some() || self.violation.is_some() {
                return;
            }
            if let Some(output) = self.nodes[n].outbox.pop_front() {
                self.carry_out(n, output);
                continue;
            }
            self.show_table(n);
            let now = self.nodes[n].clock(self.now());
            let node = &mut self.nodes[n];
            let (Some(arrived), Some(machine)) = (node.inbox.pop_front(), &mut node.machine) else {
                break;
            };
            if let Some((from, sent)) = arrived.sent {
                let heard = node.heard.entry(from).or_insert(sent);
                *heard = sent.max(*heard);
            }
            if let Input::Received { message, .. } = &arrived.input
                && let PeerMessage::Order(order) = message.as_ref()
            {
                node.carried.insert(order.id);
            }
            machine.handle(now, arrived.input);
            self.drain(n);
        }
        self.set_alarm(n);
    }

    fn drain(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(machine) = &mut node.machine else {
            return;
        };
        while let Some(output) = machine.poll_output() {
            node.outbox.push_back(output);
        }
        let count = node.outbox.len() as u64;
        self.trace.fold_numbers(&[count]);
    }

    fn set_alarm(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(machine) = &node.machine else {
            return;
        };
        let at = machine.poll_timeout();
        if node.wake_at != Some(at) {
            node.wake_at = Some(at);
            let (at, life) = (node.world(at), node.life);
            self.schedule.at(at, Event::Wake { node: n, life });
        }
    }

    fn carry_out(&mut self, n: usize, output: Output) {
        match output {
            Output::Persist(persist) => {
                self.nodes[n].writing = Some(persist);
                let life = self.nodes[n].life;
                let delay = self.chance.micros(DISK_MICROS.0, DISK_MICROS.1);
                self.schedule.after(delay, Event::Durable { node: n, life });
            }
            Output::Send { to, message } => self.send(n, &to, &message),
            Output::Probe(probe) => {
                let Some(instance) = self.index_of(&probe.instance) else {
                    return;
                };
                let id = RequestId::Probe(probe.id);
                self.ask(n, instance, id, Request::Probe, probe.deadline);
            }
            Output::Act(action) => {
                let Some(instance) = self.index_of(&action.instance) else {
                    return;
                };
                self.trace.line(self.schedule.now(), || {
                    format!(
                        "s{} orders {} {} {:?}",
                        n + 1,
                        action.instance,
                        action.token,
                        action.kind
                    )
                });
                // What another node ordered of this one's agent was looked at when it was sent.
                if !self.nodes[n].carried.remove(&action.id) {
                    self.tell(&Happening::Ordered {
                        node: n,
                        action: &action,
                    });
                }
                if self.agent_of(instance) == Some(n) {
                    return self.ask_agent(n, action);
                }
                let (id, deadline) = (RequestId::Action(action.id), action.deadline);
                self.ask(n, instance, id, Request::Action(action), deadline);
            }
            Output::Publish(event) => {
                self.trace.line(self.schedule.now(), || {
                    format!("s{} tells {:?}", n + 1, event.kind)
                });
            }
            Output::View(view) => {
                self.tell(&Happening::Answered {
                    node: n,
                    view: &view,
                });
                self.nodes[n].view = Some(view);
            }
            Output::Answered { .. } | Output::Stopped => {}
        }
    }

    fn send(&mut self, n: usize, to: &NodeName, message: &PeerMessage) {
        self.tell(&Happening::Sent { node: n, message });
        let named = |peer: &usize| Node::name_of(*peer) == *to;
        let Some(to) = (0..self.nodes.len()).find(named) else {
            return;
        };
        for delay in self.network.datagram(Place::Node(n), Place::Node(to)) {
            let arrival = Event::Peer {
                from: n,
                to,
                sent: self.schedule.now(),
                message: Box::new(message.clone()),
            };
            self.schedule.after(delay, arrival);
        }
    }

    /// What a node has applied counts as shown once everything before it was carried out.
    fn show_table(&mut self, n: usize) {
        let Some(machine) = &self.nodes[n].machine else {
            return;
        };
        let table = machine.table();
        if self.nodes[n].shown == Some(table.index) {
            return;
        }
        let table = table.clone();
        self.nodes[n].shown = Some(table.index);
        self.trace.fold_numbers(&[n as u64, table.index]);
        self.note_decisions(n, &table);
        self.tell(&Happening::Applied {
            node: n,
            table: &table,
        });
        if table.index > self.newest.index {
            self.newest = table;
        }
    }
}
