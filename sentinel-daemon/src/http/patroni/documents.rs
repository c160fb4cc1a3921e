//! The JSON of Patroni's paths, with its keys, of what is known here.
//!
//! What nobody here knows is left out and never made up: no version or start of the server, no
//! tags, no `patroni.version`. The object `sentinel` is ours: whether the table is current, and why an answer is no.

use sentinel_core::discovery::ServiceView;
use sentinel_core::id::InstanceId;
use sentinel_core::observation::{Facts, Link, Role};
use sentinel_core::position::{Lineage, Offset};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::judgement::STREAMING;
use super::local::{Local, Reach, is_stopped};
use super::refusal::Refusal;
use crate::http::answers;

/// `GET /patroni`, and the body of each health path. `no` is why the answer is no.
pub(super) fn patroni(local: Local<'_>, no: Option<&Refusal>) -> Value {
    let mut body = Map::new();
    body.insert("state".into(), state(local).into());
    if let Some(role) = role(local) {
        body.insert("role".into(), role.into());
    }
    if let Ok(facts) = local.facts() {
        seen(local, facts, &mut body);
    }
    if local
        .service
        .is_some_and(|service| service.primary.is_none())
    {
        body.insert("cluster_unlocked".into(), true.into());
    }
    body.insert(
        "patroni".into(),
        json!({"scope": local.name, "name": local.id}),
    );
    body.insert("sentinel".into(), ours(local, no));
    body.into()
}

/// `GET /cluster`.
pub(super) fn cluster(local: Local<'_>) -> Value {
    let instances = local.service.into_iter().flat_map(|s| s.instances.keys());
    let members: Vec<Value> = instances.map(|id| member(local.sibling(id))).collect();
    json!({
        "members": members,
        "scope": local.name,
        "sentinel": ours(local, None),
    })
}

/// `GET /history`: each timeline that was left, where, and why. When and for whom is not kept with it.
pub(super) fn history(local: Local<'_>) -> Value {
    let lineages = local.service.map_or(&[][..], |service| &service.lineages);
    let mut rows = Vec::new();
    for pair in lineages.windows(2) {
        let [left, next] = pair else { continue };
        let timeline = left.lineage.as_ref().and_then(Branch::parse);
        // One that is only being opened has no place yet.
        if let (Some(left), Some(_)) = (timeline, &next.lineage) {
            rows.push(json!([left.timeline, next.start, "failover"]));
        }
    }
    rows.into()
}

fn seen(local: Local<'_>, facts: &Facts, body: &mut Map<String, Value>) {
    if let Some(position) = &facts.position {
        let xlog = match (&facts.role, facts.applied) {
            (Role::Primary, _) => json!({"location": position.offset}),
            (Role::Replica { .. }, None) => json!({"received_location": position.offset}),
            (Role::Replica { .. }, Some(applied)) => {
                json!({"received_location": position.offset, "replayed_location": applied})
            }
        };
        body.insert("xlog".into(), xlog);
        if let Some(branch) = Branch::parse(&position.lineage) {
            body.insert("timeline".into(), branch.timeline.into());
            let system = branch.system_identifier.into();
            body.insert("database_system_identifier".into(), system);
        }
    }
    if !facts.replicas.is_empty() {
        let rows: Vec<Value> = facts.replicas.iter().map(|link| row(facts, link)).collect();
        body.insert("replication".into(), rows.into());
    }
    if local.is_streaming() {
        body.insert("replication_state".into(), STREAMING.into());
    }
    if local.is_replica().is_ok() {
        for (key, holds) in [
            ("quorum_standby", local.in_write_quorum()),
            ("sync_standby", local.in_every_write()),
        ] {
            if holds {
                body.insert(key.into(), true.into());
            }
        }
    }
}

/// A row of `replication`. Which of the connected replicas count is read from the primary itself.
fn row(facts: &Facts, link: &sentinel_core::observation::ReplicaLink) -> Value {
    let quorum = facts.write_quorum.as_ref();
    let counts = quorum.is_some_and(|quorum| quorum.members.contains(&link.instance));
    let mut row = Map::new();
    row.insert("application_name".into(), json!(link.instance));
    match link.link {
        Link::Streaming => drop(row.insert("state".into(), STREAMING.into())),
        Link::Syncing | Link::Broken | Link::Stranded => {}
    }
    let sync_state = if counts { "quorum" } else { "async" };
    row.insert("sync_state".into(), sync_state.into());
    row.into()
}

fn member(local: Local<'_>) -> Value {
    let mut member = Map::new();
    member.insert("name".into(), json!(local.id));
    if let Some(role) = member_role(local) {
        member.insert("role".into(), role.into());
    }
    let state = if local.is_streaming() {
        STREAMING
    } else {
        state(local)
    };
    member.insert("state".into(), state.into());
    member.insert("host".into(), local.id.host().into());
    member.insert("port".into(), local.id.port().into());
    let position = local.facts().ok().and_then(|facts| facts.position.as_ref());
    if let Some(branch) = position.and_then(|position| Branch::parse(&position.lineage)) {
        member.insert("timeline".into(), branch.timeline.into());
    }
    if !is_answered(local) {
        // Patroni says so in this word.
        let lag = |reach| {
            let lag = local.lag_bytes(reach);
            lag.map_or_else(|| Value::from("unknown"), Value::from)
        };
        member.insert("lag".into(), lag(Reach::Received));
        member.insert("receive_lag".into(), lag(Reach::Received));
        member.insert("replay_lag".into(), lag(Reach::Replayed));
        if let Some(position) = position {
            member.insert("receive_lsn".into(), lsn(position.offset).into());
        }
        if let Some(applied) = local.facts().ok().and_then(|facts| facts.applied) {
            member.insert("replay_lsn".into(), lsn(applied).into());
        }
    }
    member.into()
}

/// In `/cluster` the primary is whoever the table names, and the leader of a stale table is nobody where the settings
/// want that.
fn member_role(local: Local<'_>) -> Option<&'static str> {
    if is_answered(local) {
        return (!local.moment.refuses()).then_some("leader");
    }
    local.is_replica().ok()?;
    Some(if local.in_every_write() {
        "sync_standby"
    } else if local.in_write_quorum() {
        "quorum_standby"
    } else {
        "replica"
    })
}

/// The role of one that is what it says: a primary without authority has none.
fn role(local: Local<'_>) -> Option<&'static str> {
    if local.is_authorised().is_ok() {
        return Some("primary");
    }
    local.is_replica().ok().map(|_| "replica")
}

fn state(local: Local<'_>) -> &'static str {
    if local.facts().is_ok() {
        "running"
    } else if local.view().is_some_and(is_stopped) {
        "stopped"
    } else {
        "unknown"
    }
}

fn is_answered(local: Local<'_>) -> bool {
    let primary = local.service.and_then(|service| service.primary.as_ref());
    primary == Some(local.id)
}

#[derive(Serialize)]
struct Ours<'a> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary: Option<&'a InstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(flatten)]
    freshness: crate::api::FreshnessJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn ours(local: Local<'_>, no: Option<&Refusal>) -> Value {
    let service: Option<&ServiceView> = local.service;
    let answered = service.filter(|_| !local.moment.refuses());
    json!(Ours {
        node: local.moment.view.node.as_str(),
        stage: service.map(|service| answers::stage(&service.stage).0),
        primary: answered.and_then(|service| service.primary.as_ref()),
        epoch: service.map(|service| service.primary_epoch.0),
        freshness: answers::freshness(local.moment),
        reason: no.map(ToString::to_string),
    })
}

/// What the name of a lineage tells: PostgreSQL's adapter writes `SYSTEM/TIMELINE@FORK`. That of another engine tells nothing.
#[derive(Debug, PartialEq, Eq)]
struct Branch<'a> {
    system_identifier: &'a str,
    timeline: u32,
}

impl<'a> Branch<'a> {
    fn parse(lineage: &'a Lineage) -> Option<Self> {
        let (system_identifier, rest) = lineage.as_str().split_once('/')?;
        let (timeline, _fork) = rest.split_once('@')?;
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let timeline = timeline
            .parse()
            .ok()
            .filter(|_| digits(system_identifier))?;
        Some(Self {
            system_identifier,
            timeline,
        })
    }
}

/// A position as PostgreSQL writes it.
fn lsn(Offset(offset): Offset) -> String {
    format!("{:X}/{:X}", offset >> 32, offset & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lineage_of_postgresql_tells_its_timeline() {
        let lineage = Lineage::new("7268616322854375442/3@0/4000060");
        let branch = Branch {
            system_identifier: "7268616322854375442",
            timeline: 3,
        };
        assert_eq!(Branch::parse(&lineage), Some(branch));
        for other in [
            "65514128a02c84fd30623d4f76c58b393ea5413b",
            "a/3@0/0",
            "1/x@0/0",
            "/1@0/0",
        ] {
            assert_eq!(Branch::parse(&Lineage::new(other)), None, "{other}");
        }
        assert_eq!(lsn(Offset(0x16_B374_D848)), "16/B374D848");
    }
}
