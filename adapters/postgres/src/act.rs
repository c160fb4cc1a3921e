//! Carries out one action on one instance, and reads back what came of it.
//!
//! Decides from what the server says on the very connection that then acts. Knows the action and
//! the server; does not know the protocol's stage or earlier actions, except that an action with a lower
//! token than one that this node has begun on the instance is refused, and since when pointing the
//! instance elsewhere is a hazard.

use std::sync::Arc;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::Token;
use sentinel_core::observation::{Facts, Persistable, Role, Upstream, WriteQuorum, Writes};
use sentinel_core::runtime::{Stop, Turn};

use crate::connection::Connection;
use crate::demote;
use crate::follow::{self, Doubt};
use crate::line::{Line, Reading};
use crate::orders;
use crate::promote::{self, Target};
use crate::query::Place;
use crate::session::Session;
use crate::sync_names;

/// The state of the actions on one instance; they run one after the other.
#[derive(Debug, Default)]
pub(crate) struct Acting {
    connection: Option<Connection>,
    doubt: Doubt,
}

/// What can be done only on the server's host.
const NEEDS_AGENT: &str = "it needs an agent on the host, or a hand";

/// `upstream` leads to the primary that the instance is to follow.
pub(crate) async fn carry_out(line: &Line, upstream: Option<Arc<Line>>, action: Action) -> Outcome {
    let mut acting = match line.acting.take(&line.context.clock, &action).await {
        Ok(acting) => acting,
        Err(stop) => return stop.into(),
    };
    match in_session(line, upstream.as_deref(), &mut acting, &action).await {
        Ok(facts) => Outcome::Done(Box::new(facts)),
        Err(stop) => {
            tracing::debug!(instance = %line.instance, action = action.kind.word(), token = %action.token, ?stop, "action not done");
            stop.into()
        }
    }
}

/// A connection on which an action did not end well is not used again.
async fn in_session(
    line: &Line,
    upstream: Option<&Line>,
    acting: &mut Turn<'_, Acting>,
    action: &Action,
) -> Result<Facts, Stop> {
    let standing = acting.connection.take();
    let (mut session, found) = Session::begin(line, standing, action.deadline).await?;
    if let Persistable::No(why) = &found.facts.persistable {
        return Err(Stop::Refused(format!("the server {why}")));
    }
    acting.begin();
    session.close_others().await?;
    let reading = match &action.kind {
        ActionKind::Freeze | ActionKind::StandDown { .. } => {
            freeze(line, &mut session, &found, action.token).await
        }
        ActionKind::Unfreeze { primary }
        | ActionKind::Repoint { primary }
        | ActionKind::Demote { primary } => {
            let order = follow::Order {
                primary,
                upstream,
                token: action.token,
            };
            match (&action.kind, &found.status.place) {
                (ActionKind::Demote { .. }, Place::Primary { .. }) => {
                    demote::fence(&mut session, &found, &order).await
                }
                (_, Place::Primary { .. } | Place::Standby(_)) => {
                    follow::follow(line, &mut session, &found, &order, &mut acting.doubt).await
                }
            }
        }
        ActionKind::Configure { quorum } => configure(&mut session, &found, quorum).await,
        ActionKind::Promote {
            expect,
            position,
            quorum,
        } => {
            let target = Target { expect, position };
            promote::promote(&mut session, &found, &target, quorum).await
        }
        ActionKind::RefuseWrites => writes(&mut session, Writes::Refused).await,
        ActionKind::AcceptWrites => writes(&mut session, Writes::Taken).await,
        ActionKind::Rebuild { .. } | ActionKind::Pause { .. } | ActionKind::Resume => {
            Err(session.stop(NEEDS_AGENT))
        }
    }?;
    acting.connection = Some(session.end());
    Ok(reading.facts)
}

/// Receives from nobody. A receiver is stopped by the process that replays, when that has replayed all it
/// has: a replay that lags delays the freeze, a paused one is resumed, and one that is delayed on purpose
/// (`recovery_min_apply_delay`) leaves the outcome unknown until the delay is over. The position is final once the receiver's process is gone and the process that
/// starts receivers has come by once more without one: two readings in a row show it.
async fn freeze(
    line: &Line,
    session: &mut Session<'_>,
    found: &Reading,
    token: Token,
) -> Result<Reading, Stop> {
    if matches!(found.status.place, Place::Primary { .. }) {
        return Err(session.stop(
            "it is a primary, which only an agent on its host can stop from being one; a lower write quorum cannot make it acknowledge",
        ));
    }
    let nobody = never_alone(found, token);
    let mut settings = vec![("primary_conninfo", "")];
    settings.extend(nobody.as_deref().map(|names| (SYNC_NAMES, names)));
    // Opened while the receiver still runs: its end leaves the timeline to be asked for.
    let (frozen, ()) = tokio::join!(session.set(&settings), line.prepare());
    frozen?;
    if matches!(&found.status.place, Place::Standby(place) if place.replay_paused) {
        tracing::warn!(service = %line.service, instance = %line.instance, "replay was paused and goes on: a standby stops receiving only when it has replayed what it has");
        session.order(orders::RESUME_REPLAY).await?;
    }
    let still = "a WAL receiver still runs";
    let mut before = session.until(still, receives_nothing).await?;
    loop {
        session.pause(still).await?;
        let reading = session.read().await?;
        if receives_nothing(&before) && receives_nothing(&reading) {
            return match upstream(&reading.facts) {
                Some(Upstream::Frozen) => {
                    // Refused by a standby that is on its way to be a primary: an order to promote of an earlier
                    // epoch has reached it, and a freeze ends no promotion. The process that would tell so came by
                    // just now.
                    session.order(orders::RESUME_REPLAY).await?;
                    Ok(reading)
                }
                Some(Upstream::Instance(_)) | None => {
                    Err(session
                        .stop("not frozen when read back; somebody else has changed the role"))
                }
            };
        }
        before = reading;
    }
}

fn receives_nothing(reading: &Reading) -> bool {
    match &reading.status.place {
        // Promoted by somebody else; the caller says so.
        Place::Primary { .. } => true,
        Place::Standby(place) => {
            reading.status.settings.conninfo.0.is_empty()
                && !place.receiver_runs
                && place.receiver.is_none()
                && place.startup_waits.as_deref() != Some("RecoveryWalStream")
        }
    }
}

/// The setting of the write quorum.
pub(crate) const SYNC_NAMES: &str = "synchronous_standby_names";

/// What a standby without any write quorum gets: a server that has never had one takes a moment to make
/// commits wait, and must not have that moment after its promotion.
pub(crate) fn never_alone(found: &Reading, token: Token) -> Option<String> {
    let unset = found.status.settings.sync_names.is_empty();
    unset.then(|| sync_names::nobody(token))
}

/// Puts a write quorum in force: written, read by the session, and by every process that releases
/// commits. A sender that has not read it yet still counts by the old one, and says so.
pub(crate) async fn put_in_force(
    session: &mut Session<'_>,
    found: &Reading,
    quorum: &WriteQuorum,
) -> Result<Reading, Stop> {
    let wanted = match sync_names::setting(quorum) {
        Ok(wanted) => wanted,
        Err(error) => return Err(session.stop(&error.to_string())),
    };
    session.set(&[(SYNC_NAMES, &wanted)]).await?;
    let reading = session
        .until("another write quorum is in force", |reading| {
            reading.status.settings.sync_names == wanted
        })
        .await?;
    if found.status.settings.sync_names.is_empty() {
        until_commits_wait(session).await?;
    }
    if strangers(&reading, quorum).is_empty() {
        return Ok(reading);
    }
    until_senders_agree(session, quorum).await
}

/// Until the process has read the setting that tells all others whether commits wait for standbys.
async fn until_commits_wait(session: &mut Session<'_>) -> Result<(), Stop> {
    loop {
        let waits = session.ask(orders::CHECKPOINTER).await?;
        if waits
            .iter()
            .all(|wait| orders::CHECKPOINTER_WAITS.contains(&wait.as_str()))
        {
            return Ok(());
        }
        session
            .pause("the checkpointer has not read the write quorum")
            .await?;
    }
}

/// Senders have some rounds to read the setting by themselves: one that is ended comes back only after
/// its standby's `wal_retrieve_retry_interval`.
async fn until_senders_agree(
    session: &mut Session<'_>,
    quorum: &WriteQuorum,
) -> Result<Reading, Stop> {
    const ROUNDS: u32 = 10;
    let members: Vec<String> = quorum.members.iter().map(ToString::to_string).collect();
    let mut round = 0;
    loop {
        let reading = session.read().await?;
        let strangers = strangers(&reading, quorum);
        if strangers.is_empty() {
            return Ok(reading);
        }
        round += 1;
        if round == ROUNDS {
            session.order(&orders::close_senders(&members)).await?;
        }
        let names = strangers.join(", ");
        session
            .pause(&format!("{names} still counted outside the write quorum"))
            .await?;
    }
}

/// Who counts for synchronous commits without being a member.
fn strangers(reading: &Reading, quorum: &WriteQuorum) -> Vec<String> {
    let rows = reading.status.receivers.iter();
    let strangers = rows.filter(|row| {
        let member = row
            .name
            .parse()
            .is_ok_and(|name| quorum.members.contains(&name));
        row.synchronous && !member
    });
    strangers.map(|row| row.name.clone()).collect()
}

async fn configure(
    session: &mut Session<'_>,
    found: &Reading,
    quorum: &WriteQuorum,
) -> Result<Reading, Stop> {
    put_in_force(session, found, quorum).await
}

async fn writes(session: &mut Session<'_>, wanted: Writes) -> Result<Reading, Stop> {
    let value = match wanted {
        Writes::Refused => "on",
        Writes::Taken | Writes::Itself => "off",
    };
    session
        .set(&[("default_transaction_read_only", value)])
        .await?;
    session
        .until("not read back", |reading| reading.facts.writes == wanted)
        .await
}

pub(crate) fn upstream(facts: &Facts) -> Option<&Upstream> {
    match &facts.role {
        Role::Primary => None,
        Role::Replica { upstream, .. } => Some(upstream),
    }
}
