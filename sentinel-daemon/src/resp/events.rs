//! Turns an event into the messages that clients of Redis Sentinel wait for: channel and payload, word for word.
//!
//! Pure. Knows the event and, where the text needs it, the service as this node knows it. Events that Redis
//! Sentinel has no word for become no message; nothing is published under a name that Redis does not have.
//!
//! `+elected-leader` is left out on purpose: Lettuce starts a timer of five seconds at it, in which it
//! passes over the `+switch-master` that follows here within milliseconds.

use std::fmt::Write as _;

use sentinel_core::discovery::ServiceView;
use sentinel_core::event::{Event, EventKind};
use sentinel_core::id::{InstanceId, ServiceName};

/// What subscribers get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The name of the event, which is the channel.
    pub channel: &'static str,
    /// The text.
    pub payload: String,
}

/// The messages of one event, in the order in which Redis Sentinel publishes them.
pub fn messages(event: &Event, known: Option<&ServiceView>) -> Vec<Message> {
    let name = &event.service;
    let Some(primary) = event.primary.as_ref() else {
        return without_primary(event, known);
    };
    let about = |channel, instance| message(channel, subject(name, primary, instance));
    match &event.kind {
        // Redis has no word for a switchover before its failover begins.
        EventKind::ServiceAdded
        | EventKind::SwitchoverStarted { .. }
        | EventKind::SwitchoverCalledOff { .. }
        | EventKind::DivergedKept { .. }
        | EventKind::InstanceStranded { .. }
        | EventKind::RebuildSent { .. }
        | EventKind::Admitted { .. }
        | EventKind::Excluded { .. }
        | EventKind::Readmitted { .. }
        | EventKind::Alarm { .. } => vec![],
        EventKind::PrimaryAdopted { instance } => adopted(name, instance, known),
        EventKind::InstanceDiscovered { instance } if instance == primary => vec![],
        EventKind::InstanceDiscovered { instance } => vec![about("+slave", instance)],
        EventKind::InstanceDown { instance, .. } => vec![about("+sdown", instance)],
        EventKind::InstanceUp { instance } => vec![about("-sdown", instance)],
        EventKind::InstanceRestarted { instance } => vec![about("+reboot", instance)],
        EventKind::PrimaryDown {
            instance,
            witnesses,
            quorum,
        } => {
            let mut text = subject(name, instance, instance);
            append(
                &mut text,
                format_args!(" #quorum {}/{quorum}", witnesses.len()),
            );
            vec![message("+odown", text)]
        }
        EventKind::PrimaryDownRevoked { instance } => {
            vec![message("-odown", subject(name, instance, instance))]
        }
        EventKind::FailoverStarted { epoch } => vec![
            message("+new-epoch", epoch.to_string()),
            about("+try-failover", primary),
            about("+failover-state-select-slave", primary),
        ],
        EventKind::TargetSelected { instance } => vec![
            about("+selected-slave", instance),
            about("+failover-state-send-slaveof-noone", instance),
            about("+failover-state-wait-promotion", instance),
        ],
        EventKind::PrimarySwitched { from, to } => match from {
            // A node that caught up over several changes finds the primary where it was.
            Some(from) if from == to => vec![],
            Some(from) => switched(name, from, to, known),
            None => adopted(name, to, known),
        },
        EventKind::RepointSent { instance } => vec![about("+slave-reconf-sent", instance)],
        EventKind::RepointDone { instance } => vec![about("+slave-reconf-done", instance)],
        EventKind::Demoted { instance } => vec![about("+convert-to-slave", instance)],
        EventKind::FailoverEnded => vec![about("+failover-end", primary)],
        // Redis has one word for each cause; of ours, that nobody was promoted is what all have in common.
        EventKind::FailoverAborted { .. } => {
            vec![about("-failover-abort-no-good-slave", primary)]
        }
    }
}

/// Before the first primary only its adoption can be told: every other text names a primary.
fn without_primary(event: &Event, known: Option<&ServiceView>) -> Vec<Message> {
    match &event.kind {
        EventKind::PrimaryAdopted { instance } => adopted(&event.service, instance, known),
        EventKind::PrimarySwitched { to, .. } => adopted(&event.service, to, known),
        EventKind::FailoverStarted { epoch } => vec![message("+new-epoch", epoch.to_string())],
        EventKind::ServiceAdded
        | EventKind::SwitchoverStarted { .. }
        | EventKind::SwitchoverCalledOff { .. }
        | EventKind::DivergedKept { .. }
        | EventKind::InstanceDiscovered { .. }
        | EventKind::InstanceDown { .. }
        | EventKind::InstanceUp { .. }
        | EventKind::InstanceRestarted { .. }
        | EventKind::PrimaryDown { .. }
        | EventKind::PrimaryDownRevoked { .. }
        | EventKind::TargetSelected { .. }
        | EventKind::InstanceStranded { .. }
        | EventKind::RebuildSent { .. }
        | EventKind::RepointSent { .. }
        | EventKind::RepointDone { .. }
        | EventKind::Demoted { .. }
        | EventKind::FailoverEnded
        | EventKind::FailoverAborted { .. }
        | EventKind::Admitted { .. }
        | EventKind::Excluded { .. }
        | EventKind::Readmitted { .. }
        | EventKind::Alarm { .. } => vec![],
    }
}

/// `+monitor`, then every replica that is known at that moment.
fn adopted(name: &ServiceName, primary: &InstanceId, known: Option<&ServiceView>) -> Vec<Message> {
    let mut text = subject(name, primary, primary);
    if let Some(known) = known {
        append(&mut text, format_args!(" quorum {}", known.verdict_quorum));
    }
    let mut messages = vec![message("+monitor", text)];
    messages.extend(replicas(name, primary, None, known));
    messages
}

fn switched(
    name: &ServiceName,
    from: &InstanceId,
    to: &InstanceId,
    known: Option<&ServiceView>,
) -> Vec<Message> {
    let switch = format!(
        "{name} {} {} {} {}",
        from.host(),
        from.port(),
        to.host(),
        to.port()
    );
    let mut messages = vec![
        message("+promoted-slave", subject(name, from, to)),
        message("+failover-state-reconf-slaves", subject(name, from, from)),
        message("+switch-master", switch),
    ];
    messages.extend(replicas(name, to, Some(from), known));
    messages
}

/// `+slave` for the old primary, if there is one, and for all other replicas: clients that read from
/// replicas learn from it whom the new primary has.
fn replicas(
    name: &ServiceName,
    primary: &InstanceId,
    old: Option<&InstanceId>,
    known: Option<&ServiceView>,
) -> Vec<Message> {
    let others = known
        .into_iter()
        .flat_map(|known| known.instances.keys())
        .filter(|instance| Some(*instance) != old);
    old.into_iter()
        .chain(others)
        .filter(|instance| *instance != primary)
        .map(|instance| message("+slave", subject(name, primary, instance)))
        .collect()
}

fn message(channel: &'static str, payload: String) -> Message {
    Message { channel, payload }
}

/// `master <name> <ip> <port>`, or `slave <ip:port> <ip> <port> @ <name> <primary ip> <primary port>`.
fn subject(name: &ServiceName, primary: &InstanceId, instance: &InstanceId) -> String {
    let (host, port) = (instance.host(), instance.port());
    if instance == primary {
        return format!("master {name} {host} {port}");
    }
    format!(
        "slave {instance} {host} {port} @ {name} {} {}",
        primary.host(),
        primary.port()
    )
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    text.write_fmt(more)
        .expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use sentinel_core::detector::Evidence;
    use sentinel_core::id::{Epoch, Token};

    use super::*;

    const P: &str = "10.0.0.21:6379";
    const R: &str = "10.0.0.22:6380";

    fn at(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    fn lines(primary: Option<&str>, kind: EventKind) -> Vec<String> {
        let event = Event {
            service: "orders".into(),
            token: Token::default(),
            primary: primary.map(at),
            kind,
        };
        messages(&event, None)
            .into_iter()
            .map(|message| format!("{} {}", message.channel, message.payload))
            .collect()
    }

    const MASTER: &str = "master orders 10.0.0.21 6379";
    const SLAVE: &str = "slave 10.0.0.22:6380 10.0.0.22 6380 @ orders 10.0.0.21 6379";

    type Table = Vec<(EventKind, Vec<String>)>;

    fn check(table: Table) {
        for (kind, wanted) in table {
            assert_eq!(lines(Some(P), kind.clone()), wanted, "{kind:?}");
        }
    }

    // The texts are those that a Redis Sentinel 7.0.15 published during a failover.

    #[test]
    fn texts_of_health() {
        let down = |text| EventKind::InstanceDown {
            instance: at(text),
            evidence: Evidence::Silence,
        };
        check(vec![
            (down(P), vec![format!("+sdown {MASTER}")]),
            (down(R), vec![format!("+sdown {SLAVE}")]),
            (
                EventKind::InstanceUp { instance: at(R) },
                vec![format!("-sdown {SLAVE}")],
            ),
            (
                EventKind::PrimaryDown {
                    instance: at(P),
                    witnesses: vec!["s1".into(), "s2".into()],
                    quorum: 2,
                },
                vec![format!("+odown {MASTER} #quorum 2/2")],
            ),
            (
                EventKind::PrimaryDownRevoked { instance: at(P) },
                vec![format!("-odown {MASTER}")],
            ),
        ]);
    }

    #[test]
    fn texts_of_a_failover() {
        check(vec![
            (
                EventKind::FailoverStarted { epoch: Epoch(7) },
                vec![
                    "+new-epoch 7".into(),
                    format!("+try-failover {MASTER}"),
                    format!("+failover-state-select-slave {MASTER}"),
                ],
            ),
            (
                EventKind::TargetSelected { instance: at(R) },
                vec![
                    format!("+selected-slave {SLAVE}"),
                    format!("+failover-state-send-slaveof-noone {SLAVE}"),
                    format!("+failover-state-wait-promotion {SLAVE}"),
                ],
            ),
            (
                EventKind::PrimarySwitched {
                    from: Some(at(P)),
                    to: at(R),
                },
                vec![
                    format!("+promoted-slave {SLAVE}"),
                    format!("+failover-state-reconf-slaves {MASTER}"),
                    "+switch-master orders 10.0.0.21 6379 10.0.0.22 6380".into(),
                    "+slave slave 10.0.0.21:6379 10.0.0.21 6379 @ orders 10.0.0.22 6380".into(),
                ],
            ),
            (
                EventKind::RepointSent { instance: at(R) },
                vec![format!("+slave-reconf-sent {SLAVE}")],
            ),
            (
                EventKind::RepointDone { instance: at(R) },
                vec![format!("+slave-reconf-done {SLAVE}")],
            ),
            (
                EventKind::Demoted { instance: at(R) },
                vec![format!("+convert-to-slave {SLAVE}")],
            ),
            (
                EventKind::InstanceRestarted { instance: at(R) },
                vec![format!("+reboot {SLAVE}")],
            ),
            (
                EventKind::InstanceDiscovered { instance: at(R) },
                vec![format!("+slave {SLAVE}")],
            ),
            (
                EventKind::FailoverEnded,
                vec![format!("+failover-end {MASTER}")],
            ),
            (
                EventKind::FailoverAborted {
                    reason: "it is back".into(),
                },
                vec![format!("-failover-abort-no-good-slave {MASTER}")],
            ),
        ]);
    }

    #[test]
    fn what_redis_has_no_word_for_is_not_told() {
        check(vec![
            (
                EventKind::PrimarySwitched {
                    from: Some(at(P)),
                    to: at(P),
                },
                vec![],
            ),
            (
                EventKind::PrimaryAdopted { instance: at(P) },
                vec![format!("+monitor {MASTER}")],
            ),
            (EventKind::Admitted { instance: at(R) }, vec![]),
            (
                EventKind::Alarm {
                    text: "impossible".into(),
                },
                vec![],
            ),
        ]);
    }

    #[test]
    fn before_the_first_primary_little_can_be_said() {
        assert_eq!(
            lines(None, EventKind::InstanceUp { instance: at(R) }),
            Vec::<String>::new()
        );
        assert_eq!(
            lines(None, EventKind::PrimaryAdopted { instance: at(P) }),
            ["+monitor master orders 10.0.0.21 6379"]
        );
    }
}
