//! `sentinel primary SERVICE`: one line, the address of the primary.

use super::age::age;
use super::args::{Format, SettingsArg};
use super::ask;
use super::failure::Failure;
use crate::api::PrimaryJson;
use crate::exit::ExitCode;
use crate::output;

pub(super) fn run(
    service: &str,
    node: Option<&str>,
    settings: &SettingsArg,
    format: Format,
) -> Result<ExitCode, Failure> {
    let service = ask::service_name(service)?;
    let client = ask::client(node, settings)?;
    let answer: PrimaryJson = client.get(&format!("/v1/services/{service}/primary"))?;
    match format {
        Format::Text => output::result(&answer.primary.to_string()),
        Format::Json => output::json(&answer),
    }
    if answer.freshness.stale {
        let since = match answer.freshness.as_of_ms {
            Some(milliseconds) => format!("has heard no leader for {}", age(milliseconds)),
            None => "has heard no leader since it started".to_owned(),
        };
        output::note(&format!(
            "hint: stale: node {} {since}, and the primary may have changed; `sentinel status` shows the voters",
            client.node()
        ));
    }
    Ok(ExitCode::Done)
}
