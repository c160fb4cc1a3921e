//! The door to the agent on a database host: what it does for its own instance, SQL cannot.
//!
//! Knows which kinds of action go there; not how they are carried out, nor whether an agent is elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sentinel_core::action::{Action, Outcome};
use sentinel_core::id::{InstanceId, ServiceName};

/// The agent of one instance on this very host.
pub trait Host: Send + Sync {
    /// Carries out one action; idempotent, and within its deadline. A job that takes longer goes on
    /// behind it, and is answered by [`Outcome::UnderWay`] until it is over.
    fn carry_out(&self, action: Action) -> BoxFuture<'static, Outcome>;
}

/// The instances of this host that have an agent in this process.
pub type Hosts = BTreeMap<(ServiceName, InstanceId), Arc<dyn Host>>;
