//! The clients: four connections that write through the write guard, and remember what was acknowledged.
//!
//! Each write has a key of its own and is sent once: what was not acknowledged may be there or not.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_redis::guard::{GuardOptions, PrimarySource, WriteGuard};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::journal::{Journal, Key};
use super::layout::SERVICE;

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
    /// Starts them. Where there is a server to stick to, half of them are on its side of the cut and know no other.
    pub(super) fn start(
        endpoints: &[InstanceId],
        stuck_to: Option<&InstanceId>,
        journal: &Arc<Journal>,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let source = match stuck_to {
                Some(server) if writer % 2 == 1 => PrimarySource::Fixed(server.clone()),
                Some(_) | None => PrimarySource::Sentinels {
                    endpoints: endpoints.to_vec(),
                    credentials: None,
                },
            };
            tasks.spawn(write(writer, source, Arc::clone(journal), stop.clone()));
        }
        Self { tasks, stop }
    }

    /// Lets every writer end its last write, and waits for that.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn write(
    writer: usize,
    source: PrimarySource,
    journal: Arc<Journal>,
    stop: CancellationToken,
) {
    let guard = WriteGuard::new(GuardOptions::new(SERVICE.into(), source));
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        if stop.run_until_cancelled(pace.tick()).await.is_none() {
            return;
        }
        let key = Key { writer, number };
        let mut command = redis::cmd("SET");
        command.arg(key.name()).arg(key.value());
        journal.sending();
        // What failed is not retried under its key, so that every acknowledgement stands for one write.
        if let Ok(acked) = guard.write_attributed(command).await {
            journal.acknowledged(key, acked.primary);
        }
    }
}
