//! What a caller settles about a write guard, with the defaults and what each number trades.

use std::time::Duration;

use sentinel_core::id::ServiceName;

use crate::Credentials;

use super::source::PrimarySource;

/// Settings of a [`WriteGuard`](super::WriteGuard).
#[derive(Debug)]
pub struct GuardOptions {
    /// The service to write to; it appears in logs, and is asked for at the Sentinel endpoints.
    pub service: ServiceName,
    /// Where to learn who the primary is.
    pub source: PrimarySource,
    /// For the primary. The user needs, beyond the writes, `+info +role +wait +acl|getuser`.
    pub credentials: Option<Credentials>,
    /// How long what may take.
    pub timeouts: Timeouts,
    /// How many writes may be in flight at once, counted from the call to its result. More calls wait for
    /// a place, up to [`Timeouts::unsent`]. Default 1024.
    pub in_flight_max: usize,
}

impl GuardOptions {
    /// The defaults for a service, without credentials.
    pub fn new(service: ServiceName, source: PrimarySource) -> Self {
        Self {
            service,
            source,
            credentials: None,
            timeouts: Timeouts::default(),
            in_flight_max: 1024,
        }
    }
}

/// How long what may take. A write ends after `unsent + wait + reply` at the latest, and a little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt to connect to a server and to read whom to count. Shorter leaves a hung server sooner,
    /// longer tolerates a slow network. Default 250 ms.
    pub connect: Duration,
    /// How long the named replicas may take to hold a write, from when it was sent; then it ends in
    /// `NotEnoughReplicas`. Default 1 s.
    pub wait: Duration,
    /// How long the primary may be silent beyond what it was asked to wait; then the connection is broken
    /// off and what was sent ends in `Unknown`. Default 500 ms.
    pub reply: Duration,
    /// How long a write may wait for a primary before anything of it is sent; then it ends in `NoPrimary`.
    /// Longer than a failover takes lets callers sleep through one. Default 5 s.
    pub unsent: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_millis(250),
            wait: Duration::from_secs(1),
            reply: Duration::from_millis(500),
            unsent: Duration::from_secs(5),
        }
    }
}
