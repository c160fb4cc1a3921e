//! Keeps a physical slot for each other instance of the service on this server, also while it is a standby, so that after
//! a failover the others find the log that they still need.
//!
//! A primary has a slot for each standby that streams from it or counts in its write quorum. A standby has the slots of its
//! primary, moved on with them, and one for the primary itself. A slot that nobody moves holds log back for ever: one that
//! its standby does not use is moved on with what that standby has, one that nobody wants any longer is dropped after a
//! time. Touches no slot that does not bear the name of an instance. Which slot a standby uses is `own_slot`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_core::observation::{Link, Role, Upstream};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::host::Shared;
use super::own_slot;
use super::upstream::{self, UpstreamError};
use crate::follow::slot_name;
use crate::lsn::Lsn;
use crate::sync_names;

const PACE: Duration = Duration::from_secs(5);
/// A server that does not answer is looked at again at the next turn.
const LIMIT: Duration = Duration::from_secs(5);

const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names'), \
    (SELECT redo_lsn::text FROM pg_control_checkpoint())";
const STREAMING: &str = "SELECT application_name, min(flush_lsn)::text FROM pg_stat_replication GROUP BY application_name";
const SLOTS: &str = "SELECT slot_name::text, active, restart_lsn::text, coalesce(wal_status = 'lost', false) \
    FROM pg_replication_slots WHERE slot_type = 'physical' AND starts_with(slot_name::text, 'sentinel_')";

/// A slot that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) in_use: bool,
    pub(super) keeps_from: Option<Lsn>,
    /// The server gave it up, because it kept more than it was allowed to: nobody can stream from it again.
    pub(super) lost: bool,
}

/// The slots of a server that bear the name of an instance.
pub(super) type Slots = BTreeMap<String, Slot>;

/// What is to be done about a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Create(String),
    /// It need not keep anything before this.
    Advance(String, Lsn),
    Drop(String),
}

/// Wanted slots, and from where on they keep the log unless they are in use; `None` where that is not known.
type Wanted = BTreeMap<String, Option<Lsn>>;

/// Keeps the slots until the agent ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut seen = BTreeMap::new();
    loop {
        tokio::time::sleep(PACE).await;
        if shared.desk.is_busy() || shared.pausing.holds() {
            continue;
        }
        match tokio::time::timeout(LIMIT, look(&shared, &mut seen)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(instance = %shared.settings.instance, error, "the slots were not looked at")
            }
            Err(_) => {
                tracing::debug!(instance = %shared.settings.instance, "the slots were not looked at in time")
            }
        }
    }
}

async fn look(shared: &Shared, seen: &mut BTreeMap<String, Instant>) -> Result<(), String> {
    let settings = &shared.settings;
    let told = |error: UpstreamError| error.to_string();
    let said = |error: tokio_postgres::Error| upstream::said(&error);
    let client = upstream::connect(settings, &settings.instance)
        .await
        .map_err(told)?;
    let state = client.query_one(STATE, &[]).await.map_err(said)?;
    let wanted = match state.get::<_, bool>(0) {
        false => wanted_on_primary(&client, state.get(1))
            .await
            .map_err(said)?,
        true => {
            let Some((primary, link)) = followed(shared).await else {
                return Ok(());
            };
            let there = upstream::connect(settings, &primary).await.map_err(told)?;
            let slots = slots(&there).await.map_err(said)?;
            own_slot::keep_in_use(&client, &settings.instance, link, &slots)
                .await
                .map_err(said)?;
            let redo: Option<Lsn> = state.get::<_, &str>(2).parse().ok();
            wanted_on_standby(&settings.instance, &primary, &slots, redo)
        }
    };
    let own = slot_name(&settings.instance);
    let there = slots(&client).await.map_err(said)?;
    for change in changes(&own, &wanted, &there, seen, settings.slots_kept) {
        if let Err(error) = make(&client, &change).await {
            tracing::warn!(instance = %settings.instance, ?change, error = upstream::said(&error), "a slot could not be changed");
        }
    }
    Ok(())
}

/// From whom a standby receives, provided that the committed table names nobody else: while it names nobody, the primary
/// goes on, and so does its log.
async fn followed(shared: &Shared) -> Option<(InstanceId, Link)> {
    let committed = shared.standing.borrow().primary.clone();
    match shared.facts().await?.role {
        Role::Replica {
            upstream: Upstream::Instance(primary),
            link,
        } if committed.as_ref().is_none_or(|one| *one == primary) => Some((primary, link)),
        Role::Replica { .. } | Role::Primary => None,
    }
}

async fn wanted_on_primary(
    client: &Client,
    sync_names: &str,
) -> Result<Wanted, tokio_postgres::Error> {
    let quorum = sync_names::quorum(sync_names);
    let members: BTreeSet<InstanceId> = quorum.map(|quorum| quorum.members).unwrap_or_default();
    let mut wanted: Wanted = members
        .iter()
        .map(|member| (slot_name(member), None))
        .collect();
    for row in client.query(STREAMING, &[]).await? {
        let name = row.get::<_, Option<String>>(0);
        if let Some(standby) = name.and_then(|name| name.parse::<InstanceId>().ok()) {
            let flushed = row.get::<_, Option<&str>>(1);
            let flushed = flushed.and_then(|text| text.parse().ok());
            wanted.insert(slot_name(&standby), flushed);
        }
    }
    Ok(wanted)
}

/// The primary itself would come back from about its last checkpoint.
fn wanted_on_standby(
    own: &InstanceId,
    primary: &InstanceId,
    theirs: &Slots,
    redo: Option<Lsn>,
) -> Wanted {
    let mut wanted: Wanted = theirs
        .iter()
        .map(|(name, slot)| (name.clone(), slot.keeps_from))
        .collect();
    wanted.insert(slot_name(primary), redo);
    wanted.remove(&slot_name(own));
    wanted
}

pub(super) async fn slots(client: &Client) -> Result<Slots, tokio_postgres::Error> {
    let rows = client.query(SLOTS, &[]).await?;
    let slot = |row: &tokio_postgres::Row| Slot {
        in_use: row.get(1),
        keeps_from: row
            .get::<_, Option<&str>>(2)
            .and_then(|text| text.parse().ok()),
        lost: row.get(3),
    };
    Ok(rows.iter().map(|row| (row.get(0), slot(row))).collect())
}

/// What brings the slots that are there to those that are wanted.
fn changes(
    own: &str,
    wanted: &Wanted,
    there: &Slots,
    seen: &mut BTreeMap<String, Instant>,
    kept: Duration,
) -> Vec<Change> {
    let now = Instant::now();
    let mut changes = Vec::new();
    for (name, keeps_from) in wanted {
        seen.insert(name.clone(), now);
        match (there.get(name), keeps_from) {
            (None, _) => changes.push(Change::Create(name.clone())),
            // It is made anew at the next look.
            (Some(slot), _) if slot.lost && !slot.in_use => {
                changes.push(Change::Drop(name.clone()));
            }
            (Some(slot), Some(wanted)) if !slot.in_use && slot.keeps_from < Some(*wanted) => {
                changes.push(Change::Advance(name.clone(), *wanted));
            }
            (Some(_), Some(_) | None) => {}
        }
    }
    for (name, slot) in there.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        // A new agent gives every slot its full time.
        let last = *seen.entry(name.clone()).or_insert(now);
        if !slot.in_use && (name == own || slot.lost || now.duration_since(last) >= kept) {
            changes.push(Change::Drop(name.clone()));
        }
    }
    seen.retain(|name, _| wanted.contains_key(name) || there.contains_key(name));
    changes
}

async fn make(client: &Client, change: &Change) -> Result<(), tokio_postgres::Error> {
    match change {
        Change::Create(name) => {
            client
                .execute(
                    "SELECT pg_create_physical_replication_slot($1::text::name, true)",
                    &[name],
                )
                .await?
        }
        Change::Advance(name, to) => {
            let to = to.to_string();
            client
                .execute(
                    "SELECT pg_replication_slot_advance($1::text::name, least($2::text::pg_lsn, \
                     CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END))",
                    &[name, &to],
                )
                .await?
        }
        Change::Drop(name) => {
            client
                .execute("SELECT pg_drop_replication_slot($1::text::name)", &[name])
                .await?
        }
    };
    tracing::info!(?change, "a slot was changed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(600);

    fn slot(in_use: bool, keeps_from: u64) -> Slot {
        Slot {
            in_use,
            keeps_from: Some(Lsn(keeps_from)),
            lost: false,
        }
    }

    #[test]
    fn slots_are_made_moved_and_dropped_after_a_time() {
        let wanted = BTreeMap::from([
            ("sentinel_a".to_owned(), Some(Lsn(50))),
            ("sentinel_b".to_owned(), Some(Lsn(50))),
            ("sentinel_c".to_owned(), Some(Lsn(50))),
        ]);
        let there = BTreeMap::from([
            ("sentinel_b".to_owned(), slot(false, 10)),
            ("sentinel_c".to_owned(), slot(true, 10)),
            ("sentinel_gone".to_owned(), slot(false, 1)),
            ("sentinel_me".to_owned(), slot(false, 1)),
        ]);
        let mut seen = BTreeMap::new();
        let first = [
            Change::Create("sentinel_a".into()),
            Change::Advance("sentinel_b".into(), Lsn(50)),
            Change::Drop("sentinel_me".into()),
        ];
        assert_eq!(
            changes("sentinel_me", &wanted, &there, &mut seen, KEPT),
            first
        );
        let later = changes("sentinel_me", &wanted, &there, &mut seen, Duration::ZERO);
        assert!(later.contains(&Change::Drop("sentinel_gone".into())));
    }

    #[test]
    fn a_slot_that_was_given_up_is_dropped_at_once() {
        let wanted = BTreeMap::from([("sentinel_a".to_owned(), Some(Lsn(50)))]);
        let lost = Slot {
            keeps_from: None,
            lost: true,
            ..slot(false, 0)
        };
        let there = ["sentinel_a", "sentinel_gone"].map(|name| (name.to_owned(), lost));
        let there = BTreeMap::from(there);
        let changes = changes("sentinel_me", &wanted, &there, &mut BTreeMap::new(), KEPT);
        let both = ["sentinel_a", "sentinel_gone"].map(|name| Change::Drop(name.to_owned()));
        assert_eq!(changes, both);
    }

    #[test]
    fn a_standby_mirrors_its_primary_without_itself() {
        let (own, primary) = (InstanceId::new("b", 1), InstanceId::new("a", 1));
        let theirs = BTreeMap::from([
            (slot_name(&own), slot(true, 70)),
            ("sentinel_c_1".to_owned(), slot(true, 60)),
        ]);
        let wanted = wanted_on_standby(&own, &primary, &theirs, Some(Lsn(40)));
        let expected = [("sentinel_a_1", 40), ("sentinel_c_1", 60)];
        let expected = expected.map(|(name, at)| (name.to_owned(), Some(Lsn(at))));
        assert_eq!(wanted, BTreeMap::from(expected));
    }
}
