//! The machine: inputs in, outputs out, no IO.
//!
//! Contract: one [`Sentinel::handle`], then drain every output of [`Sentinel::poll_output`] in order, then
//! wait until [`Sentinel::poll_timeout`] or the next input. A [`Output::Persist`] is durable before
//! anything after it is carried out.
//!
//! This file knows all stages and decides nothing: each kind of work is a file of its own beside it.

mod agents;
mod agreeing;
mod asking;
mod following;
mod leading;
mod post;
mod showing;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::action::{Action, Outcome};
use crate::config::{NodeRole, NodeSettings, ServiceSettings, SettingsError};
use crate::discovery::{Announced, PeerView, View};
use crate::event::Event;
use crate::id::{ActionId, InstanceId, NodeName, ProbeId, ServiceName, Token};
use crate::ledger::Table;
use crate::ledger::raft::{RaftLog, RaftStartError};
use crate::observation::{Observation, ProbeRequest};
use crate::peer::{AgentState, PeerMessage, Persist, Restored};
use crate::time::Instant;
use crate::timers::Timers;

pub use asking::{Ask, AskError};
use leading::Leadership;
use post::Post;

/// What a driver tells the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A message arrived from a peer that proved the cluster key.
    Received {
        /// Who sent it.
        from: NodeName,
        /// What it says.
        message: Box<PeerMessage>,
    },
    /// A peer connected and announced where its endpoints are.
    PeerConnected {
        /// Which peer.
        peer: NodeName,
        /// Its endpoints.
        announced: Announced,
    },
    /// A probe was answered, or its deadline passed.
    Probed {
        /// Which probe.
        id: ProbeId,
        /// What it found.
        observation: Observation,
    },
    /// A standing connection to an instance broke: a hint to probe at once, no evidence by itself.
    Disconnected {
        /// Its service.
        service: ServiceName,
        /// The instance.
        instance: InstanceId,
    },
    /// An action came to its end, or its deadline passed.
    Acted {
        /// Which action.
        id: ActionId,
        /// What came of it.
        outcome: Outcome,
    },
    /// This node's own agent has something to tell of an instance on its host.
    Noted {
        /// Its service.
        service: ServiceName,
        /// The instance.
        instance: InstanceId,
        /// What the agent does there.
        state: AgentState,
    },
    /// Somebody asks for something that the leader decides. [`Output::Answered`] follows once.
    Ask {
        /// Comes back with the answer.
        id: u64,
        /// What is asked for.
        ask: Ask,
    },
    /// The node is about to stop: hand the leadership over. [`Output::Stopped`] follows.
    Stop,
}

/// What the machine asks of its driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make this durable before anything after it.
    Persist(Persist),
    /// Send to a peer; may be lost.
    Send {
        /// The peer.
        to: NodeName,
        /// The message.
        message: Box<PeerMessage>,
    },
    /// Look at an instance, and answer with [`Input::Probed`].
    Probe(ProbeRequest),
    /// Act upon an instance, and answer with [`Input::Acted`].
    Act(Box<Action>),
    /// Tell operators and subscribed clients.
    Publish(Box<Event>),
    /// Answer from this from now on.
    View(Arc<View>),
    /// What came of a question.
    Answered {
        /// Which question.
        id: u64,
        /// The token of the commit that grants it, or why it is not granted.
        answer: Result<Token, AskError>,
    },
    /// The leadership is handed over, or there was none: stop.
    Stopped,
}

/// What has expired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Raft's beat is due.
    Beat,
    /// A probe of the instance is due, or its silence may have become evidence.
    Instance(ServiceName, InstanceId),
    /// The service is to be thought over again.
    Service(ServiceName),
    /// An order that went to an agent should have been answered.
    Order(ActionId),
    /// Facts and contact in the view are to be refreshed.
    View,
    /// The leadership was not taken over in time: stop all the same.
    Stop,
}

/// Why a machine cannot start. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting could never work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What was found on disk does not fit.
    #[error(transparent)]
    Raft(#[from] RaftStartError),
    /// The table on disk cannot be read.
    #[error("the table in the data folder cannot be read: {0}")]
    Table(#[from] crate::codec::CodecError),
}

/// How long a stopping leader waits for somebody to take over.
const HAND_OVER: Duration = Duration::from_millis(800);

/// How often facts and contact in the view are refreshed while nothing else changes it.
const VIEW_PACE: Duration = Duration::from_millis(500);

/// Rounds of thinking and agreeing in one call; what is left waits for the next.
const THOUGHTS_MAX: usize = 16;

/// One node's machine.
///
/// Invariants: `table` is what the committed entries up to `table.index` make; `posts` has exactly the
/// table's services; `leadership` is held only while Raft says so.
#[derive(Debug)]
pub struct Sentinel {
    settings: NodeSettings,
    seeds: Vec<ServiceSettings>,
    raft: Option<RaftLog>,
    table: Table,
    posts: BTreeMap<ServiceName, Post>,
    /// Services to think over.
    touched: BTreeSet<ServiceName>,
    /// Services thought over since the last view: only these can look different.
    visited: BTreeSet<ServiceName>,
    /// Services whose facts have changed since they were last shown.
    refreshed: BTreeSet<ServiceName>,
    /// Orders under way, by the service that they concern.
    acts: BTreeMap<ActionId, ServiceName>,
    probes: BTreeMap<ProbeId, (ServiceName, InstanceId)>,
    next_probe: u64,
    timers: Timers<Timer>,
    /// Events of this call; they follow the view that shows what they tell.
    told: Vec<Event>,
    outputs: VecDeque<Output>,
    peers: BTreeMap<NodeName, PeerView>,
    leadership: Option<Leadership>,
    /// When each voter last answered this leader in its term.
    contacts: BTreeMap<NodeName, Instant>,
    alive_told_at: Option<Instant>,
    leader_heard: Option<Instant>,
    following: following::Following,
    agents: agents::Agents,
    /// Questions whose decision is proposed, by service.
    asked: BTreeMap<ServiceName, asking::Pending>,
    handled_last: Instant,
    steady_from: Instant,
    stopping: bool,
    view: Arc<View>,
    view_stale: bool,
}

impl Sentinel {
    /// A machine from its settings and what it found on its disk. `seeds` are guarded once this
    /// cluster has a leader and unless the committed table has them already.
    pub fn new(
        settings: NodeSettings,
        seeds: Vec<ServiceSettings>,
        restored: Restored,
        now: Instant,
    ) -> Result<Self, StartError> {
        settings.validate()?;
        for seed in &seeds {
            seed.validate(settings.voters.len())?;
        }
        let snapshot = restored.snapshot.clone();
        let raft = match settings.role {
            NodeRole::Voter => Some(RaftLog::new(&settings, restored)?),
            NodeRole::Observer => None,
        };
        let others = settings
            .voters
            .iter()
            .filter(|name| **name != settings.name);
        let peers = others
            .map(|name| (name.clone(), PeerView::default()))
            .collect();
        let mut machine = Self {
            view: Arc::new(showing::empty(&settings)),
            seeds,
            raft,
            table: Table::default(),
            posts: BTreeMap::new(),
            touched: BTreeSet::new(),
            visited: BTreeSet::new(),
            refreshed: BTreeSet::new(),
            acts: BTreeMap::new(),
            probes: BTreeMap::new(),
            next_probe: 0,
            timers: Timers::default(),
            told: Vec::new(),
            outputs: VecDeque::new(),
            peers,
            leadership: None,
            contacts: BTreeMap::new(),
            alive_told_at: None,
            leader_heard: None,
            following: following::Following::default(),
            agents: agents::Agents::default(),
            asked: BTreeMap::new(),
            handled_last: now,
            steady_from: now,
            stopping: false,
            view_stale: true,
            settings,
        };
        if let Some(snapshot) = snapshot.filter(|snapshot| !snapshot.data.is_empty()) {
            machine.table = crate::codec::decode(&snapshot.data)?;
        }
        machine.timers.set(Timer::Beat, now);
        machine.timers.set(Timer::View, now + VIEW_PACE);
        machine.man_posts(now);
        Ok(machine)
    }

    /// Takes one input. Drain [`Self::poll_output`] afterwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        let now = now.max(self.handled_last);
        self.notice_pause(now);
        match input {
            Input::Tick => {}
            Input::Received { from, message } => self.on_message(now, from, *message),
            Input::PeerConnected { peer, announced } => {
                if let Some(known) = self.peers.get_mut(&peer) {
                    self.view_stale |= known.announced != announced;
                    known.announced = announced;
                    known.heard = Some(now);
                }
            }
            Input::Probed { id, observation } => self.on_probed(now, id, observation),
            Input::Disconnected { service, instance } => self.look_now(now, &service, &instance),
            Input::Acted { id, outcome } => {
                if !self.answered_for_another(id, &outcome) {
                    self.on_acted(now, id, &outcome);
                }
            }
            Input::Noted {
                service,
                instance,
                state,
            } => self.on_noted(now, &service, &instance, &state),
            Input::Ask { id, ask } => self.on_ask(now, id, ask),
            Input::Stop => self.on_stop(now),
        }
        self.run_timers(now);
        self.agree(now);
        // A single voter commits at once, and then has more to think over.
        for _ in 0..THOUGHTS_MAX {
            if self.touched.is_empty() {
                break;
            }
            self.think(now);
            self.agree(now);
        }
        self.show(now);
        let told = std::mem::take(&mut self.told);
        self.outputs.extend(
            told.into_iter()
                .map(|event| Output::Publish(Box::new(event))),
        );
        self.handled_last = now;
    }

    /// The next output, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle`] with [`Input::Tick`] at the latest.
    pub fn poll_timeout(&self) -> Instant {
        self.timers.next().unwrap_or(self.handled_last + VIEW_PACE)
    }

    /// The newest view.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The committed table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether this node leads its cluster.
    pub fn is_leader(&self) -> bool {
        self.raft.as_ref().is_some_and(RaftLog::is_leader)
    }

    /// A gap in the calls means that this node was paused, or its machine suspended. It goes on watching,
    /// judges nobody by the time that it missed, and acts again only when its clock has been steady.
    fn notice_pause(&mut self, now: Instant) {
        let gap = now.since(self.handled_last);
        if gap > self.settings.timing.pause_after {
            self.steady_from = now + self.settings.timing.pause_after;
            for (name, post) in &mut self.posts {
                post.monitor.excuse(now);
                // Answers to probes under way are stray from here on, so nothing else would bring the next.
                for instance in post.monitor.watches().keys() {
                    self.timers
                        .set(Timer::Instance(name.clone(), instance.clone()), now);
                }
                self.timers
                    .set_earlier(Timer::Service(name.clone()), self.steady_from);
            }
        }
    }

    fn is_steady(&self, now: Instant) -> bool {
        now >= self.steady_from
    }

    fn on_message(&mut self, now: Instant, from: NodeName, message: PeerMessage) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard = Some(now);
        }
        match message {
            PeerMessage::Raft(message) => {
                if let Some(raft) = &mut self.raft {
                    if raft.is_leader() && message.answers_leader() && message.term == raft.term().0
                    {
                        self.contacts.insert(from.clone(), now);
                    }
                    // A message that Raft cannot use is as good as lost, and Raft tolerates loss.
                    let _ = raft.step(&from, message);
                    if raft.leader() == Some(&from) {
                        self.leader_heard = Some(now);
                    }
                }
            }
            PeerMessage::Opinions(report) => self.on_opinions(now, &from, report),
            PeerMessage::Table(update) => self.on_table(now, *update),
            PeerMessage::Follow { have } => self.on_follow(now, from, have),
            PeerMessage::Alive => {}
            PeerMessage::Agent(report) => self.on_agent(now, &from, report),
            PeerMessage::Order(order) => self.on_order(from, *order),
            PeerMessage::OrderDone { id, outcome } => self.on_acted(now, id, &outcome),
        }
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Beat => {
                    self.timers
                        .set(Timer::Beat, now + self.settings.timing.raft_tick);
                    self.on_beat(now);
                }
                Timer::Instance(service, instance) => {
                    self.on_instance_timer(now, &service, &instance)
                }
                Timer::Service(service) => {
                    self.touched.insert(service);
                }
                Timer::Order(id) => self.on_order_timer(now, id),
                Timer::View => {
                    self.timers.set(Timer::View, now + VIEW_PACE);
                    self.view_stale = true;
                    for name in std::mem::take(&mut self.refreshed) {
                        if let Some(post) = self.posts.get_mut(&name) {
                            post.view_stale = true;
                        }
                        self.visited.insert(name);
                    }
                }
                Timer::Stop => self.outputs.push_back(Output::Stopped),
            }
        }
    }

    fn on_stop(&mut self, now: Instant) {
        self.stopping = true;
        match &mut self.raft {
            Some(raft) if raft.is_leader() && !raft.has_single_voter() => {
                raft.transfer_leadership();
                self.timers.set(Timer::Stop, now + HAND_OVER);
            }
            Some(_) | None => self.outputs.push_back(Output::Stopped),
        }
    }

    /// Thinks over every service that something has touched: opinions first, then plans.
    fn think(&mut self, now: Instant) {
        let touched = std::mem::take(&mut self.touched);
        self.visited.extend(touched.iter().cloned());
        for name in touched {
            self.form_opinion(now, &name);
            self.lead(now, &name);
        }
    }
}
