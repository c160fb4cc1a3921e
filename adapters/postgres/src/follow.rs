//! Points a standby at a primary by a reload, after a look at where the two histories part.
//!
//! A standby that would stop replicating, or whose server would exit, is left alone for a moment, so that
//! safe standbys go first, and then pointed there all the same: a second start repairs it, and without an
//! agent only a service manager can make one. A standby that has diverged is refused. Knows the standby
//! and the primary, as just read; does not know who else follows.

use std::time::{Duration, Instant};

use sentinel_core::id::{InstanceId, Token};
use sentinel_core::observation::Upstream;
use sentinel_core::runtime::{ConnectionError, Stop};
use tokio::time::timeout;

use crate::act::{SYNC_NAMES, never_alone, upstream};
use crate::conninfo::Conninfo;
use crate::hazard::{self, Judgement, Reached};
use crate::line::{Line, Reading};
use crate::query::{Place, Status};
use crate::session::Session;

/// How long safe standbys go before one in the hazard.
const OTHERS_FIRST: Duration = Duration::from_millis(500);

/// Whom to follow.
pub(crate) struct Order<'a> {
    pub(crate) primary: &'a InstanceId,
    /// The line to it.
    pub(crate) upstream: Option<&'a Line>,
    pub(crate) token: Token,
}

/// Since when pointing the instance at a primary is a hazard.
#[derive(Debug, Default)]
pub(crate) struct Doubt(Option<(InstanceId, Instant)>);

impl Doubt {
    fn elapsed(&mut self, primary: &InstanceId) -> Duration {
        match &self.0 {
            Some((of, since)) if of == primary => since.elapsed(),
            Some(_) | None => {
                self.0 = Some((primary.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }
}

pub(crate) async fn follow(
    line: &Line,
    session: &mut Session<'_>,
    found: &Reading,
    order: &Order<'_>,
    doubt: &mut Doubt,
) -> Result<Reading, Stop> {
    let primary = order.primary;
    if *primary == line.instance {
        return Err(session.stop("an instance cannot receive from itself"));
    }
    let (there, slots) = counterpart(session, found, order).await?;
    match judge(found, &there)? {
        Judgement::Safe => doubt.0 = None,
        Judgement::Diverged => {
            return Err(session.stop(&format!(
                "it holds history that {primary} does not have, and must be rewound or rebuilt: that needs an agent on its host, or a hand (pg_rewind or pg_basebackup)"
            )));
        }
        Judgement::Hazard => {
            if doubt.elapsed(primary) < OTHERS_FIRST {
                return Err(session.stop(
                    "it may stop when it is pointed at a new timeline just here: safe standbys go first",
                ));
            }
            tracing::warn!(service = %line.service, instance = %line.instance, %primary, "pointed at a new timeline although its log ends where that has been seen to stop a server once; see that something starts it again");
        }
    }
    point(line, session, found, order, &slots).await
}

/// The primary and the names of its slots, provided that it holds the same database as the server of the session. A
/// server of somebody else at an address of ours is never touched.
pub(crate) async fn counterpart(
    session: &Session<'_>,
    found: &Reading,
    order: &Order<'_>,
) -> Result<(Reading, Vec<String>), Stop> {
    let Some(upstream) = order.upstream else {
        return Err(session.stop("the primary has no settings on this node"));
    };
    let (there, slots) = look(session, upstream).await?;
    if there.status.system == found.status.system {
        return Ok((there, slots));
    }
    Err(session.stop(&format!(
        "{} holds another database: its system identifier is {}, here it is {}",
        order.primary, there.status.system.0, found.status.system.0
    )))
}

/// The primary, and the names of its slots.
async fn look(session: &Session<'_>, upstream: &Line) -> Result<(Reading, Vec<String>), Stop> {
    let both = async {
        let there = upstream.look().await?;
        let slots = upstream.slots().await?;
        Ok((there, slots))
    };
    let at = &upstream.instance;
    match timeout(session.left(), both).await {
        Ok(Ok((Some(there), slots))) => Ok((there, slots)),
        Ok(Ok((None, _))) | Err(_) => Err(session.stop(&format!("{at} does not answer"))),
        Ok(Err::<_, ConnectionError>(error)) => {
            Err(session.stop(&format!("{at} could not be read: {error}")))
        }
    }
}

fn judge(found: &Reading, there: &Reading) -> Result<Judgement, Stop> {
    let Place::Standby(place) = &found.status.place else {
        return Err(Stop::Refused(
            "it is a primary: to make a standby of it needs an agent on its host, or a hand".into(),
        ));
    };
    let Some(server) = &there.history else {
        return Err(Stop::Refused(
            "the primary's timeline is not known, so that nobody can tell whether this standby has diverged".into(),
        ));
    };
    let Some(history) = &found.history else {
        return Ok(Judgement::Hazard);
    };
    let reached = Reached {
        timeline: history.timeline(),
        fork: history.fork(),
        received: place.received,
        replayed: place.replayed,
    };
    Ok(hazard::judge(
        reached,
        server,
        found.status.settings.segment,
    ))
}

async fn point(
    line: &Line,
    session: &mut Session<'_>,
    found: &Reading,
    order: &Order<'_>,
    slots: &[String],
) -> Result<Reading, Stop> {
    let conninfo = match Conninfo::follow(&line.instance, order.primary, &line.settings) {
        Ok(conninfo) => conninfo,
        Err(error) => return Err(session.stop(&error.to_string())),
    };
    let slot = slot(&line.instance, &found.status, slots);
    let nobody = never_alone(found, order.token);
    let mut settings = vec![("primary_conninfo", conninfo.reveal())];
    if slot != found.status.settings.slot_name {
        settings.push(("primary_slot_name", &slot));
    }
    settings.extend(nobody.as_deref().map(|names| (SYNC_NAMES, names)));
    session.set(&settings).await?;
    let reading = session
        .until("another upstream is in force", |reading| {
            let settings = &reading.status.settings;
            settings.conninfo.0 == conninfo.reveal() && settings.slot_name == slot
        })
        .await?;
    match upstream(&reading.facts) {
        Some(Upstream::Instance(instance)) if instance == order.primary => Ok(reading),
        Some(Upstream::Instance(_) | Upstream::Frozen) | None => {
            Err(session.stop("another upstream when read back; somebody else has changed the role"))
        }
    }
}

/// The slot of this standby on the primary: the one that it used, or the one that bears its name; none
/// when the primary has neither, because a standby does not stream from a slot that is not there.
fn slot(instance: &InstanceId, status: &Status, slots: &[String]) -> String {
    let used = &status.settings.slot_name;
    let own = slot_name(instance);
    [used, &own]
        .into_iter()
        .find(|name| !name.is_empty() && slots.contains(name))
        .cloned()
        .unwrap_or_default()
}

/// The name of an instance as that of a slot, which takes small letters, digits and `_`.
pub(crate) fn slot_name(instance: &InstanceId) -> String {
    let name = format!("sentinel_{}_{}", instance.host(), instance.port());
    let mut name: String = name
        .chars()
        .map(|letter| match letter.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => letter,
            _ => '_',
        })
        .collect();
    name.truncate(63);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_named_after_instances() {
        for (host, wanted) in [
            ("10.0.0.21", "sentinel_10_0_0_21_5432"),
            ("DB-1.example.org", "sentinel_db_1_example_org_5432"),
            ("2001:db8::1", "sentinel_2001_db8__1_5432"),
        ] {
            assert_eq!(slot_name(&InstanceId::new(host, 5432)), wanted);
        }
    }
}
