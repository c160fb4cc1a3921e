//! Carries out one action on one instance, and reads back what came of it.
//!
//! Decides from what the server says on the very connection that then acts. Knows the action and
//! the server; does not know the protocol's stage, other instances or earlier actions, except that
//! an action with a lower token than one that this node has begun on the instance is refused.
//!
//! An instance without a configuration file is refused before anything is sent. When only the
//! writing of the file fails, inside the transaction, the role has changed already: the outcome is
//! `Unknown`, and reading shows what is in force.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{InstanceId, Member};
use sentinel_core::observation::{Facts, Persistable, Role, Upstream, WriteQuorum};
use sentinel_core::position::Position;
use sentinel_core::runtime::{Stop, Turn};

use crate::demote;
use crate::line::{Acting, Line};
use crate::orders;
use crate::reading::Reading;
use crate::session::Session;

/// `upstream` leads to the primary that a demoted instance is to follow.
pub(crate) async fn carry_out(line: &Line, upstream: Option<Arc<Line>>, action: Action) -> Outcome {
    let mut acting = match line.acting.take(&line.context.clock, &action).await {
        Ok(acting) => acting,
        Err(stop) => return stop.into(),
    };
    match in_session(line, upstream.as_ref(), &mut acting, &action).await {
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
    upstream: Option<&Arc<Line>>,
    acting: &mut Turn<'_, Acting>,
    action: &Action,
) -> Result<Facts, Stop> {
    let standing = acting.connection.take();
    let (mut session, found) = Session::begin(line, standing, action.deadline).await?;
    if let Persistable::No(why) = &found.facts.persistable {
        return Err(Stop::Refused(format!("the server {why}")));
    }
    acting.begin();
    let facts = match &action.kind {
        ActionKind::Freeze | ActionKind::StandDown { .. } => freeze(&mut session).await,
        ActionKind::Unfreeze { primary } | ActionKind::Repoint { primary } => {
            follow(line, &mut session, &found, primary).await
        }
        ActionKind::Demote { primary } | ActionKind::Rebuild { primary, .. } => {
            demote::save(line, upstream, &mut session, &mut acting.copying, &found).await?;
            follow(line, &mut session, &found, primary).await
        }
        ActionKind::Configure { quorum } => configure(line, &mut session, &found, quorum).await,
        ActionKind::Promote {
            expect,
            position,
            quorum,
        } => {
            let target = Target { expect, position };
            promote(line, &mut session, found, &target, quorum).await
        }
        ActionKind::Pause { limit } => pause(&mut session, &found, *limit).await,
        ActionKind::Resume => {
            session.transact(orders::resume()).await?;
            session.read().await.map(|reading| reading.facts)
        }
        ActionKind::RefuseWrites | ActionKind::AcceptWrites => Err(Stop::Refused(
            "nothing was sent: the server refuses writes by itself, by min-replicas-to-write"
                .into(),
        )),
    }?;
    acting.connection = Some(session.end());
    Ok(facts)
}

async fn freeze(session: &mut Session<'_>) -> Result<Facts, Stop> {
    session.transact(orders::freeze()).await?;
    let facts = session.read().await?.facts;
    match upstream(&facts) {
        Some(Upstream::Frozen) => Ok(facts),
        Some(Upstream::Instance(_)) | None => {
            Err(session.stop("not frozen when read back; somebody else has changed the role"))
        }
    }
}

async fn follow(
    line: &Line,
    session: &mut Session<'_>,
    found: &Reading,
    primary: &InstanceId,
) -> Result<Facts, Stop> {
    if *primary == line.instance {
        return Err(session.stop("an instance cannot receive from itself"));
    }
    session
        .transact(orders::follow(primary, &line.settings, found))
        .await?;
    let facts = session.read().await?.facts;
    match upstream(&facts) {
        Some(Upstream::Instance(instance)) if instance == primary => Ok(facts),
        Some(Upstream::Instance(_) | Upstream::Frozen) | None => {
            Err(session.stop("another upstream when read back; somebody else has changed the role"))
        }
    }
}

async fn configure(
    line: &Line,
    session: &mut Session<'_>,
    found: &Reading,
    quorum: &WriteQuorum,
) -> Result<Facts, Stop> {
    session
        .transact(orders::configure(quorum, &line.settings, found))
        .await?;
    let facts = session.read().await?.facts;
    in_force(session, &facts, quorum)?;
    Ok(facts)
}

fn in_force(session: &Session<'_>, facts: &Facts, quorum: &WriteQuorum) -> Result<(), Stop> {
    if facts.write_quorum.as_ref() == Some(quorum) {
        return Ok(());
    }
    Err(session.stop("another write quorum when read back; somebody else has changed it"))
}

fn upstream(facts: &Facts) -> Option<&Upstream> {
    match &facts.role {
        Role::Primary => None,
        Role::Replica { upstream, .. } => Some(upstream),
    }
}

/// The position is read after the pause began, so that it is the last one.
async fn pause(session: &mut Session<'_>, found: &Reading, limit: Duration) -> Result<Facts, Stop> {
    if found.facts.role != Role::Primary {
        return Err(session.stop("it is no primary, so there are no writes to pause"));
    }
    session.transact(orders::pause(limit)).await?;
    session.read().await.map(|reading| reading.facts)
}

/// Whom a promotion is for: a restart or a move since the decision ends it.
struct Target<'a> {
    expect: &'a Member,
    position: &'a Position,
}

/// How a server stands to the promotion.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It is frozen where it was decided upon.
    Ready,
    /// It has been promoted from that very position already.
    Promoted,
}

impl Target<'_> {
    fn standing(&self, facts: &Facts) -> Result<Standing, String> {
        let wanted = &self.expect.incarnation;
        if facts.incarnation != *wanted {
            return Err(format!(
                "the server has restarted: its run id is {}, decided upon was {wanted}",
                facts.incarnation
            ));
        }
        let place = match upstream(facts) {
            None if facts.fork.as_ref() == Some(self.position) => return Ok(Standing::Promoted),
            None => return Err("it is a primary already, promoted from another position".into()),
            Some(Upstream::Instance(instance)) => {
                return Err(format!("it is not frozen and may receive from {instance}"));
            }
            Some(Upstream::Frozen) => facts.position.as_ref(),
        };
        if !facts.synced {
            return Err("it does not hold a whole copy of the data".into());
        }
        if place != Some(self.position) {
            let place = place.map_or("an unknown position".into(), ToString::to_string);
            return Err(format!(
                "it is at {place}, decided upon was {}",
                self.position
            ));
        }
        Ok(Standing::Ready)
    }
}

/// Quorum first, read back, then the promotion, over the connection on which incarnation and
/// position were just read (rules S4 and S9).
async fn promote(
    line: &Line,
    session: &mut Session<'_>,
    found: Reading,
    target: &Target<'_>,
    quorum: &WriteQuorum,
) -> Result<Facts, Stop> {
    let expected = |session: &Session<'_>, facts: &Facts| {
        target.standing(facts).map_err(|text| session.stop(&text))
    };
    expected(session, &found.facts)?;
    session
        .transact(orders::prepare(quorum, &line.settings, &found))
        .await?;
    let prepared = session.read().await?;
    in_force(session, &prepared.facts, quorum)?;
    let commands = match expected(session, &prepared.facts)? {
        Standing::Ready => orders::promote(&prepared),
        Standing::Promoted => orders::configure(quorum, &line.settings, &prepared),
    };
    session.transact(commands).await?;
    let facts = session.read().await?.facts;
    match expected(session, &facts)? {
        Standing::Promoted => Ok(facts),
        Standing::Ready => {
            Err(session.stop("still frozen when read back; somebody else has changed the role"))
        }
    }
}
