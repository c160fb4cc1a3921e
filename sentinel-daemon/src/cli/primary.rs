//! `sentinel primary SERVICE`: one line, the address of the primary, or with `--dsn` a connection string that finds it.

use serde::Serialize;

use super::age::age;
use super::args::{Format, SettingsArg};
use super::ask;
use super::dsn;
use super::failure::Failure;
use crate::api::{FreshnessJson, PrimaryJson, ServiceJson};
use crate::client::Client;
use crate::exit::ExitCode;
use crate::output;

/// The engine whose clients read connection strings of libpq.
const ENGINE_OF_LIBPQ: &str = sentinel_postgres::ENGINE;

/// What is to be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `host:port`.
    Address,
    /// A connection string of libpq.
    Dsn,
}

/// The answer with its connection string.
#[derive(Serialize)]
struct DsnJson {
    #[serde(flatten)]
    answer: PrimaryJson,
    dsn: String,
}

pub(super) fn run(
    service: &str,
    wanted: Wanted,
    node: Option<&str>,
    settings: &SettingsArg,
    format: Format,
) -> Result<ExitCode, Failure> {
    let service = ask::service_name(service)?;
    let client = ask::client(node, settings)?;
    let answer: PrimaryJson = client.get(&format!("/v1/services/{service}/primary"))?;
    let freshness = answer.freshness;
    match (wanted, format) {
        (Wanted::Address, Format::Text) => output::result(&answer.primary.to_string()),
        (Wanted::Address, Format::Json) => output::json(&answer),
        (Wanted::Dsn, Format::Text) => output::result(&string(&client, &answer)?),
        (Wanted::Dsn, Format::Json) => {
            let dsn = string(&client, &answer)?;
            output::json(&DsnJson { answer, dsn });
        }
    }
    if freshness.stale {
        hint(&client, freshness);
    }
    Ok(ExitCode::Done)
}

/// Asks who else there is. The primary stays the one that was answered: whoever replaced it meanwhile is in the string too.
fn string(client: &Client, answer: &PrimaryJson) -> Result<String, Failure> {
    let name = &answer.service;
    let service: ServiceJson = client.get(&format!("/v1/services/{name}"))?;
    if service.engine.as_str() != ENGINE_OF_LIBPQ {
        return Err(Failure::new(
            ExitCode::Usage,
            format!(
                "service `{name}` is of engine \"{}\", and a connection string of libpq is for \"{ENGINE_OF_LIBPQ}\": leave --dsn out",
                service.engine
            ),
            format!("`sentinel primary {name}` prints the address of its primary"),
        ));
    }
    let others = service.instances.iter();
    let mut others: Vec<_> = others
        .filter(|other| other.instance != answer.primary)
        .collect();
    // One that is down costs each client its time; it comes last, and not off the list, because it comes back.
    others.sort_by_key(|other| other.health != "up");
    let mut instances = vec![&answer.primary];
    instances.extend(others.iter().map(|other| &other.instance));
    dsn::dsn(&instances).map_err(|error| {
        Failure::new(
            ExitCode::Failed,
            error.to_string(),
            "name the instance by its address in the settings",
        )
    })
}

fn hint(client: &Client, freshness: FreshnessJson) {
    let since = match freshness.as_of_ms {
        Some(milliseconds) => format!("has heard no leader for {}", age(milliseconds)),
        None => "has heard no leader since it started".to_owned(),
    };
    output::note(&format!(
        "hint: stale: node {} {since}, and the primary may have changed; `sentinel status` shows the voters",
        client.node()
    ));
}
