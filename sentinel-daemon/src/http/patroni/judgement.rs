//! Which health path says yes to an instance, as Patroni's documentation defines them.
//!
//! Pure: the same instance, path and parameters give the same answer. Where Patroni believes its leader key, this
//! believes the committed table, and where Patroni asks its server, this reads what the node last saw.

use super::local::{Local, Reach};
use super::refusal::Refusal;
use super::wanted::Wanted;

/// What a path asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Whether it is the primary.
    Primary,
    /// Whether it leads a standby cluster.
    StandbyLeader,
    /// Whether it is a replica that can be read from.
    Replica,
    /// Whether it can be read from.
    ReadOnly,
    /// Whether it is a replica that has every acknowledged write.
    Synchronous,
    /// The same, or the primary.
    ReadOnlySynchronous,
    /// Whether it is a replica whose acknowledgement counts.
    Quorum,
    /// The same, or the primary.
    ReadOnlyQuorum,
    /// Whether it is a replica whose acknowledgement does not count.
    Asynchronous,
    /// Whether it runs.
    Health,
    /// Whether it is the primary, or a replica that is close behind.
    Readiness,
    /// Whether this node works. That it answers is the answer: without quorum it must not be restarted.
    Liveness,
    /// Nothing: the body is what is wanted.
    Status,
}

/// How far a replica may be behind to be ready, unless the request says so: Patroni's `maximum_lag_on_failover`.
const READY_LAG_BYTES_MAX: u64 = 1 << 20;

/// Answers a path.
pub(super) fn judge(check: Check, local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    match check {
        // Tags are not looked at where the primary alone is meant.
        Check::Primary => primary(local),
        Check::StandbyLeader => Err(Refusal::NoStandbyClusters(local.id.clone())),
        Check::Replica => replica(local, wanted),
        Check::ReadOnly => untagged(local, wanted).and_then(|()| {
            // The reason that is told is why it is no replica; /primary tells the other one.
            primary(local).or_else(|_| replica(local, wanted))
        }),
        Check::Synchronous => synchronous(local, wanted),
        Check::ReadOnlySynchronous => untagged(local, wanted)
            .and_then(|()| primary(local).or_else(|_| synchronous(local, wanted))),
        Check::Quorum => quorum(local, wanted),
        Check::ReadOnlyQuorum => {
            untagged(local, wanted).and_then(|()| primary(local).or_else(|_| quorum(local, wanted)))
        }
        Check::Asynchronous => asynchronous(local, wanted),
        Check::Health => untagged(local, wanted).and_then(|()| local.facts().map(drop)),
        Check::Readiness => primary(local).or_else(|_| ready(local, wanted)),
        Check::Liveness | Check::Status => Ok(()),
    }
}

fn primary(local: Local<'_>) -> Result<(), Refusal> {
    local.fresh()?;
    local.is_authorised()
}

fn replica(local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    untagged(local, wanted)?;
    local.is_replica()?;
    if let Some(state) = &wanted.replication_state {
        in_state(local, state)?;
    }
    match wanted.lag_bytes_max {
        Some(max) => within(local, Reach::Replayed, max),
        None => Ok(()),
    }
}

fn synchronous(local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    local.fresh()?;
    if !local.in_every_write() {
        return Err(Refusal::NotInEveryWrite(local.id.clone()));
    }
    replica(local, wanted)
}

fn quorum(local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    local.fresh()?;
    if !local.in_write_quorum() {
        return Err(Refusal::NotInWriteQuorum(local.id.clone()));
    }
    replica(local, wanted)
}

fn asynchronous(local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    local.fresh()?;
    if local.in_write_quorum() {
        return Err(Refusal::InWriteQuorum(local.id.clone()));
    }
    replica(local, wanted)
}

fn ready(local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    local.is_replica()?;
    in_state(local, STREAMING)?;
    let max = wanted.lag_bytes_max.unwrap_or(READY_LAG_BYTES_MAX);
    within(local, wanted.reach, max)
}

/// The one state of a replication for which there is a word here.
pub(super) const STREAMING: &str = "streaming";

fn in_state(local: Local<'_>, wanted: &str) -> Result<(), Refusal> {
    let state = local.is_streaming().then_some(STREAMING);
    if state == Some(wanted) {
        return Ok(());
    }
    Err(Refusal::OtherState {
        instance: local.id.clone(),
        state,
        wanted: wanted.chars().take(60).collect(),
    })
}

fn within(local: Local<'_>, reach: Reach, lag_bytes_max: u64) -> Result<(), Refusal> {
    let lag = local.lag_bytes(reach);
    let lag_bytes = lag.ok_or_else(|| Refusal::LagUnknown(local.id.clone()))?;
    if lag_bytes <= lag_bytes_max {
        return Ok(());
    }
    Err(Refusal::Lags {
        instance: local.id.clone(),
        reach,
        lag_bytes,
        lag_bytes_max,
    })
}

/// An instance without tags has none of those that a request wants.
fn untagged(local: Local<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    match &wanted.tag {
        Some(tag) => Err(Refusal::NoTags(local.id.clone(), tag.clone())),
        None => Ok(()),
    }
}
