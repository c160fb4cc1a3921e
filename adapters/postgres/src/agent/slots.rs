//! Keeps a physical slot for each other instance of the service on this server, also while it is a standby, so that after
//! a failover the others find the log that they still need.
//!
//! A primary has a slot for each standby that streams from it or counts in its write quorum. A standby has the slots of its
//! primary, moved on with them, and one for the primary itself. A slot that nobody wants any longer holds log back for
//! ever, so it is dropped after a time. Touches no slot that does not bear the name of an instance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::host::Shared;
use super::upstream::{self, UpstreamError};
use crate::follow::slot_name;
use crate::lsn::Lsn;
use crate::sync_names;

/// The names that we give begin so.
const OURS: &str = "sentinel_";
const PACE: Duration = Duration::from_secs(5);
/// A server that does not answer is looked at again at the next turn.
const LIMIT: Duration = Duration::from_secs(5);

const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names'), \
    (SELECT redo_lsn::text FROM pg_control_checkpoint())";
const STREAMING: &str = "SELECT DISTINCT application_name FROM pg_stat_replication";
const SLOTS: &str = "SELECT slot_name::text, active, restart_lsn::text FROM pg_replication_slots \
    WHERE slot_type = 'physical' AND starts_with(slot_name::text, 'sentinel_')";

/// A slot that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    in_use: bool,
    keeps_from: Option<Lsn>,
}

/// What is to be done about a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Create(String),
    /// It need not keep anything before this.
    Advance(String, Lsn),
    Drop(String),
}

/// Wanted slots, and from where on they keep the log; `None` where whoever uses it moves it.
type Wanted = BTreeMap<String, Option<Lsn>>;

/// Keeps the slots until the agent ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut seen = BTreeMap::new();
    loop {
        tokio::time::sleep(PACE).await;
        if shared.desk.is_busy() || shared.pause_now().is_some() {
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
    let primary = shared.standing.borrow().primary.clone();
    let wanted = match (state.get::<_, bool>(0), primary) {
        (false, _) => wanted_on_primary(&client, state.get(1))
            .await
            .map_err(said)?,
        (true, Some(primary)) if primary != settings.instance => {
            let redo: Option<Lsn> = state.get::<_, &str>(2).parse().ok();
            let there = upstream::connect(settings, &primary).await.map_err(told)?;
            let slots = slots(&there).await.map_err(said)?;
            wanted_on_standby(&settings.instance, &primary, &slots, redo)
        }
        // Nobody knows whose slots a standby should have.
        (true, Some(_) | None) => return Ok(()),
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

async fn wanted_on_primary(
    client: &Client,
    sync_names: &str,
) -> Result<Wanted, tokio_postgres::Error> {
    let quorum = sync_names::quorum(sync_names);
    let mut members: BTreeSet<InstanceId> = quorum.map(|quorum| quorum.members).unwrap_or_default();
    let streaming = client.query(STREAMING, &[]).await?;
    let names = streaming
        .iter()
        .filter_map(|row| row.get::<_, Option<String>>(0));
    members.extend(names.filter_map(|name| name.parse().ok()));
    Ok(members
        .iter()
        .map(|member| (slot_name(member), None))
        .collect())
}

/// The primary itself would come back from about its last checkpoint.
fn wanted_on_standby(
    own: &InstanceId,
    primary: &InstanceId,
    theirs: &BTreeMap<String, Slot>,
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

async fn slots(client: &Client) -> Result<BTreeMap<String, Slot>, tokio_postgres::Error> {
    let rows = client.query(SLOTS, &[]).await?;
    let slot = |row: &tokio_postgres::Row| Slot {
        in_use: row.get(1),
        keeps_from: row
            .get::<_, Option<&str>>(2)
            .and_then(|text| text.parse().ok()),
    };
    Ok(rows.iter().map(|row| (row.get(0), slot(row))).collect())
}

/// What brings the slots that are there to those that are wanted.
fn changes(
    own: &str,
    wanted: &Wanted,
    there: &BTreeMap<String, Slot>,
    seen: &mut BTreeMap<String, Instant>,
    kept: Duration,
) -> Vec<Change> {
    let now = Instant::now();
    let mut changes = Vec::new();
    for (name, keeps_from) in wanted {
        seen.insert(name.clone(), now);
        match (there.get(name), keeps_from) {
            (None, _) => changes.push(Change::Create(name.clone())),
            (Some(slot), Some(wanted)) if !slot.in_use && slot.keeps_from < Some(*wanted) => {
                changes.push(Change::Advance(name.clone(), *wanted));
            }
            (Some(_), Some(_) | None) => {}
        }
    }
    for (name, slot) in there.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        // A new agent gives every slot its full time.
        let last = *seen.entry(name.clone()).or_insert(now);
        if !slot.in_use && (name == own || now.duration_since(last) >= kept) {
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

/// Whether the primary has a slot for this instance: a standby that names one that is not there does not stream.
pub(super) async fn own_slot(
    settings: &super::settings::AgentSettings,
    primary: &InstanceId,
) -> Option<String> {
    let name = slot_name(&settings.instance);
    let asked = async {
        let client = upstream::connect(settings, primary).await.ok()?;
        slots(&client).await.ok()
    };
    let there = tokio::time::timeout(LIMIT, asked).await.ok()??;
    (name.starts_with(OURS) && there.contains_key(&name)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: Duration = Duration::from_secs(600);

    fn slot(in_use: bool, keeps_from: u64) -> Slot {
        let keeps_from = Some(Lsn(keeps_from));
        Slot { in_use, keeps_from }
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
