//! What the agent asks of the primary that its server is to follow: who it is, by which path it came, whether a
//! checkpoint has ended since its promotion, and how large it is.
//!
//! Reads only, but for one CHECKPOINT: until it has ended, the primary's control file names the timeline before.

use std::time::Duration;

use sentinel_core::id::InstanceId;
use tokio_postgres::{Client, Config, NoTls};

use super::relation::Theirs;
use super::settings::AgentSettings;
use crate::history::{DamagedHistory, History, Timeline};

/// Why the primary could not be asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    /// Nobody answers, or the role is refused.
    #[error("the primary {0} did not answer: {1}")]
    Connection(InstanceId, String),
    /// It takes no writes, so nobody should follow it.
    #[error("{0} is itself a standby; an instance follows the primary only")]
    Standby(InstanceId),
    /// Its history could not be read by the rewind role.
    #[error(transparent)]
    History(#[from] DamagedHistory),
    /// It took longer than it should.
    #[error("the primary {0} did not answer within {1:?}")]
    TooLong(InstanceId, Duration),
}

/// What the primary says.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) theirs: Theirs,
    /// Bytes of all its databases.
    pub(super) bytes: u64,
}

/// One round of questions takes no longer.
const LIMIT: Duration = Duration::from_secs(10);
/// A checkpoint of a large busy server takes minutes.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(100);

const QUESTION: &str = "SELECT pg_is_in_recovery(), \
    (SELECT system_identifier::text FROM pg_control_system()), \
    (SELECT timeline_id FROM pg_control_checkpoint())";
/// Looks at every file, which may take longer than an order has.
const SIZE: &str =
    "SELECT coalesce(sum(pg_database_size(oid)), 0)::int8 FROM pg_database WHERE datallowconn";
const TIMELINE: &str =
    "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int4";
const HISTORY: &str = "SELECT pg_read_binary_file($1)";

/// Asks the primary who it is, and how large.
pub(super) async fn ask(
    settings: &AgentSettings,
    primary: &InstanceId,
) -> Result<Primary, UpstreamError> {
    let asked = async {
        let client = connect(settings, primary).await?;
        let (theirs, _) = question(&client, primary).await?;
        let row = client.query_one(SIZE, &[]).await;
        let bytes = row.and_then(|row| row.try_get::<_, i64>(0));
        let bytes =
            bytes.map_err(|error| UpstreamError::Connection(primary.clone(), said(&error)))?;
        let bytes = u64::try_from(bytes).unwrap_or(0);
        Ok(Primary { theirs, bytes })
    };
    within_limit(primary, asked).await
}

/// Asks the primary who it is, and by which path it came.
pub(super) async fn ask_history(
    settings: &AgentSettings,
    primary: &InstanceId,
) -> Result<Theirs, UpstreamError> {
    let asked = async {
        let client = connect(settings, primary).await?;
        let (theirs, _) = question(&client, primary).await?;
        Ok(theirs)
    };
    within_limit(primary, asked).await
}

async fn within_limit<T>(
    primary: &InstanceId,
    asked: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(UpstreamError::TooLong(primary.clone(), LIMIT)),
    }
}

/// Waits until a checkpoint has ended on the primary's own timeline; asks for one.
pub(super) async fn await_checkpoint(
    settings: &AgentSettings,
    primary: &InstanceId,
) -> Result<(), UpstreamError> {
    let waited = async {
        let client = connect(settings, primary).await?;
        while question(&client, primary).await?.1 == Checkpoint::Awaited {
            if let Err(error) = client.batch_execute("CHECKPOINT").await {
                tracing::warn!(%primary, error = %said(&error), "no checkpoint can be asked for; waiting for the server's own");
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(CHECKPOINT_LIMIT, waited).await {
        Ok(answer) => answer,
        Err(_) => Err(UpstreamError::TooLong(primary.clone(), CHECKPOINT_LIMIT)),
    }
}

/// Whether a checkpoint has ended on the primary's own timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checkpoint {
    Ended,
    Awaited,
}

async fn question(
    client: &Client,
    primary: &InstanceId,
) -> Result<(Theirs, Checkpoint), UpstreamError> {
    let failed =
        |error: tokio_postgres::Error| UpstreamError::Connection(primary.clone(), said(&error));
    let row = client.query_one(QUESTION, &[]).await.map_err(failed)?;
    if row.try_get(0).map_err(failed)? {
        return Err(UpstreamError::Standby(primary.clone()));
    }
    let system_identifier: String = row.try_get(1).map_err(failed)?;
    let checkpoint: i32 = row.try_get(2).map_err(failed)?;
    let row = client.query_one(TIMELINE, &[]).await.map_err(failed)?;
    let timeline: i32 = row.try_get(0).map_err(failed)?;
    let timeline = Timeline(timeline.cast_unsigned());
    let history = match timeline {
        Timeline(1) => History::first(),
        later => {
            let path = format!("pg_wal/{}", super::wal::history_file(later));
            let row = client.query_one(HISTORY, &[&path]).await.map_err(failed)?;
            let content: Vec<u8> = row.try_get(0).map_err(failed)?;
            History::parse(later, &String::from_utf8_lossy(&content))?
        }
    };
    let theirs = Theirs {
        system_identifier,
        history,
    };
    let ended = match checkpoint.cast_unsigned() == timeline.0 {
        true => Checkpoint::Ended,
        false => Checkpoint::Awaited,
    };
    Ok((theirs, ended))
}

/// Opens a connection as the rewind role. Whoever drops the client closes it.
pub(super) async fn connect(
    settings: &AgentSettings,
    at: &InstanceId,
) -> Result<Client, UpstreamError> {
    let role = settings.rewind_role();
    let mut config = Config::new();
    config
        .host(at.host())
        .port(at.port())
        .user(&role.username)
        .dbname(&settings.postgres.dbname)
        .application_name("sentinel-agent")
        .connect_timeout(Duration::from_secs(3));
    if let Some(password) = &role.password {
        config.password(password.reveal());
    }
    match config.connect(NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Ok(client)
        }
        Err(error) => Err(UpstreamError::Connection(at.clone(), said(&error))),
    }
}

/// The server's own words, which the error alone does not show.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(words) => format!("{} ({})", words.message(), words.code().code()),
        None => error.to_string(),
    }
}
