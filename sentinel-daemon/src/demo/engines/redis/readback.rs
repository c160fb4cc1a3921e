//! Looks for every acknowledged write on every server: what is missing anywhere is lost.
//!
//! Knows the servers and the journal. Trusts no count of a server: each key is read, and its value compared.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::RedisError;
use redis::aio::MultiplexedConnection;
use sentinel_core::id::InstanceId;

use crate::demo::connect;
use crate::demo::error::DemoError;
use crate::demo::journal::Acked;

/// Keys read in one pipeline.
const BATCH: usize = 1000;

/// How long the replicas may take to hold what the primary holds.
const CATCH_UP_MAX: Duration = Duration::from_secs(10);

/// How long one reply may take.
const REPLY_MAX: Duration = Duration::from_secs(15);

/// How many of these writes are missing, or have another value, on at least one of the servers.
pub(super) async fn lost(
    acked: &[Acked],
    primary: &InstanceId,
    servers: &[InstanceId],
) -> Result<u64, DemoError> {
    catch_up(primary, servers.len() - 1).await?;
    let mut missing = BTreeSet::new();
    for server in servers {
        let failed = |source: RedisError| DemoError::Server {
            server: server.to_string(),
            source: source.into(),
        };
        let mut connection = connect(server).await.map_err(failed)?;
        for batch in acked.chunks(BATCH) {
            let mut pipeline = redis::pipe();
            for acked in batch {
                pipeline.get(acked.key.name());
            }
            let values: Vec<Option<String>> = pipeline
                .query_async(&mut connection)
                .await
                .map_err(failed)?;
            let differs = batch
                .iter()
                .zip(values)
                .filter(|(acked, value)| value.as_ref() != Some(&acked.key.value()));
            missing.extend(differs.map(|(acked, _)| acked.key.name()));
        }
    }
    Ok(missing.len() as u64)
}

/// A last write, for which all replicas are waited: they then hold everything before it too.
async fn catch_up(primary: &InstanceId, replicas: usize) -> Result<(), DemoError> {
    let failed = |source: RedisError| DemoError::Server {
        server: primary.to_string(),
        source: source.into(),
    };
    let mut connection = connect(primary).await.map_err(failed)?;
    let millis = u64::try_from(CATCH_UP_MAX.as_millis()).unwrap_or(u64::MAX);
    let (held,): (usize,) = redis::pipe()
        .cmd("SET")
        .arg("demo:end")
        .arg(1)
        .ignore()
        .cmd("WAIT")
        .arg(replicas)
        .arg(millis)
        .query_async(&mut connection)
        .await
        .map_err(failed)?;
    if held >= replicas {
        return Ok(());
    }
    Err(DemoError::InVain {
        what: "all replicas hold what the primary holds".to_owned(),
        bound: CATCH_UP_MAX,
        last: format!("{held} of {replicas} do"),
    })
}

async fn connect(server: &InstanceId) -> redis::RedisResult<MultiplexedConnection> {
    let client = connect::client(server)?;
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(REPLY_MAX));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
}
