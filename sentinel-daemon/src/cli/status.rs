//! `sentinel status [SERVICE]`: a verdict first, then the voters, then a block for each service.
//!
//! The verdict is drawn from what one node answers, the leader where it can be asked (`leader.rs`). Its exit code is for scripts: 3 without quorum, 4 without a primary.

use sentinel_core::id::NodeName;
use serde::Serialize;

use super::age::{age, aligned, counted};
use super::args::{Format, SettingsArg};
use super::ask;
use super::drift;
use super::failure::Failure;
use super::leader::{self, Told};
use crate::api::{InstanceJson, ServiceJson, StatusJson};
use crate::exit::ExitCode;
use crate::output;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    verdict: String,
    /// The node that was asked.
    asked: NodeName,
    /// The node that answers, which is the leader where it can be asked.
    node: StatusJson,
    services: Vec<ServiceJson>,
    /// Where the file of `--config` differs from what is committed.
    warnings: Vec<String>,
}

pub(super) fn run(
    service: Option<&str>,
    node: Option<&str>,
    settings: &SettingsArg,
    format: Format,
) -> Result<ExitCode, Failure> {
    let service = service.map(ask::service_name).transpose()?;
    let settings = ask::load(settings)?;
    let client = ask::client_of(node, settings.as_ref())?;
    let (asked, Told { status, services }) = leader::hear(&client, service)?;
    let (code, verdict) = verdict(&status, &services);
    let warnings = settings.map_or_else(Vec::new, |file| {
        drift::warnings(&file, service, &status, &services)
    });
    for warning in &warnings {
        output::note(&format!("warning: {warning}"));
    }
    match format {
        Format::Text => lines(&verdict, &asked, &status, &services)
            .iter()
            .for_each(|line| output::result(line)),
        Format::Json => output::json(&Report {
            verdict,
            asked,
            node: status,
            services,
            warnings,
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
            "no quorum: {} has heard no leader {since}: {}; what follows may be out of date",
            status.node,
            remedy(status)
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
    let losses = losses(status, services);
    if !losses.is_empty() {
        return (ExitCode::Done, format!("degraded: {}", losses.join(", ")));
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

/// Voters that have been silent for longer are named as missing.
const SILENT_AFTER_MS: u64 = 1000;

fn silent_voters(status: &StatusJson) -> Vec<&str> {
    let is_silent = |age: Option<u64>| age.is_none_or(|age| age > SILENT_AFTER_MS);
    status
        .voters
        .iter()
        .filter(|(name, voter)| **name != status.node && is_silent(voter.heard_ms))
        .map(|(name, _)| name.as_str())
        .collect()
}

fn remedy(status: &StatusJson) -> String {
    match silent_voters(status)[..] {
        [] => "an election is under way, ask again".to_owned(),
        ref silent => format!("start or reconnect {}", silent.join(", ")),
    }
}

/// What is missing without being needed at the moment.
fn losses(status: &StatusJson, services: &[ServiceJson]) -> Vec<String> {
    // Voters talk to the leader, so that no other node can tell who is silent.
    let silent = if status.leader.as_ref() == Some(&status.node) {
        silent_voters(status)
    } else {
        Vec::new()
    };
    let voters = silent
        .into_iter()
        .map(|name| format!("voter {name} is silent"));
    let down = services.iter().flat_map(|service| {
        let down = service
            .instances
            .iter()
            .filter(|found| found.health == "down");
        down.map(|found| format!("{} of {} is down", found.instance, service.service))
    });
    voters.chain(down).collect()
}

fn primary_is_down(service: &ServiceJson) -> bool {
    service.instances.iter().any(|instance| {
        Some(&instance.instance) == service.primary.as_ref() && instance.health == "down"
    })
}

fn lines(
    verdict: &str,
    asked: &NodeName,
    status: &StatusJson,
    services: &[ServiceJson],
) -> Vec<String> {
    let leader = match &status.leader {
        Some(leader) => format!("leader {leader}"),
        None => "no leader".to_owned(),
    };
    let mut lines = vec![
        verdict.to_owned(),
        String::new(),
        format!(
            "cluster {}, asked {asked}, {leader}, told by {}, term {}, majority {} of {}",
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
        _ if *name == status.node => "told this".to_owned(),
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
    let mut lines = vec![
        format!(
            "{} ({}): {primary}, epoch {}, {stage}",
            service.service, service.engine, service.epoch
        ),
        format!(
            "  a write is acknowledged by {} of: {}",
            service.min_replicas,
            members(service)
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
        for problem in instance.rejected.iter().chain(&instance.trouble) {
            lines.push(format!("  {}: {problem}", instance.instance));
        }
        lines.extend(agent(instance));
    }
    for blocker in &service.blockers {
        lines.push(format!("  the next failover would block: {blocker}"));
    }
    lines
}

/// What its agent does, where there is one.
fn agent(instance: &InstanceJson) -> Option<String> {
    let agent = instance.agent.as_ref()?;
    let server = match agent.runs {
        Some(true) => "the server runs",
        Some(false) => "the server does not run",
        None => "the server was not looked at yet",
    };
    let doing = match agent.doing.as_str() {
        "" => String::new(),
        doing => format!("; {doing}"),
    };
    Some(format!("  {}: agent: {server}{doing}", instance.instance))
}

/// The write quorum, which is empty until a first replica was admitted.
fn members(service: &ServiceJson) -> String {
    if service.write_quorum.is_empty() {
        return "nobody yet".to_owned();
    }
    let members: Vec<String> = service
        .write_quorum
        .iter()
        .map(ToString::to_string)
        .collect();
    members.join(", ")
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    fn status(stale: bool) -> StatusJson {
        serde_json::from_value(json!({
            "schema": 1, "version": "0.1.0", "cluster": "main", "node": "s1", "myid": "", "role": "voter",
            "leader": "s2", "leader_http": "127.0.0.1:2", "term": 4, "majority": 2,
            "voters": {
                "s1": {"resp": null, "http": "127.0.0.1:1", "myid": "", "heard_ms": null},
                "s2": {"resp": null, "http": "127.0.0.1:2", "myid": "", "heard_ms": 40},
                "s3": {"resp": null, "http": null, "myid": "", "heard_ms": null},
            },
            "stale": stale, "as_of_ms": 4200,
        }))
        .unwrap()
    }

    fn service() -> ServiceJson {
        serde_json::from_value(json!({
            "schema": 1, "service": "orders", "engine": "redis", "stage": "steady", "target": null,
            "primary": "127.0.0.1:6379", "epoch": 3, "token_epoch": 3, "token_step": 9, "min_replicas": 1,
            "write_quorum": ["127.0.0.1:6380"], "witnesses": [], "quorum": 2,
            "instances": [
                {"instance": "127.0.0.1:6379", "health": "up", "evidence": null, "health_ms": 12_190,
                 "role": "primary", "upstream": null, "link": null, "synced": true, "lineage": "ab",
                 "offset": 4711, "priority": 100, "facts_ms": 80, "rejected": null},
                {"instance": "127.0.0.1:6380", "health": "down", "evidence": "refusal", "health_ms": 100,
                 "role": "replica", "upstream": "127.0.0.1:6379", "link": "syncing", "synced": false,
                 "lineage": null, "offset": null, "priority": 100, "facts_ms": 900, "rejected": null},
            ],
            "blockers": [], "stale": false, "as_of_ms": 10,
        }))
        .unwrap()
    }

    #[test]
    fn the_block_of_a_service_reads_in_columns() {
        let status = status(false);
        let asked = NodeName::new("o1");
        let lines = lines(
            "healthy: 1 service, 3 voters",
            &asked,
            &status,
            &[service()],
        );
        assert_eq!(
            lines,
            [
                "healthy: 1 service, 3 voters",
                "",
                "cluster main, asked o1, leader s2, told by s1, term 4, majority 2 of 3",
                "  s1  127.0.0.1:1  told this",
                "  s2  127.0.0.1:2  heard 40ms ago",
                "  s3  -            never heard",
                "",
                "orders (redis): primary 127.0.0.1:6379, epoch 3, steady",
                "  a write is acknowledged by 1 of: 127.0.0.1:6380",
                "  instance        role     health                     link                     offset  seen",
                "  127.0.0.1:6379  primary  up for 12.1s               -                        4711    80ms ago",
                "  127.0.0.1:6380  replica  down by refusal for 100ms  syncing, data not whole  -       900ms ago",
            ]
        );
    }

    #[test]
    fn what_ails_an_instance_is_said_below_the_table() {
        let mut service = service();
        service.instances[0].trouble = Some("the disk is full: make room".into());
        assert_eq!(
            block(&service).last().unwrap(),
            "  127.0.0.1:6379: the disk is full: make room"
        );
    }

    #[test]
    fn what_an_agent_does_is_said_below_the_table() {
        let mut service = service();
        for (runs, doing, wanted) in [
            (Some(true), "", "  127.0.0.1:6380: agent: the server runs"),
            (
                Some(false),
                "rewinding from 127.0.0.1:6379: copying, 40 %",
                "  127.0.0.1:6380: agent: the server does not run; rewinding from 127.0.0.1:6379: copying, 40 %",
            ),
            (
                None,
                "",
                "  127.0.0.1:6380: agent: the server was not looked at yet",
            ),
        ] {
            service.instances[1].agent = Some(crate::api::AgentJson {
                runs,
                doing: doing.to_owned(),
            });
            assert_eq!(block(&service).last().unwrap(), wanted);
        }
    }

    #[test]
    fn an_empty_write_quorum_is_said_in_words() {
        let mut service = service();
        service.write_quorum.clear();
        assert_eq!(
            block(&service)[1],
            "  a write is acknowledged by 1 of: nobody yet"
        );
    }

    #[test]
    fn the_worst_comes_first() {
        let judge = |stale: bool, change: &dyn Fn(&mut ServiceJson)| {
            let mut service = service();
            change(&mut service);
            verdict(&status(stale), &[service])
        };
        let blocked = |service: &mut ServiceJson| {
            service.blockers = vec![sentinel_core::reason::Reason::new("x", "why")];
        };
        for (stale, change, code, text) in [
            (
                false,
                &(|service: &mut ServiceJson| service.instances[1].health = "up".to_owned())
                    as &dyn Fn(&mut ServiceJson),
                ExitCode::Done,
                "healthy: 1 service, 3 voters",
            ),
            (
                false,
                &|_| {},
                ExitCode::Done,
                "degraded: 127.0.0.1:6380 of orders is down",
            ),
            (
                false,
                &blocked,
                ExitCode::Done,
                "at risk: the next failover would block: orders",
            ),
            (
                false,
                &|service| service.instances[0].health = "down".to_owned(),
                ExitCode::Done,
                "primary down: orders",
            ),
            (
                false,
                &|service| service.stage = "freezing".to_owned(),
                ExitCode::Done,
                "failover in progress: orders",
            ),
            (
                false,
                &|service| service.primary = None,
                ExitCode::NoPrimary,
                "no primary: orders; `sentinel explain SERVICE` says why",
            ),
            (
                true,
                &|service| service.primary = None,
                ExitCode::NoQuorum,
                "no quorum: s1 has heard no leader for 4.2s: start or reconnect s3; what follows may be out of date",
            ),
        ] {
            assert_eq!(judge(stale, change), (code, text.to_owned()));
        }
    }

    #[test]
    fn only_the_leader_names_a_silent_voter() {
        let mut service = service();
        service.instances.clear();
        let mut status = status(false);
        assert_eq!(losses(&status, &[]), Vec::<String>::new());
        status.leader = Some(status.node.clone());
        assert_eq!(
            verdict(&status, &[service]).1,
            "degraded: voter s3 is silent"
        );
    }
}
