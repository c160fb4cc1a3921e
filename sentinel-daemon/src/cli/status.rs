//! `sentinel status [SERVICE]`: a verdict first, then the voters, then a block for each service.
//!
//! The verdict is drawn from what one node answers. Its exit code is for scripts: 3 without quorum, 4 without a primary.

use serde::Serialize;

use super::age::{age, aligned, counted};
use super::args::{Format, SettingsArg};
use super::ask;
use super::failure::Failure;
use crate::api::{InstanceJson, ServiceJson, ServicesJson, StatusJson};
use crate::exit::ExitCode;
use crate::output;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    verdict: String,
    node: StatusJson,
    services: Vec<ServiceJson>,
}

pub(super) fn run(
    service: Option<&str>,
    node: Option<&str>,
    settings: &SettingsArg,
    format: Format,
) -> Result<ExitCode, Failure> {
    let service = service.map(ask::service_name).transpose()?;
    let client = ask::client(node, settings)?;
    let status: StatusJson = client.get("/v1/status")?;
    let services = match service {
        Some(service) => vec![client.get(&format!("/v1/services/{service}"))?],
        None => client.get::<ServicesJson>("/v1/services")?.services,
    };
    let (code, verdict) = verdict(&status, &services);
    match format {
        Format::Text => lines(&verdict, &status, &services)
            .iter()
            .for_each(|line| output::result(line)),
        Format::Json => output::json(&Report {
            verdict,
            node: status,
            services,
        }),
    }
    Ok(code)
}

/// The worst that is to be said.
fn verdict(status: &StatusJson, services: &[ServiceJson]) -> (ExitCode, String) {
    let named = |wanted: &dyn Fn(&ServiceJson) -> bool| {
        let names: Vec<&str> = services
            .iter()
            .filter(|service| wanted(service))
            .map(|service| service.service.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if status.freshness.stale {
        let since = match status.freshness.as_of_ms {
            Some(milliseconds) => format!("for {}", age(milliseconds)),
            None => "since it started".to_owned(),
        };
        let text = format!(
            "no quorum: {} has heard no leader {since}; no failover is possible, and what follows may be out of date",
            status.node
        );
        return (ExitCode::NoQuorum, text);
    }
    if let Some(names) = named(&|service| service.primary.is_none()) {
        return (
            ExitCode::NoPrimary,
            format!("no primary: {names}; `sentinel explain SERVICE` says why"),
        );
    }
    if let Some(names) = named(&|service| service.stage != "steady") {
        return (ExitCode::Done, format!("failover in progress: {names}"));
    }
    if let Some(names) = named(&primary_is_down) {
        return (ExitCode::Done, format!("primary down: {names}"));
    }
    if let Some(names) = named(&|service| !service.blockers.is_empty()) {
        return (
            ExitCode::Done,
            format!("at risk: the next failover would block: {names}"),
        );
    }
    let services = counted(services.len(), "service");
    (
        ExitCode::Done,
        format!(
            "healthy: {services}, {}",
            counted(status.voters.len(), "voter")
        ),
    )
}

fn primary_is_down(service: &ServiceJson) -> bool {
    service.instances.iter().any(|instance| {
        Some(&instance.instance) == service.primary.as_ref() && instance.health == "down"
    })
}

fn lines(verdict: &str, status: &StatusJson, services: &[ServiceJson]) -> Vec<String> {
    let leader = match &status.leader {
        Some(leader) => format!("leader {leader}"),
        None => "no leader".to_owned(),
    };
    let mut lines = vec![
        verdict.to_owned(),
        String::new(),
        format!(
            "cluster {}, asked {}, {leader}, term {}, majority {} of {}",
            status.cluster,
            status.node,
            status.term,
            status.majority,
            status.voters.len()
        ),
    ];
    lines.extend(voters(status));
    for service in services {
        lines.push(String::new());
        lines.extend(block(service));
    }
    lines
}

fn voters(status: &StatusJson) -> Vec<String> {
    let seen = |name: &_, heard: Option<u64>| match heard {
        _ if *name == status.node => "this node".to_owned(),
        Some(milliseconds) => format!("heard {} ago", age(milliseconds)),
        None => "never heard".to_owned(),
    };
    let rows: Vec<[String; 3]> = status
        .voters
        .iter()
        .map(|(name, voter)| {
            let http = voter
                .http
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string);
            [name.to_string(), http, seen(name, voter.heard_ms)]
        })
        .collect();
    aligned(&rows)
}

fn block(service: &ServiceJson) -> Vec<String> {
    let primary = match &service.primary {
        Some(primary) => format!("primary {primary}"),
        None => "no primary".to_owned(),
    };
    let stage = match &service.target {
        Some(target) => format!("{} {target}", service.stage),
        None => service.stage.clone(),
    };
    let members: Vec<String> = service
        .write_quorum
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut lines = vec![
        format!(
            "{} ({}): {primary}, epoch {}, {stage}",
            service.service, service.engine, service.epoch
        ),
        format!(
            "  a write is acknowledged by {} of: {}",
            service.min_replicas,
            members.join(", ")
        ),
    ];
    if !service.witnesses.is_empty() {
        let witnesses: Vec<&str> = service.witnesses.iter().map(|name| name.as_str()).collect();
        lines.push(format!(
            "  seen down by {}; {} make a verdict",
            witnesses.join(", "),
            service.quorum
        ));
    }
    let title = ["instance", "role", "health", "link", "offset", "seen"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(title)
        .chain(service.instances.iter().map(row))
        .collect();
    lines.extend(aligned(&rows));
    for instance in &service.instances {
        if let Some(problem) = &instance.rejected {
            lines.push(format!("  {}: {problem}", instance.instance));
        }
    }
    for blocker in &service.blockers {
        lines.push(format!("  the next failover would block: {blocker}"));
    }
    lines
}

fn row(instance: &InstanceJson) -> [String; 6] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let health = match &instance.evidence {
        Some(evidence) => format!("{} by {evidence}", instance.health),
        None => instance.health.clone(),
    };
    let link = match (&instance.link, instance.synced) {
        (Some(link), Some(false)) => Some(format!("{link}, data not whole")),
        (link, _) => link.clone(),
    };
    [
        instance.instance.to_string(),
        or_dash(instance.role.clone()),
        format!("{health} for {}", age(instance.health_ms)),
        or_dash(link),
        or_dash(instance.offset.map(|offset| offset.to_string())),
        or_dash(
            instance
                .facts_ms
                .map(|milliseconds| format!("{} ago", age(milliseconds))),
        ),
    ]
}
