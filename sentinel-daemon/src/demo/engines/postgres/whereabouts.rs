//! Where the primary is, as the Sentinel endpoints say: asked at first and at every switch that one of them publishes.
//!
//! The answer with the highest epoch stands, so that an endpoint that lags behind sends nobody back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sentinel_core::id::InstanceId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::demo::connect;

/// Pause before an endpoint that broke off is listened to again.
const LISTEN_PAUSE: Duration = Duration::from_millis(200);

/// Follows the primary of one service until it is dropped.
#[derive(Debug)]
pub(super) struct Whereabouts {
    primary: watch::Receiver<Option<Named>>,
    _listeners: JoinSet<()>,
}

/// A primary, and the epoch in which it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    epoch: u64,
    primary: InstanceId,
}

impl Whereabouts {
    /// Begins to listen to all of the endpoints.
    pub(super) fn follow(service: &'static str, endpoints: &[InstanceId]) -> Self {
        let (sender, primary) = watch::channel(None);
        let sender = Arc::new(sender);
        let mut listeners = JoinSet::new();
        for endpoint in endpoints {
            let (endpoint, sender) = (endpoint.clone(), Arc::clone(&sender));
            listeners.spawn(async move {
                loop {
                    // However it ends, the remedy is to listen again.
                    drop(listen(service, &endpoint, &sender).await);
                    tokio::time::sleep(LISTEN_PAUSE).await;
                }
            });
        }
        Self {
            primary,
            _listeners: listeners,
        }
    }

    /// Who is primary, once anybody has said so.
    pub(super) async fn primary(&mut self) -> Option<InstanceId> {
        let named = self.primary.wait_for(Option::is_some).await.ok()?;
        named.as_ref().map(|named| named.primary.clone())
    }

    /// Waits until another one than this is.
    pub(super) async fn elsewhere(&mut self, than: &InstanceId) {
        let moved =
            |named: &Option<Named>| named.as_ref().is_some_and(|named| named.primary != *than);
        if self.primary.wait_for(moved).await.is_err() {
            // Nobody is left to say so.
            std::future::pending().await
        }
    }
}

async fn listen(
    service: &'static str,
    endpoint: &InstanceId,
    sender: &watch::Sender<Option<Named>>,
) -> redis::RedisResult<()> {
    let client = connect::client(endpoint)?;
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe("+switch-master").await?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut switches = subscription.into_on_message();
    loop {
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(service);
        let fields: Option<BTreeMap<String, String>> = command.query_async(&mut connection).await?;
        if let Some(named) = fields.as_ref().and_then(read) {
            sender.send_if_modified(|known| replace(known, named));
        }
        if switches.next().await.is_none() {
            return Ok(());
        }
    }
}

fn read(fields: &BTreeMap<String, String>) -> Option<Named> {
    let port = fields.get("port")?.parse().ok()?;
    Some(Named {
        epoch: fields.get("config-epoch")?.parse().ok()?,
        primary: InstanceId::new(fields.get("ip")?.as_str(), port),
    })
}

fn replace(known: &mut Option<Named>, named: Named) -> bool {
    let newer = known.as_ref().is_none_or(|known| known.epoch < named.epoch);
    if newer {
        *known = Some(named);
    }
    newer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_epoch_stands() {
        let named = |epoch, port| Named {
            epoch,
            primary: InstanceId::new("127.0.0.1", port),
        };
        let mut known = None;
        assert!(replace(&mut known, named(1, 1)));
        assert!(replace(&mut known, named(2, 2)));
        assert!(!replace(&mut known, named(1, 1)));
        assert_eq!(known, Some(named(2, 2)));
    }
}
