//! Tells a job whether somebody else has given its server an order since the job was begun.
//!
//! A job asks the primary first, which may take seconds, and a freeze does not wait for agents: it comes over SQL. A job
//! that went on after it would start the server as a follower of the primary that is being deposed, and what that server
//! then acknowledges is lost. Every order over SQL begins by closing all other acting sessions (rule S6), so the job
//! keeps one, and goes on only while it stands. Knows nothing of the job.

use std::time::Duration;

use tokio::time::timeout;

use super::settings::AgentSettings;
use crate::connection::{Connection, Purpose};

/// A server that takes longer hangs, and is not given orders either.
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
