//! A connection to one server that notices warnings: the only sign that a commit was not waited for by the standbys.
//!
//! Ends with this, also on the wire. Knows nothing of who is primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt as _;
use sentinel_core::id::InstanceId;
use tokio_postgres::error::Severity;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::settings::{CLIENT, DATABASE};

/// A connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    warned: Arc<AtomicBool>,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    /// Connects as the clients do.
    pub(super) async fn open(server: &InstanceId) -> Result<Self, tokio_postgres::Error> {
        let (client, mut connection) = Config::new()
            .host(server.host())
            .port(server.port())
            .user(CLIENT)
            .dbname(DATABASE)
            .connect(NoTls)
            .await?;
        let warned = Arc::new(AtomicBool::new(false));
        let noticed = Arc::clone(&warned);
        let driver = tokio::spawn(async move {
            let mut messages =
                futures_util::stream::poll_fn(|context| connection.poll_message(context));
            // A message comes before the reply that follows it, so the client sees the mark with the reply.
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message
                    && notice.parsed_severity() == Some(Severity::Warning)
                {
                    noticed.store(true, Ordering::SeqCst);
                }
            }
        });
        Ok(Self {
            client,
            warned,
            _driver: AbortOnDropHandle::new(driver),
        })
    }

    /// Whether the server warned of anything since the last time, and forgets that.
    pub(super) fn take_warning(&self) -> bool {
        self.warned.swap(false, Ordering::SeqCst)
    }
}
