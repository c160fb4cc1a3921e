//! What happens after the fault, as the voters publish it: shown at once, and kept with its time.
//!
//! Knows the channels of the Sentinel protocol. Every voter is listened to; who says a thing first, counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use sentinel_core::id::InstanceId;
use tokio::task::JoinSet;

use super::error::DemoError;
use crate::output;

/// A step on the way to the next write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// A quorum of voters agrees that the primary is down.
    Detected,
    /// The replica to promote is committed.
    Decided,
    /// It is primary, and every client is told so.
    Promoted,
    /// It acknowledged a write.
    FirstWrite,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Decided => "decided",
            Self::Promoted => "promoted",
            Self::FirstWrite => "first write",
        }
    }

    /// The channel on which it is told.
    fn of_channel(channel: &str) -> Option<Self> {
        match channel {
            "+odown" => Some(Self::Detected),
            "+selected-slave" => Some(Self::Decided),
            "+switch-master" => Some(Self::Promoted),
            _ => None,
        }
    }
}

/// Hears what the voters say. Ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    marks: Arc<Mutex<Marks>>,
    _listeners: Arc<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Marks {
    fault: Option<Instant>,
    seen: BTreeMap<Mark, Duration>,
}

impl Timeline {
    /// Listens to all of them before it returns.
    pub(super) async fn listen(endpoints: &[InstanceId]) -> Result<Self, DemoError> {
        let marks = Arc::new(Mutex::new(Marks::default()));
        let mut listeners = JoinSet::new();
        for endpoint in endpoints {
            let subscribed = subscribe(endpoint).await;
            let subscription = subscribed.map_err(|source| DemoError::Server {
                server: format!("the Sentinel endpoint {endpoint}"),
                source,
            })?;
            let marks = Arc::clone(&marks);
            listeners.spawn(async move {
                let mut messages = subscription.into_on_message();
                while let Some(message) = messages.next().await {
                    let at = Instant::now();
                    let text: String = message.get_payload().unwrap_or_default();
                    if let Some(mark) = Mark::of_channel(message.get_channel_name()) {
                        note(&marks, mark, at, &text);
                    }
                }
            });
        }
        Ok(Self {
            marks,
            _listeners: Arc::new(listeners),
        })
    }

    /// The fault is about to happen: only what comes after it counts.
    pub(super) fn begin(&self, what: &str) -> Instant {
        output::note(&format!("{:>9}  fault        {what}", "0 ms"));
        let fault = Instant::now();
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.fault = Some(fault);
        fault
    }

    /// Something that this program saw itself.
    pub(super) fn saw(&self, mark: Mark, at: Instant, text: &str) {
        note(&self.marks, mark, at, text);
    }

    /// When it was seen, counted from the fault.
    pub(super) fn time(&self, mark: Mark) -> Option<Duration> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.seen.get(&mark).copied()
    }
}

fn note(marks: &Mutex<Marks>, mark: Mark, at: Instant, text: &str) {
    let mut marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(after) = marks
        .fault
        .and_then(|fault| at.checked_duration_since(fault))
    else {
        return;
    };
    if marks.seen.contains_key(&mark) {
        return;
    }
    marks.seen.insert(mark, after);
    let ms = format!("{} ms", after.as_millis());
    output::note(&format!("{ms:>9}  {:<11}  {text}", mark.word()));
}

async fn subscribe(endpoint: &InstanceId) -> redis::RedisResult<redis::aio::PubSub> {
    let client = super::connect::client(endpoint)?;
    let mut subscription = client.get_async_pubsub().await?;
    for channel in ["+odown", "+selected-slave", "+switch-master"] {
        subscription.subscribe(channel).await?;
    }
    Ok(subscription)
}
