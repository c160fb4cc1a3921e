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
use super::plan::ServicePlan;

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

    /// What the voters publish, in words: who, and how many of them. A payload that is none of theirs is shown as it is.
    fn told(self, payload: &str, voters: usize) -> String {
        let words: Vec<&str> = payload.split(' ').collect();
        let address = |host: &str, port: &str| match port.parse() {
            Ok(port) => InstanceId::new(host, port).to_string(),
            Err(_no_port) => format!("{host}:{port}"),
        };
        match (self, &words[..]) {
            (Self::Detected, ["master", _, host, port, "#quorum", tally]) => {
                let (witnesses, _needed) = tally.split_once('/').unwrap_or((tally, ""));
                format!("{} down by {witnesses} of {voters}", address(host, port))
            }
            (Self::Decided, ["slave", chosen, ..]) => format!("{chosen} chosen"),
            (Self::Promoted, [_, _, _, host, port]) => {
                format!("{} answered as primary", address(host, port))
            }
            (Self::Detected | Self::Decided | Self::Promoted | Self::FirstWrite, _) => {
                payload.to_owned()
            }
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
    plan: ServicePlan,
    marks: Arc<Mutex<Marks>>,
    _listeners: Arc<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Marks {
    fault: Option<Instant>,
    seen: BTreeMap<Mark, Duration>,
}

impl Timeline {
    /// Listens to all of them before it returns, for what they say of this service.
    pub(super) async fn listen(
        endpoints: &[InstanceId],
        plan: &ServicePlan,
    ) -> Result<Self, DemoError> {
        let marks = Arc::new(Mutex::new(Marks::default()));
        let mut listeners = JoinSet::new();
        let voters = endpoints.len();
        for endpoint in endpoints {
            let subscribed = subscribe(endpoint).await;
            let subscription = subscribed.map_err(|source| DemoError::Server {
                server: format!("the Sentinel endpoint {endpoint}"),
                source: source.into(),
            })?;
            let (plan, marks) = (plan.clone(), Arc::clone(&marks));
            listeners.spawn(async move {
                let mut messages = subscription.into_on_message();
                while let Some(message) = messages.next().await {
                    let at = Instant::now();
                    let text: String = message.get_payload().unwrap_or_default();
                    let mark = Mark::of_channel(message.get_channel_name());
                    let mark = mark.filter(|_| service_of(&text) == Some(plan.name));
                    if let Some(mark) = mark {
                        note(&plan, &marks, mark, at, &mark.told(&text, voters));
                    }
                }
            });
        }
        Ok(Self {
            plan: plan.clone(),
            marks,
            _listeners: Arc::new(listeners),
        })
    }

    /// The fault is about to happen: only what comes after it counts.
    pub(super) fn begin(&self, what: &str) -> Instant {
        self.plan
            .note(&format!("{:>9}  {:<11}  {what}", "0 ms", "fault"));
        let fault = Instant::now();
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.fault = Some(fault);
        fault
    }

    /// Something that this program saw itself.
    pub(super) fn saw(&self, mark: Mark, at: Instant, text: &str) {
        note(&self.plan, &self.marks, mark, at, text);
    }

    /// When it was seen, counted from the fault.
    pub(super) fn time(&self, mark: Mark) -> Option<Duration> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.seen.get(&mark).copied()
    }
}

fn note(plan: &ServicePlan, marks: &Mutex<Marks>, mark: Mark, at: Instant, text: &str) {
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
    plan.note(&format!("{ms:>9}  {:<11}  {text}", mark.word()));
}

/// Of which service a payload speaks.
fn service_of(payload: &str) -> Option<&str> {
    let words: Vec<&str> = payload.split(' ').collect();
    match &words[..] {
        ["master", service, ..] | ["slave", _, _, _, "@", service, ..] | [service, _, _, _, _] => {
            Some(service)
        }
        _ => None,
    }
}

async fn subscribe(endpoint: &InstanceId) -> redis::RedisResult<redis::aio::PubSub> {
    let client = super::connect::client(endpoint)?;
    let mut subscription = client.get_async_pubsub().await?;
    for channel in ["+odown", "+selected-slave", "+switch-master"] {
        subscription.subscribe(channel).await?;
    }
    Ok(subscription)
}

#[cfg(test)]
mod tests {
    use sentinel_core::event::{Event, EventKind};
    use sentinel_core::id::{NodeName, ServiceName};

    use super::*;
    use crate::resp::events;

    /// Read from what the endpoint really publishes, so that the two cannot drift apart.
    fn told(kind: EventKind) -> Vec<String> {
        let event = Event {
            service: ServiceName::new("demo"),
            token: sentinel_core::id::Token::default(),
            primary: Some(InstanceId::new("127.0.0.1", 1)),
            kind,
        };
        let messages = events::messages(&event, None);
        let marked = messages
            .iter()
            .filter_map(|message| Some((Mark::of_channel(message.channel)?, message)));
        marked
            .inspect(|(_, message)| assert_eq!(service_of(&message.payload), Some("demo")))
            .map(|(mark, message)| mark.told(&message.payload, 3))
            .collect()
    }

    #[test]
    fn events_are_told_in_words() {
        let old = InstanceId::new("127.0.0.1", 1);
        let new = InstanceId::new("::1", 2);
        let witnesses = ["s1", "s2"].map(NodeName::new).into();
        for (kind, words) in [
            (
                EventKind::PrimaryDown {
                    instance: old.clone(),
                    witnesses,
                    quorum: 2,
                },
                "127.0.0.1:1 down by 2 of 3",
            ),
            (
                EventKind::TargetSelected {
                    instance: new.clone(),
                },
                "[::1]:2 chosen",
            ),
            (
                EventKind::PrimarySwitched {
                    from: Some(old),
                    to: new,
                },
                "[::1]:2 answered as primary",
            ),
        ] {
            assert_eq!(told(kind), [words]);
        }
    }
}
