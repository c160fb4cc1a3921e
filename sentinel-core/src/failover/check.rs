//! Reads a decision once more, before it is proposed, by another way of counting.
//!
//! Knows the rules of `docs/safety.md` and nothing of how the plan was made. A decision that it refuses is a bug
//! of ours: it is not proposed, and an alarm says so.

use crate::failover::sight::Sight;
use crate::id::Member;
use crate::ledger::{Decision, QuorumConfig, Stage};
use crate::monitor::Reading;
use crate::observation::Role;

/// Why a decision must not be proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// The decision does not fit the stage.
    #[error("`{decision}` does not fit the stage of the service")]
    Stage {
        /// The decision in a word.
        decision: &'static str,
    },
    /// Enough members are left unfrozen to acknowledge a write.
    #[error(
        "write quorum {version} still has {open} members that nobody froze, {k} can acknowledge"
    )]
    NotSealed {
        /// Which write quorum.
        version: crate::id::Token,
        /// Members not frozen.
        open: usize,
        /// How many acknowledge.
        k: u32,
    },
    /// The target is not the best frozen member, or not eligible.
    #[error("the target {0}")]
    Target(&'static str),
    /// The new write quorum has somebody who was not frozen, or the target.
    #[error("the new write quorum has a member that was not frozen in this epoch")]
    Members,
    /// The write quorum would be too small, or the change does too much.
    #[error("the change {0}")]
    Change(&'static str),
}

/// Whether the decision keeps the rules.
pub fn check(sight: &Sight<'_>, decision: &Decision) -> Result<(), CheckError> {
    if !sight.bugs.is_empty() {
        return Ok(());
    }
    let stage = &sight.state.stage;
    let fits = match decision {
        Decision::Add(_) => false,
        Decision::Discover { .. } | Decision::Readmit { .. } => true,
        Decision::Adopt { .. } => matches!(stage, Stage::Unadopted | Stage::Steady),
        Decision::Freeze => matches!(
            stage,
            Stage::Steady | Stage::Switching { .. } | Stage::Repointing | Stage::Promoting { .. }
        ),
        Decision::Switch { target } => {
            let members = sight.state.configs.last().map(|config| &config.members);
            *stage == Stage::Steady && members.is_some_and(|members| members.contains_key(target))
        }
        Decision::CallOff { .. } => matches!(stage, Stage::Switching { .. }),
        Decision::Abort => *stage == Stage::Freezing && sight.state.told.is_empty(),
        Decision::Promote { .. } => *stage == Stage::Freezing,
        Decision::Promoted { .. } => matches!(stage, Stage::Promoting { .. }),
        Decision::Complete => *stage == Stage::Repointing,
        Decision::Change { .. }
        | Decision::FinishChange
        | Decision::Acknowledge { .. }
        | Decision::Rename { .. } => *stage == Stage::Steady,
    };
    if !fits {
        return Err(CheckError::Stage {
            decision: decision.word(),
        });
    }
    match decision {
        Decision::Promote { .. } => promote(sight, decision),
        Decision::Change { members, k, .. } => change(sight, members.len(), *k),
        Decision::FinishChange => finish_change(sight),
        Decision::Abort => abort(sight),
        Decision::Readmit { member } => readmit(sight, member),
        Decision::Add(_)
        | Decision::Discover { .. }
        | Decision::Adopt { .. }
        | Decision::Freeze
        | Decision::Switch { .. }
        | Decision::CallOff { .. }
        | Decision::Promoted { .. }
        | Decision::Complete
        | Decision::Rename { .. }
        | Decision::Acknowledge { .. } => Ok(()),
    }
}

/// Counts who could still acknowledge, where the plan counted who cannot.
fn promote(sight: &Sight<'_>, decision: &Decision) -> Result<(), CheckError> {
    let Decision::Promote {
        target,
        position,
        start,
        members,
    } = decision
    else {
        return Ok(());
    };
    let state = sight.state;
    let trusted = |config: &QuorumConfig, member: &crate::id::InstanceId| {
        sight.desk.frozen.get(member).is_some_and(|reading| {
            Some(&reading.facts.incarnation) == config.members.get(member) && reading.facts.synced
        })
    };
    for config in &state.configs {
        let open = config
            .members
            .keys()
            .filter(|member| !trusted(config, member))
            .count();
        if open >= config.k as usize {
            return Err(CheckError::NotSealed {
                version: config.version,
                open,
                k: config.k,
            });
        }
    }
    let (evidence, at) = match sight.desk.frozen.get(&target.instance) {
        Some(evidence) => (evidence, evidence.facts.position.as_ref()),
        None => (told_primary(sight, target)?, Some(position)),
    };
    if evidence.facts.incarnation != target.incarnation || at != Some(position) {
        return Err(CheckError::Target("is not what was frozen"));
    }
    // What it held when it was told, and lost by its fork, was no whole record.
    let mut held = *start;
    if !sight.desk.frozen.contains_key(&target.instance) {
        if evidence.facts.fork.as_ref() != Some(position) {
            return Err(CheckError::Target("did not fork where it is said to"));
        }
        held = state.held_when_told(&target.instance, position, held);
    }
    if !evidence.facts.synced || held < state.floor {
        return Err(CheckError::Target("has not all data"));
    }
    let further = sight.desk.frozen.iter().any(|(instance, reading)| {
        let counts =
            state.admitted(instance) == Some(&reading.facts.incarnation) && reading.facts.synced;
        counts
            && state
                .offset_on_chain(instance, &reading.facts)
                .is_some_and(|offset| offset > held)
    });
    if further {
        return Err(CheckError::Target("is behind another frozen member"));
    }
    let strangers = members
        .keys()
        .any(|member| *member == target.instance || !sight.desk.frozen.contains_key(member));
    if strangers {
        Err(CheckError::Members)
    } else {
        Ok(())
    }
}

/// What cannot be frozen must have been told to promote, and be a primary by that.
fn told_primary<'a>(sight: &Sight<'a>, target: &Member) -> Result<&'a Reading, CheckError> {
    let told = sight.state.told.get(&target.instance);
    let reading = sight.reading_of_stage(&target.instance);
    match (told, reading) {
        (Some(told), Some(reading))
            if told.incarnation == target.incarnation && reading.facts.role == Role::Primary =>
        {
            Ok(reading)
        }
        (Some(_) | None, Some(_) | None) => Err(CheckError::Target("was not frozen in this epoch")),
    }
}

fn change(sight: &Sight<'_>, members: usize, k: u32) -> Result<(), CheckError> {
    let Some(config) = sight.state.configs.last() else {
        return Err(CheckError::Change("has nothing to start from"));
    };
    if members.abs_diff(config.members.len()) > 1 {
        return Err(CheckError::Change("moves more than one member"));
    }
    if members < config.members.len() && members < k as usize {
        return Err(CheckError::Change(
            "leaves fewer members than must hold a write",
        ));
    }
    Ok(())
}

/// Rule S3, asked the other way round: whoever is dropped must not be the only holder of what was
/// acknowledged, so `k` of those who stay hold what the primary had while the new write quorum was in force.
fn finish_change(sight: &Sight<'_>) -> Result<(), CheckError> {
    let configs = &sight.state.configs;
    let Some((newest, older)) = configs.split_last() else {
        return Err(CheckError::Change("has nothing to end"));
    };
    let in_force = sight
        .sound_primary()
        .is_some_and(|(_, facts)| facts.write_quorum == Some(newest.write_quorum()));
    if !in_force {
        return Err(CheckError::Change(
            "ends before its write quorum is in force",
        ));
    }
    let drops = older
        .iter()
        .any(|old| old.k < newest.k || old.members.keys().any(|m| !newest.members.contains_key(m)));
    let target = sight
        .desk
        .in_force
        .as_ref()
        .and_then(|it| it.target.as_ref());
    let holds = |member: &crate::id::InstanceId| {
        let at = sight
            .facts(member)
            .and_then(|facts| facts.position.as_ref());
        matches!((at, target), (Some(at), Some(target)) if at.lineage == target.lineage && at.offset >= target.offset)
    };
    if drops && newest.members.keys().filter(|m| holds(m)).count() < newest.k as usize {
        return Err(CheckError::Change(
            "drops members that others have not caught up with",
        ));
    }
    Ok(())
}

/// Rule S13: only a primary that answers as what was authorised stays.
fn abort(sight: &Sight<'_>) -> Result<(), CheckError> {
    if sight.sound_primary().is_none() {
        return Err(CheckError::Target(
            "stays primary without answering as what was authorised",
        ));
    }
    Ok(())
}

/// Rule S4: a new life is accepted only while it holds what the primary's newest life has made.
fn readmit(sight: &Sight<'_>, member: &Member) -> Result<(), CheckError> {
    let lineage = |instance| Some(&sight.facts(instance)?.position.as_ref()?.lineage);
    let primary = sight
        .sound_primary()
        .and_then(|(primary, _)| lineage(&primary.instance));
    let sound = sight
        .facts(&member.instance)
        .is_some_and(|facts| facts.synced && facts.incarnation == member.incarnation);
    if !sound || primary.is_none() || lineage(&member.instance) != primary {
        return Err(CheckError::Change(
            "accepts a life that does not hold the primary's history",
        ));
    }
    Ok(())
}
