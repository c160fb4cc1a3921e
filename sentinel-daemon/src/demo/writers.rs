//! The clients: four connections that write at a pace, and remember what was acknowledged.
//!
//! Each write has a key of its own and is sent once: what was not acknowledged may be there or not.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::engines::Writer;
use super::journal::{Journal, Key};

/// Connections.
const WRITERS: usize = 4;

/// Pace of one writer: 250 writes a second, 1000 of all.
const PACE: Duration = Duration::from_millis(4);

/// The running clients; they end with this.
#[derive(Debug)]
pub(super) struct Writers {
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Writers {
    /// Starts them, each with the client that is made for its number.
    pub(super) fn start(client: impl Fn(usize) -> Writer, journal: &Arc<Journal>) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let journal = Arc::clone(journal);
            tasks.spawn(write(writer, client(writer), journal, stop.clone()));
        }
        Self { tasks, stop }
    }

    /// Lets every writer end its last write, and waits for that.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn write(writer: usize, mut client: Writer, journal: Arc<Journal>, stop: CancellationToken) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        if stop.run_until_cancelled(pace.tick()).await.is_none() {
            return;
        }
        let key = Key { writer, number };
        journal.sending();
        if let Some(by) = client.write(key).await {
            journal.acknowledged(key, by);
        }
    }
}
