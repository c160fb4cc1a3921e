//! Tells whether a primary was given an order over SQL, or ended, while its checkpoint before a switchover's stop was
//! written.
//!
//! Every order over SQL begins by closing all other acting sessions (rule S6), so one is kept, and looked at afterwards. A
//! server that gives none is not fenced: the stop itself is begun by another order, which is judged anew. What must not be
//! missed, that a standby was frozen, is told by its files (`mandate`). Knows nothing of the pause.

use std::time::Duration;

use tokio::time::timeout;

use super::settings::AgentSettings;
use crate::connection::{Connection, Purpose};

/// A server that takes longer is not fenced.
const LIMIT: Duration = Duration::from_millis(500);

/// An acting session on the server, if it runs.
#[derive(Debug)]
pub(super) struct Fence(Option<Connection>);

impl Fence {
    pub(super) async fn raise(settings: &AgentSettings) -> Self {
        let (instance, service) = (&settings.instance, &settings.postgres);
        let opened = Connection::open(instance, service, Purpose::Act, || {});
        Self(timeout(LIMIT, opened).await.ok().and_then(Result::ok))
    }

    /// Whether nobody has closed it. It is gone afterwards, so that it does not hold up the server's stop.
    pub(super) async fn stood(self) -> bool {
        match self.0 {
            None => true,
            Some(session) => {
                let answer = timeout(LIMIT, session.run("SELECT 1")).await;
                matches!(answer, Ok(Ok(_)))
            }
        }
    }
}
