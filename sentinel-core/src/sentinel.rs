//! The machine: inputs in, outputs out, no IO.
//!
//! Contract: one [`Sentinel::handle`], then drain every output of [`Sentinel::poll_output`] in order, then
//! wait until [`Sentinel::poll_timeout`] or the next input. A [`Output::Persist`] is durable before
//! anything after it is carried out.

use std::sync::Arc;

use crate::action::{Action, Outcome};
use crate::discovery::{Announced, View};
use crate::event::Event;
use crate::id::{ActionId, InstanceId, NodeName, ProbeId, ServiceName};
use crate::observation::{Observation, ProbeRequest};
use crate::peer::{PeerMessage, Persist};

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
    /// The leadership is handed over, or there was none: stop.
    Stopped,
}
