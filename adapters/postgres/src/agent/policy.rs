//! Decides what is done without an order: about a server that does not run, and about one that runs as a primary while
//! another one is.
//!
//! Pure. A standby is started again. A primary only while the committed table says that it still is the primary, and no
//! failover is about to choose another: otherwise it is either left alone, or turned into a standby of the one that is.

use std::time::Duration;

use sentinel_core::id::{Epoch, InstanceId, Token};

use super::standing::{Failover, Standing};

/// What is in the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Nothing: it is to become a standby.
    Empty,
    /// A standby.
    Standby,
    /// A primary, or one that was.
    Primary,
    /// A job has it in its hands, and has not finished.
    Unfinished,
}

/// Everything that the decision is made from.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) own: &'a InstanceId,
    pub(super) folder: Folder,
    pub(super) standing: &'a Standing,
    /// The highest epoch of which an order was accepted, or carried out on the server.
    pub(super) accepted: Epoch,
    /// How long the server has been down.
    pub(super) down: Duration,
    /// How often it was started since it last ran for a while.
    pub(super) failures: u32,
    /// Since the last try.
    pub(super) tried: Option<Duration>,
    pub(super) restart_after: Duration,
    /// The pause in which the server is, or which it has outlasted.
    pub(super) pause: Option<Pause>,
    /// How long no leader has been heard, as far as this agent knows.
    pub(super) unheard: Duration,
}

/// The order that stopped a server for a switchover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) token: Token,
    pub(super) limit: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Look again after this time, or when something changed.
    Wait(Duration),
    /// Look again when something changed; why.
    Leave(&'static str),
    /// Start it as it is.
    Start,
    /// Start it as it is, if enough of its standbys still follow it.
    Return,
    /// Make it a standby of this primary.
    Follow(InstanceId),
}

/// The first failure is followed by this pause, each other by twice as long, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_DOUBLINGS_MAX: u32 = 7;

/// A failover that has chosen nobody in so long lacks a standby that can be frozen: its primary is the way out, and takes no
/// write that a frozen standby would have to acknowledge. One that gets on takes tenths of a second.
const FREEZING_MAX: Duration = Duration::from_secs(5);

/// Decides about a server that does not run.
pub(super) fn decide(situation: &Situation<'_>) -> Decision {
    // News older than the orders that were obeyed would undo them.
    let current = situation.standing.epoch >= situation.accepted;
    let primary = situation.standing.primary.as_ref().filter(|_| current);
    match (situation.folder, primary) {
        (Folder::Standby, _) => start(situation, Duration::ZERO),
        (Folder::Primary, Some(primary)) if primary == situation.own => {
            let grace = situation.restart_after;
            match situation.standing.failover {
                Failover::None => start(situation, grace),
                Failover::Freezing => start(situation, grace.max(FREEZING_MAX)),
                Failover::UnderWay => Decision::Leave("a failover is under way"),
            }
        }
        (Folder::Primary, Some(primary)) => follow(situation, primary),
        (Folder::Empty | Folder::Unfinished, Some(primary)) if primary != situation.own => {
            follow(situation, primary)
        }
        (Folder::Empty, Some(_)) => Decision::Leave("the committed primary has no data folder"),
        (Folder::Unfinished, Some(_)) => Decision::Leave(
            "the committed primary's data folder is in the hands of an unfinished job",
        ),
        (Folder::Primary, None) => alone(situation),
        (Folder::Empty | Folder::Unfinished, None) => Decision::Leave(UNKNOWN),
    }
}

const UNKNOWN: &str = "it is not known who is the primary";
const OBEYED: &str = "no leader is heard, and an order of a later failover than its pause has come: it stays stopped until a leader is heard; \
    bring back a majority of the voters";
const REPLACED: &str = "no leader is heard, and another instance was chosen in its place: it stays stopped until a leader is heard; \
    bring back a majority of the voters";

/// Decides about a primary while no leader is heard. One that was stopped for a switchover comes back when the pause is
/// over and nobody was heard for as long, unless this host knows that somebody else was to take its place.
fn alone(situation: &Situation<'_>) -> Decision {
    let (Some(pause), Some(silence)) = (&situation.pause, &situation.standing.silence) else {
        return Decision::Leave(UNKNOWN);
    };
    // What is older than the pause says nothing: the pause was ordered of the one with the authority.
    let others = silence
        .authority
        .as_ref()
        .filter(|authority| *authority != situation.own);
    if situation.accepted > pause.token.epoch {
        return Decision::Leave(OBEYED);
    }
    if others.is_some() && silence.token >= pause.token {
        return Decision::Leave(REPLACED);
    }
    let left = pause.limit.saturating_sub(situation.unheard);
    if !left.is_zero() {
        return Decision::Wait(left);
    }
    match start(situation, Duration::ZERO) {
        Decision::Start => Decision::Return,
        other @ (Decision::Wait(_)
        | Decision::Leave(_)
        | Decision::Return
        | Decision::Follow(_)) => other,
    }
}

/// Who is the primary in place of a server that runs as one, by a table at rest that is not older than what was ordered
/// here.
pub(super) fn deposed<'a>(
    own: &InstanceId,
    folder: Folder,
    standing: &'a Standing,
    accepted: Epoch,
) -> Option<&'a InstanceId> {
    let current = standing.failover == Failover::None && standing.epoch >= accepted;
    let other = standing.primary.as_ref().filter(|primary| *primary != own);
    match folder {
        Folder::Primary => other.filter(|_| current),
        Folder::Empty | Folder::Standby | Folder::Unfinished => None,
    }
}

fn start(situation: &Situation<'_>, grace: Duration) -> Decision {
    let pause = match situation.failures {
        0 => Duration::ZERO,
        failures => PAUSE * 2u32.pow((failures - 1).min(PAUSE_DOUBLINGS_MAX)),
    };
    let tried = situation.tried.unwrap_or(Duration::MAX);
    let left = grace
        .saturating_sub(situation.down)
        .max(pause.saturating_sub(tried));
    match left.is_zero() {
        true => Decision::Start,
        false => Decision::Wait(left),
    }
}

/// An order is waited for first: it comes with authority, and may be another.
fn follow(situation: &Situation<'_>, primary: &InstanceId) -> Decision {
    let left = situation.restart_after.saturating_sub(situation.down);
    match left.is_zero() {
        true if situation.standing.failover == Failover::None => Decision::Follow(primary.clone()),
        true => Decision::Leave("a failover is under way"),
        false => Decision::Wait(left),
    }
}

#[cfg(test)]
mod tests {
    use super::super::standing::Silence;
    use super::*;

    fn instance(port: u16) -> InstanceId {
        InstanceId::new("10.0.0.1", port)
    }

    fn decided(
        folder: Folder,
        primary: Option<u16>,
        change: impl FnOnce(&mut Situation<'_>, &mut Standing),
    ) -> Decision {
        let own = instance(1);
        let mut standing = Standing {
            primary: primary.map(instance),
            epoch: Epoch(3),
            failover: Failover::None,
            silence: None,
        };
        let unused = Standing::default();
        let mut situation = Situation {
            own: &own,
            folder,
            standing: &unused,
            accepted: Epoch(3),
            down: Duration::from_secs(9),
            failures: 0,
            tried: None,
            restart_after: Duration::from_secs(1),
            pause: None,
            unheard: Duration::ZERO,
        };
        change(&mut situation, &mut standing);
        let situation = Situation {
            standing: &standing,
            ..situation
        };
        decide(&situation)
    }

    #[test]
    fn a_primary_is_started_only_while_it_is_the_committed_one() {
        let primary = Folder::Primary;
        assert_eq!(decided(primary, Some(1), |_, _| {}), Decision::Start);
        assert_eq!(
            decided(primary, Some(2), |_, _| {}),
            Decision::Follow(instance(2))
        );
        assert!(matches!(
            decided(primary, None, |_, _| {}),
            Decision::Leave(_)
        ));
        let unsteady = decided(primary, Some(1), |_, standing| {
            standing.failover = Failover::UnderWay
        });
        assert!(matches!(unsteady, Decision::Leave(_)));
        // A failover that does not get on, for want of a standby that can be frozen.
        let stuck = |down| {
            decided(primary, Some(1), |situation, standing| {
                standing.failover = Failover::Freezing;
                situation.down = down;
            })
        };
        assert_eq!(stuck(FREEZING_MAX), Decision::Start);
        let early = Decision::Wait(Duration::from_secs(2));
        assert_eq!(stuck(FREEZING_MAX - Duration::from_secs(2)), early);
        // An order of a later epoch was obeyed than the table is known of.
        let stale = decided(primary, Some(1), |situation, _| {
            situation.accepted = Epoch(4)
        });
        assert!(matches!(stale, Decision::Leave(_)));
        let early = decided(primary, Some(1), |situation, _| {
            situation.down = Duration::ZERO
        });
        assert_eq!(early, Decision::Wait(Duration::from_secs(1)));
    }

    #[test]
    fn a_standby_is_started_at_once_and_then_more_and_more_slowly() {
        assert_eq!(
            decided(Folder::Standby, None, |s, _| s.down = Duration::ZERO),
            Decision::Start
        );
        let again = |failures, tried| {
            decided(Folder::Standby, Some(2), |situation, _| {
                situation.failures = failures;
                situation.tried = Some(Duration::from_millis(tried));
            })
        };
        assert_eq!(again(1, 0), Decision::Wait(Duration::from_millis(200)));
        assert_eq!(again(1, 200), Decision::Start);
        assert_eq!(again(3, 0), Decision::Wait(Duration::from_millis(800)));
        assert_eq!(again(99, 0), Decision::Wait(PAUSE * 128));
    }

    fn token(epoch: u64, step: u64) -> Token {
        let epoch = Epoch(epoch);
        Token { epoch, step }
    }

    /// Paused for 5 s by an order of 3.7, and no leader was heard for 5 s; the newest commit known here is the one that
    /// the pause came from.
    fn returns(change: impl FnOnce(&mut Situation<'_>, &mut Silence)) -> Decision {
        decided(Folder::Primary, None, |situation, standing| {
            situation.pause = Some(Pause {
                token: token(3, 7),
                limit: Duration::from_secs(5),
            });
            situation.unheard = Duration::from_secs(5);
            let mut silence = Silence {
                token: token(3, 7),
                authority: Some(instance(1)),
                heard: None,
            };
            change(situation, &mut silence);
            *standing = Standing {
                silence: Some(silence),
                ..Standing::default()
            };
        })
    }

    #[test]
    fn a_paused_primary_comes_back_when_nobody_is_heard() {
        assert_eq!(returns(|_, _| {}), Decision::Return);
        let early = returns(|situation, _| situation.unheard = Duration::from_secs(2));
        assert_eq!(early, Decision::Wait(Duration::from_secs(3)));
        // The replicas were about to be frozen; whoever is frozen does not count for it.
        let freezing = returns(|_, silence| silence.token = token(4, 8));
        assert_eq!(freezing, Decision::Return);
        // This node had not heard yet that it is primary, or knows nothing at all.
        let behind = |authority: Option<InstanceId>| {
            returns(|_, silence| {
                silence.token = token(3, 6);
                silence.authority = authority;
            })
        };
        assert_eq!(behind(Some(instance(2))), Decision::Return);
        assert_eq!(behind(None), Decision::Return);
        let failed = returns(|situation, _| {
            situation.failures = 1;
            situation.tried = Some(Duration::ZERO);
        });
        assert_eq!(failed, Decision::Wait(PAUSE));
    }

    #[test]
    fn a_paused_primary_stays_stopped_where_somebody_else_was_chosen() {
        for newest in [token(3, 7), token(4, 9)] {
            let chosen = returns(|_, silence| {
                silence.token = newest;
                silence.authority = Some(instance(2));
            });
            assert_eq!(chosen, Decision::Leave(REPLACED), "{newest}");
        }
        let obeyed = returns(|situation, _| situation.accepted = Epoch(4));
        assert_eq!(obeyed, Decision::Leave(OBEYED));
    }

    #[test]
    fn only_a_pause_lets_a_primary_start_that_hears_nobody() {
        let crashed = returns(|situation, _| situation.pause = None);
        assert_eq!(crashed, Decision::Leave(UNKNOWN));
        // A leader is heard, and this node has not caught up with it.
        let behind = decided(Folder::Primary, Some(1), |situation, _| {
            situation.accepted = Epoch(4);
            situation.pause = Some(Pause {
                token: token(4, 7),
                limit: Duration::ZERO,
            });
        });
        assert_eq!(behind, Decision::Leave(UNKNOWN));
        for folder in [Folder::Empty, Folder::Unfinished] {
            let kept = decided(folder, None, |situation, standing| {
                situation.pause = Some(Pause {
                    token: token(3, 7),
                    limit: Duration::ZERO,
                });
                standing.silence = Some(Silence::default());
            });
            assert_eq!(kept, Decision::Leave(UNKNOWN), "{folder:?}");
        }
    }

    #[test]
    fn one_that_runs_is_deposed_only_by_a_current_table_at_rest() {
        let own = instance(1);
        let table = Standing {
            primary: Some(instance(2)),
            epoch: Epoch(3),
            failover: Failover::None,
            silence: None,
        };
        let by = |folder, table: &Standing, accepted| {
            deposed(&own, folder, table, Epoch(accepted)).cloned()
        };
        assert_eq!(by(Folder::Primary, &table, 3), Some(instance(2)));
        assert_eq!(by(Folder::Standby, &table, 3), None);
        assert_eq!(by(Folder::Unfinished, &table, 3), None);
        // It was promoted in an epoch that this node has not heard of.
        assert_eq!(by(Folder::Primary, &table, 4), None);
        let unsteady = Standing {
            failover: Failover::UnderWay,
            ..table.clone()
        };
        assert_eq!(by(Folder::Primary, &unsteady, 3), None);
        let itself = Standing {
            primary: Some(instance(1)),
            ..table
        };
        assert_eq!(by(Folder::Primary, &itself, 3), None);
        assert_eq!(by(Folder::Primary, &Standing::default(), 0), None);
    }

    #[test]
    fn an_empty_or_unfinished_folder_becomes_a_standby_and_never_a_primary() {
        for folder in [Folder::Empty, Folder::Unfinished] {
            assert_eq!(
                decided(folder, Some(2), |_, _| {}),
                Decision::Follow(instance(2))
            );
            assert!(matches!(
                decided(folder, Some(1), |_, _| {}),
                Decision::Leave(_)
            ));
            assert!(matches!(
                decided(folder, None, |_, _| {}),
                Decision::Leave(_)
            ));
        }
    }
}
