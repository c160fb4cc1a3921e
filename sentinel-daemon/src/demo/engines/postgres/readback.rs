//! Looks for every acknowledged row on every server: what is missing anywhere is lost.
//!
//! Knows the servers and the journal. Trusts no count of a server: each row is read, and its value compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentinel_core::id::InstanceId;
use tokio::time::timeout;

use super::session::Session;
use crate::demo::error::DemoError;
use crate::demo::journal::Acked;
use crate::demo::patience;

/// How long the standbys may take to replay what the primary has committed.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// How long one answer may take.
const REPLY_MAX: Duration = Duration::from_secs(15);

/// How many of these rows are missing, or have another value, on at least one of the servers.
pub(super) async fn lost(
    acked: &[Acked],
    primary: &InstanceId,
    servers: &[InstanceId],
) -> Result<u64, DemoError> {
    let end = text(primary, "SELECT pg_current_wal_flush_lsn()::text").await;
    let end = end.map_err(|source| failed(primary, source))?;
    let mut missing = BTreeSet::new();
    for server in servers {
        if server != primary {
            catch_up(server, &end).await?;
        }
        let rows = rows(server)
            .await
            .map_err(|source| failed(server, source))?;
        let differs = acked
            .iter()
            .filter(|acked| rows.get(&acked.key.name()) != Some(&acked.key.value()));
        missing.extend(differs.map(|acked| acked.key.name()));
    }
    Ok(missing.len() as u64)
}

/// Waits until a standby shows everything that the primary had on its disk.
async fn catch_up(standby: &InstanceId, end: &str) -> Result<(), DemoError> {
    let question = format!(
        "SELECT (pg_last_wal_replay_lsn() >= '{end}')::text, pg_last_wal_replay_lsn()::text"
    );
    let what = format!("{standby} has replayed the log up to {end}");
    patience::until(&what, CATCH_UP_MAX, async || {
        match text(standby, &question).await {
            Ok(there) if there == "true" => Ok(()),
            Ok(there) => Err(format!("it has: {there}")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

/// The first value of the first row.
async fn text(server: &InstanceId, question: &str) -> Result<String, Problem> {
    let asked = async {
        let session = Session::open(server).await?;
        let row = session.client.query_one(question, &[]).await?;
        row.try_get::<_, Option<String>>(0)
    };
    Ok(timeout(REPLY_MAX, asked).await??.unwrap_or_default())
}

/// Every row, by its key's name.
async fn rows(server: &InstanceId) -> Result<BTreeMap<String, String>, Problem> {
    let asked = async {
        let session = Session::open(server).await?;
        let question = "SELECT 'demo:' || writer || ':' || number, value FROM public.writes";
        session.client.query(question, &[]).await
    };
    let rows = timeout(REPLY_MAX, asked).await??;
    let pairs = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let pairs: Result<BTreeMap<String, String>, tokio_postgres::Error> = pairs.collect();
    Ok(pairs?)
}

fn failed(server: &InstanceId, source: Problem) -> DemoError {
    DemoError::Server {
        server: server.to_string(),
        source,
    }
}
