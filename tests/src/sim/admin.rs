//! Administrative connections: what the adapter does with probes and actions, between node and server.
//!
//! Streams keep their order and survive a cut; what was sent before a client gave up may still be
//! executed, until the server closes the connection. Decides no outcome but the ones that a real
//! adapter must: Refused, Reset, TimedOut, Unknown.

use std::collections::VecDeque;
use std::time::Duration;

use sentinel_core::action::{Action, Outcome};
use sentinel_core::observation::{Observation, ProbeFailure};
use sentinel_core::planted::Bug;
use sentinel_core::sentinel::Input;
use sentinel_core::time::{Deadline, Instant};

use super::agent::Via;
use super::event::{AdminEvent, Event, Reply, Request, RequestId};
use super::instance::Process;
use super::network::Place;
use super::settings::{Fencing, service_name};
use super::world::World;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not established yet.
    Opening,
    /// It stands.
    Open,
    /// Closed by this end.
    Closed,
}

/// What travels towards the server.
#[derive(Debug)]
pub enum Segment {
    /// A request.
    Request(RequestId, Request),
    /// The client has closed.
    End,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Whose it is.
    pub node: usize,
    /// To whom.
    pub instance: usize,
    /// The node's end.
    pub client: End,
    /// The server's end.
    pub server: End,
    waiting: Vec<(RequestId, Request, Deadline)>,
    asked: VecDeque<Segment>,
    answered: VecDeque<(RequestId, Reply)>,
    asked_at: Instant,
    answered_at: Instant,
}

/// A request of a node that has not come to its end.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    connection: u64,
    instance: usize,
    sent: bool,
}

impl World {
    /// A node asks something of a server.
    pub fn ask(
        &mut self,
        n: usize,
        instance: usize,
        id: RequestId,
        request: Request,
        deadline: Deadline,
    ) {
        let connection = match self.nodes[n].slots.get(&instance) {
            Some(connection) => *connection,
            None => self.open(n, instance),
        };
        let pending = Pending {
            connection,
            instance,
            sent: false,
        };
        self.nodes[n].pending.insert(id, pending);
        let (at, life) = (self.nodes[n].world(deadline), self.nodes[n].life);
        self.schedule
            .at(at, Event::Admin(AdminEvent::Deadline { node: n, life, id }));
        let standing = self.connections.get_mut(&connection).expect("in a slot");
        match standing.client {
            End::Open => self.send_request(connection, id, request, deadline),
            End::Opening | End::Closed => standing.waiting.push((id, request, deadline)),
        }
    }

    fn open(&mut self, n: usize, instance: usize) -> u64 {
        let number = self.number();
        let connection = Connection {
            node: n,
            instance,
            client: End::Opening,
            server: End::Opening,
            waiting: Vec::new(),
            asked: VecDeque::new(),
            answered: VecDeque::new(),
            asked_at: Instant::ORIGIN,
            answered_at: Instant::ORIGIN,
        };
        self.connections.insert(number, connection);
        self.nodes[n].slots.insert(instance, number);
        let delay = self.network.segment();
        let event = AdminEvent::Open { connection: number };
        self.schedule.after(delay, Event::Admin(event));
        number
    }

    /// The deadline is looked at on the connection that stands, before the first byte.
    fn send_request(&mut self, number: u64, id: RequestId, request: Request, deadline: Deadline) {
        let delay = self.network.segment();
        let now = self.now();
        let connection = self.connections.get_mut(&number).expect("it stands");
        let node = &mut self.nodes[connection.node];
        let too_late = deadline <= node.clock(now);
        let Some(pending) = node.pending.get_mut(&id).filter(|_| !too_late) else {
            return;
        };
        pending.sent = true;
        pending.connection = number;
        connection.asked.push_back(Segment::Request(id, request));
        let instance = connection.instance;
        connection.asked_at = (now + delay).max(connection.asked_at + Duration::from_nanos(1));
        let event = AdminEvent::Asked {
            connection: number,
            instance,
        };
        let at = connection.asked_at;
        self.schedule.at(at, Event::Admin(event));
    }

    /// The node's end gives up; what was sent travels on, then the end of the stream.
    pub fn close_client(&mut self, number: u64) {
        let now = self.now();
        let delay = self.network.segment();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let slot = &mut self.nodes[connection.node].slots;
        if slot.get(&connection.instance) == Some(&number) {
            slot.remove(&connection.instance);
        }
        connection.client = End::Closed;
        connection.waiting.clear();
        if connection.server == End::Closed {
            self.connections.remove(&number);
            return;
        }
        connection.asked.push_back(Segment::End);
        connection.asked_at = (now + delay).max(connection.asked_at + Duration::from_nanos(1));
        let event = AdminEvent::Asked {
            connection: number,
            instance: connection.instance,
        };
        let at = connection.asked_at;
        self.schedule.at(at, Event::Admin(event));
    }

    /// The server closes a connection; the node hears of it if it can.
    pub fn close_server(&mut self, number: u64) {
        let now = self.now();
        let delay = self.network.segment();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        connection.server = End::Closed;
        connection.asked.clear();
        if connection.client == End::Closed {
            self.connections.remove(&number);
            return;
        }
        let at = (now + delay).max(connection.answered_at + Duration::from_nanos(1));
        let event = AdminEvent::Closed {
            connection: number,
            node: connection.node,
        };
        self.schedule.at(at, Event::Admin(event));
    }

    /// Closes every administrative connection to a server, but for one.
    pub fn close_others(&mut self, instance: usize, except: Option<u64>) {
        let standing = |(number, connection): (&u64, &Connection)| {
            let closed = connection.instance == instance
                && connection.server == End::Open
                && Some(*number) != except;
            closed.then_some(*number)
        };
        let numbers: Vec<u64> = self.connections.iter().filter_map(standing).collect();
        for number in numbers {
            self.close_server(number);
        }
    }

    pub(super) fn on_admin(&mut self, event: &AdminEvent) {
        match *event {
            AdminEvent::Open { connection } => self.on_open(connection),
            AdminEvent::Opened { connection, .. } => self.on_opened(connection),
            AdminEvent::Refused { connection, .. } => self.on_broken(connection, Break::Refused),
            AdminEvent::Asked { connection, .. } => self.on_asked(connection),
            AdminEvent::Answered { connection, .. } => self.on_answered(connection),
            AdminEvent::Closed { connection, .. } => self.on_closed(connection),
            AdminEvent::Deadline { node, life, id } => self.on_deadline(node, life, id),
        }
    }

    fn on_open(&mut self, number: u64) {
        let delay = self.network.segment();
        let again = self.network.retransmit();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (node, instance) = (connection.node, connection.instance);
        if connection.client == End::Closed {
            self.connections.remove(&number);
            return;
        }
        if !self
            .network
            .open_both(Place::Node(node), Place::Instance(instance))
        {
            let event = AdminEvent::Open { connection: number };
            self.schedule.after(again, Event::Admin(event));
            return;
        }
        let event = match self.instances[instance].process {
            Process::Running | Process::Hung => {
                connection.server = End::Open;
                AdminEvent::Opened {
                    connection: number,
                    node,
                }
            }
            Process::Dead => {
                connection.server = End::Closed;
                AdminEvent::Refused {
                    connection: number,
                    node,
                }
            }
        };
        self.schedule.after(delay, Event::Admin(event));
    }

    fn on_opened(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if connection.client == End::Closed {
            return;
        }
        connection.client = End::Open;
        for (id, request, deadline) in std::mem::take(&mut connection.waiting) {
            self.send_request(number, id, request, deadline);
        }
    }

    fn on_asked(&mut self, number: u64) {
        let again = self.network.retransmit();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (node, instance) = (connection.node, connection.instance);
        if !self
            .network
            .open(Place::Node(node), Place::Instance(instance))
        {
            let event = AdminEvent::Asked {
                connection: number,
                instance,
            };
            self.schedule.after(again, Event::Admin(event));
            return;
        }
        let Some(segment) = connection.asked.pop_front() else {
            return;
        };
        match segment {
            Segment::End => self.close_server(number),
            Segment::Request(id, request) => {
                if connection.server != End::Open {
                    return;
                }
                let reply = match request {
                    _ if self.is_postgres() && !self.is_ready(instance) => {
                        Some(Reply::Rejected("the database system is starting up"))
                    }
                    Request::Probe => Some(Reply::Facts(self.read_facts(instance))),
                    Request::Action(action) if self.is_postgres() => {
                        if !self.has(Bug::NoConnectionClosing) {
                            self.close_others(instance, Some(number));
                        }
                        let outcome =
                            self.carry_out_sql(instance, Via::Connection(number), &action);
                        outcome.map(Reply::Outcome)
                    }
                    Request::Action(action) => {
                        Some(Reply::Outcome(self.execute(instance, number, &action)))
                    }
                };
                if let Some(reply) = reply {
                    self.answer(number, id, reply);
                }
            }
        }
    }

    pub(super) fn answer(&mut self, number: u64, id: RequestId, reply: Reply) {
        let now = self.now();
        let delay = self.network.segment();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        connection.answered.push_back((id, reply));
        connection.answered_at =
            (now + delay).max(connection.answered_at + Duration::from_nanos(1));
        let event = AdminEvent::Answered {
            connection: number,
            node: connection.node,
        };
        let at = connection.answered_at;
        self.schedule.at(at, Event::Admin(event));
    }

    /// An action takes effect, unless it is refused; first every other connection is closed.
    fn execute(&mut self, instance: usize, number: u64, action: &Action) -> Outcome {
        let refused = match self.settings.fencing {
            Fencing::Tokens => {
                action.token < self.instances[instance].token && !self.has(Bug::AcceptLowerToken)
            }
            Fencing::Connections => false,
        };
        if refused {
            return Outcome::Refused("a newer token was here".into());
        }
        let outcome = self.carry_out_order(instance, action);
        match &outcome {
            Outcome::Done(_) => {
                let seen = &mut self.instances[instance].token;
                *seen = action.token.max(*seen);
                if self.settings.fencing == Fencing::Connections
                    && !self.has(Bug::NoConnectionClosing)
                {
                    self.close_others(instance, Some(number));
                }
            }
            Outcome::Refused(_) | Outcome::UnderWay(_) | Outcome::Unknown(_) => {}
        }
        outcome
    }

    fn on_answered(&mut self, number: u64) {
        let again = self.network.retransmit();
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (node, instance) = (connection.node, connection.instance);
        if connection.client == End::Closed {
            return;
        }
        if !self
            .network
            .open(Place::Instance(instance), Place::Node(node))
        {
            let event = AdminEvent::Answered {
                connection: number,
                node,
            };
            self.schedule.after(again, Event::Admin(event));
            return;
        }
        let Some((id, reply)) = connection.answered.pop_front() else {
            return;
        };
        if self.nodes[node].pending.remove(&id).is_none() {
            return;
        }
        let input = match (id, reply) {
            (RequestId::Probe(id), Reply::Facts(facts)) => Input::Probed {
                id,
                observation: Observation::Facts(facts),
            },
            (RequestId::Action(id), Reply::Outcome(outcome)) => {
                self.trace.line(self.schedule.now(), || {
                    format!("s{} learns of {id}: {}", node + 1, outcome_word(&outcome))
                });
                Input::Acted { id, outcome }
            }
            (RequestId::Probe(id), Reply::Rejected(text)) => Input::Probed {
                id,
                observation: Observation::Failure(ProbeFailure::Rejected(text.to_owned())),
            },
            (RequestId::Action(id), Reply::Rejected(text)) => Input::Acted {
                id,
                outcome: Outcome::Refused(text.to_owned()),
            },
            (RequestId::Probe(_), Reply::Outcome(_)) | (RequestId::Action(_), Reply::Facts(_)) => {
                unreachable!("a reply is of the kind of its request")
            }
        };
        self.feed(node, input);
    }

    fn on_closed(&mut self, number: u64) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (node, instance) = (connection.node, connection.instance);
        if self
            .network
            .open(Place::Instance(instance), Place::Node(node))
        {
            self.on_broken(number, Break::Closed);
        }
    }

    /// The node sees that a connection is no more.
    fn on_broken(&mut self, number: u64, how: Break) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (node, instance, client) = (connection.node, connection.instance, connection.client);
        self.close_client(number);
        if client == End::Closed {
            return;
        }
        let of_it = |(id, pending): (&RequestId, &Pending)| {
            (pending.connection == number).then_some((*id, *pending))
        };
        let broken: Vec<_> = self.nodes[node].pending.iter().filter_map(of_it).collect();
        if how == Break::Closed {
            self.feed(
                node,
                Input::Disconnected {
                    service: service_name(),
                    instance: self.addresses[instance].clone(),
                },
            );
        }
        for (id, pending) in broken {
            self.nodes[node].pending.remove(&id);
            let failure = match how {
                Break::Closed => ProbeFailure::Reset,
                Break::Refused => ProbeFailure::Refused,
            };
            self.end(node, id, pending.sent, failure);
        }
    }

    fn on_deadline(&mut self, n: usize, life: u32, id: RequestId) {
        if self.nodes[n].life != life {
            return;
        }
        if let Some(pending) = self.nodes[n].pending.remove(&id) {
            // A silent connection is given up, so that the next request tries a new one.
            if self.nodes[n].slots.get(&pending.instance) == Some(&pending.connection) {
                self.close_client(pending.connection);
            }
            self.end(n, id, pending.sent, ProbeFailure::TimedOut);
        }
    }

    fn end(&mut self, n: usize, id: RequestId, sent: bool, failure: ProbeFailure) {
        let input = match id {
            RequestId::Probe(id) => Input::Probed {
                id,
                observation: Observation::Failure(failure),
            },
            RequestId::Action(id) => Input::Acted {
                id,
                outcome: if sent {
                    Outcome::Unknown(format!("{failure:?} after it was sent"))
                } else {
                    Outcome::Refused(format!("{failure:?} before it was sent"))
                },
            },
        };
        self.feed(n, input);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Refused,
    Closed,
}

fn outcome_word(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(_) => "done".to_owned(),
        Outcome::Refused(text) => format!("refused, {text}"),
        Outcome::UnderWay(text) => format!("under way, {text}"),
        Outcome::Unknown(text) => format!("unknown, {text}"),
    }
}
