//! Writes what happens into the log: one line for each event, and one for each change of the leader.
//!
//! Fields, not prose. Judges nothing, and misses nothing silently.

use std::sync::Arc;

use sentinel_core::discovery::View;
use sentinel_core::event::{Event, EventKind};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Logs events until the end.
pub(super) async fn events(mut events: broadcast::Receiver<Event>, farewell: CancellationToken) {
    while let Some(received) = farewell.run_until_cancelled(events.recv()).await {
        match received {
            Ok(event) => write(&event),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "events came faster than they could be logged");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn write(event: &Event) {
    let (word, detail) = told(&event.kind);
    let primary = event.primary.as_ref().map(tracing::field::display);
    let detail = (!detail.is_empty()).then_some(detail);
    let (service, epoch, step) = (&event.service, event.token.epoch.0, event.token.step);
    if matches!(event.kind, EventKind::Alarm { .. }) {
        tracing::error!(%service, epoch, step, primary, detail, "{word}");
    } else {
        tracing::info!(%service, epoch, step, primary, detail, "{word}");
    }
}

/// The event's word, and its own fields as `name=value`.
fn told(kind: &EventKind) -> (String, String) {
    let value = serde_json::to_value(kind).expect("our own types serialize without fail");
    let mut word = String::new();
    let mut fields = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = match (value.as_str(), value.as_array()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(list)) => {
                let names: Vec<&str> = list.iter().filter_map(|name| name.as_str()).collect();
                names.join(",")
            }
            (None, None) => value.to_string(),
        };
        match name.as_str() {
            "event" => word = text,
            // The token has it already.
            "epoch" => {}
            name => fields.push(format!("{name}={text}")),
        }
    }
    (word, fields.join(" "))
}

/// Logs changes of the leader until the end.
pub(super) async fn leaders(mut views: watch::Receiver<Arc<View>>, farewell: CancellationToken) {
    let mut known = None;
    loop {
        let (leader, term) = {
            let view = views.borrow_and_update();
            (view.leader.clone(), view.term)
        };
        if leader != known {
            let from = known.as_ref().map(tracing::field::display);
            let to = leader.as_ref().map(tracing::field::display);
            tracing::info!(from, to, term = term.0, "leader changed");
            known = leader;
        }
        match farewell.run_until_cancelled(views.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_core::id::InstanceId;

    use super::*;

    #[test]
    fn an_event_is_a_word_and_its_fields() {
        let kind = EventKind::PrimaryDown {
            instance: InstanceId::new("h", 1),
            witnesses: vec!["s1".into(), "s2".into()],
            quorum: 2,
        };
        assert_eq!(
            told(&kind),
            (
                "primary_down".to_owned(),
                "instance=h:1 quorum=2 witnesses=s1,s2".to_owned()
            )
        );
        assert_eq!(
            told(&EventKind::FailoverEnded),
            ("failover_ended".to_owned(), String::new())
        );
    }
}
