//! Sends the coordinator's own sessions away from a server that stops smartly: every node keeps one to look at the server,
//! and a smart stop waits until the last client has left.
//!
//! Comes in before the stop, because a stopping server lets nobody in. Ends no session of anybody else.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::settings::AgentSettings;
use super::upstream;

/// A server that takes longer hangs, and its stop goes on to the rougher ways.
const LIMIT: Duration = Duration::from_millis(500);
const PACE: Duration = Duration::from_millis(50);

/// Ends those of our role that bear a name of ours, and tells how many there were. A reader may come in once more until
/// the server has taken notice of its stop.
const END: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
    WHERE usename = current_user AND application_name LIKE 'sentinel-%' \
      AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// A session of ours in a server that is about to stop.
pub(super) struct Visitors(Client);

impl Visitors {
    pub(super) async fn enter(settings: &AgentSettings) -> Option<Self> {
        let client = timeout(LIMIT, upstream::connect(settings, &settings.instance)).await;
        client.ok()?.ok().map(Self)
    }

    /// Returns when nobody of ours is left but this session, which leaves too.
    pub(super) async fn leave(self) {
        loop {
            match timeout(LIMIT, self.0.query_one(END, &[])).await {
                Ok(Ok(row)) if row.get::<_, i64>(0) > 0 => tokio::time::sleep(PACE).await,
                Ok(Ok(_)) => {
                    // Whoever came in just before the server took notice was not seen yet.
                    tokio::time::sleep(PACE).await;
                    drop(timeout(LIMIT, self.0.query_one(END, &[])).await);
                    return;
                }
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}
