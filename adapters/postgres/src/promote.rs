//! Promotes a frozen standby, over the connection on which incarnation and position were just read.
//!
//! Quorum first, read back, then the promotion (rules S4 and S9). Knows the target of the decision and
//! the server; an order that comes again after it was carried out is found done.

use sentinel_core::id::Member;
use sentinel_core::observation::{Facts, Role, Upstream, WriteQuorum, Writes};
use sentinel_core::position::Position;
use sentinel_core::runtime::Stop;

use crate::act::{put_in_force, upstream};
use crate::line::Reading;
use crate::orders;
use crate::session::Session;

/// Whom a promotion is for: another life or a move since the decision ends it.
pub(crate) struct Target<'a> {
    pub(crate) expect: &'a Member,
    pub(crate) position: &'a Position,
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
                "its data have been replaced: they are {}, decided upon was {wanted}",
                facts.incarnation
            ));
        }
        let place = match upstream(facts) {
            None if facts.fork.as_ref().is_some_and(|fork| self.began(fork)) => {
                return Ok(Standing::Promoted);
            }
            None => return Err("it is a primary already, promoted from another position".into()),
            Some(Upstream::Instance(instance)) => {
                return Err(format!("it is not frozen and may receive from {instance}"));
            }
            Some(Upstream::Frozen) => facts.position.as_ref(),
        };
        if place != Some(self.position) {
            let place = place.map_or("an unknown position".into(), ToString::to_string);
            return Err(format!(
                "it is at {place}, decided upon was {}",
                self.position
            ));
        }
        Ok(Standing::Ready)
    }

    /// Whether a branch that left its parent here began with this promotion: at the end of the last
    /// whole record before the position.
    fn began(&self, fork: &Position) -> bool {
        fork.lineage == self.position.lineage && fork.offset <= self.position.offset
    }
}

pub(crate) async fn promote(
    session: &mut Session<'_>,
    found: &Reading,
    target: &Target<'_>,
    quorum: &WriteQuorum,
) -> Result<Reading, Stop> {
    let expected = |session: &Session<'_>, facts: &Facts| {
        target.standing(facts).map_err(|text| session.stop(&text))
    };
    if expected(session, &found.facts)? == Standing::Ready && found.facts.writes == Writes::Refused
    {
        // Left over from a time as a primary that had too few standbys, or was fenced. Read with the quorum.
        let accept = orders::set("default_transaction_read_only", "off");
        session.order(&accept).await?;
    }
    let prepared = put_in_force(session, found, quorum).await?;
    match expected(session, &prepared.facts)? {
        Standing::Promoted => return Ok(prepared),
        Standing::Ready => {}
    }
    session.order(orders::PROMOTE).await?;
    let promoted = loop {
        let reading = session.read().await?;
        // Without its fork nobody can tell from where it was promoted.
        if reading.facts.role == Role::Primary && reading.facts.fork.is_some() {
            break reading;
        }
        let goes_on = |_| Stop::UnderWay("told to promote, and not primary yet".into());
        session.pause("still a standby").await.map_err(goes_on)?;
    };
    match expected(session, &promoted.facts)? {
        Standing::Promoted => Ok(promoted),
        Standing::Ready => {
            Err(session.stop("still frozen when read back; somebody else has changed the role"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::samples;
    use sentinel_core::id::{Incarnation, InstanceId};
    use sentinel_core::observation::Link;
    use sentinel_core::position::{Lineage, Offset};

    fn at(lineage: &str, offset: u64) -> Position {
        Position {
            lineage: Lineage::new(lineage),
            offset: Offset(offset),
        }
    }

    fn facts(role: Role, position: Position, fork: Option<Position>) -> Facts {
        Facts {
            position: Some(position),
            fork,
            ..samples::of(role)
        }
    }

    fn frozen() -> Role {
        Role::Replica {
            upstream: Upstream::Frozen,
            link: Link::Broken,
        }
    }

    #[test]
    fn a_target_is_ready_promoted_or_somebody_else() {
        let expect = Member {
            instance: InstanceId::new("a", 1),
            incarnation: Incarnation::new("7.1"),
        };
        let position = at("7/1@0/0", 100);
        let target = Target {
            expect: &expect,
            position: &position,
        };
        let standing = |facts: &Facts| target.standing(facts).ok();
        let ready = facts(frozen(), position.clone(), None);
        assert_eq!(standing(&ready), Some(Standing::Ready));
        let mut moved = ready.clone();
        moved.position = Some(at("7/1@0/0", 101));
        assert_eq!(standing(&moved), None);
        let mut rebuilt = ready;
        rebuilt.incarnation = Incarnation::new("7.2");
        assert_eq!(standing(&rebuilt), None);
        for (fork, wanted) in [
            (at("7/1@0/0", 100), Some(Standing::Promoted)),
            // A record that was torn at the end is not part of the new branch.
            (at("7/1@0/0", 90), Some(Standing::Promoted)),
            (at("7/1@0/0", 101), None),
            (at("7/2@0/9", 100), None),
        ] {
            let promoted = facts(Role::Primary, at("7/2@0/64", 120), Some(fork.clone()));
            assert_eq!(standing(&promoted), wanted, "{fork}");
        }
        assert_eq!(
            standing(&facts(Role::Primary, at("7/1@0/0", 100), None)),
            None
        );
    }
}
