//! The contract of an engine's adapter: it reports facts and carries out steps, and never decides. The files of its folder
//! are what every adapter needs for that.

mod connection_error;
mod lines;
mod turns;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::action::{Action, Outcome};
use crate::id::{EngineName, InstanceId, ServiceName};
use crate::observation::{Observation, ProbeRequest};
use crate::peer::AgentState;
use crate::runtime::Clock;

pub use connection_error::ConnectionError;
pub use lines::Lines;
pub use turns::{Stop, Turn, Turns};

/// One engine. Both verbs keep their deadlines themselves; a driver gives them a little longer and then gives up.
pub trait Adapter: Send + Sync + 'static {
    /// The engine's name in the settings.
    fn engine(&self) -> EngineName;

    /// Looks at an instance.
    fn probe(&self, request: ProbeRequest) -> BoxFuture<'static, Observation>;

    /// Carries out one action: idempotent, checked against its deadline on a connection that stands before
    /// the first byte, closing every other administrative connection in the same transaction, read back.
    fn act(&self, action: Action) -> BoxFuture<'static, Outcome>;
}

/// What an adapter gets from its driver.
#[derive(Clone, Debug)]
pub struct AdapterContext {
    /// The clock in which deadlines are given.
    pub clock: Clock,
    /// Where to tell at once that a standing connection broke; `try_send`, a lost hint costs one probe's pace.
    pub disconnects: mpsc::Sender<(ServiceName, InstanceId)>,
    /// Where the agent on this host tells what it does, with each change; a lost one is made good by the next.
    pub notes: mpsc::Sender<AgentNote>,
}

/// What the agent on this host does with one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentNote {
    /// The service.
    pub service: ServiceName,
    /// The instance.
    pub instance: InstanceId,
    /// What it does there.
    pub state: AgentState,
}

/// Makes an adapter when the driver starts.
pub type AdapterFactory = Box<dyn FnOnce(AdapterContext) -> Arc<dyn Adapter> + Send>;
