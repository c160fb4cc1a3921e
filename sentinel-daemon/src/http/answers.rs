//! Turns a moment into the JSON of [`crate::api`].
//!
//! Pure. Does not know HTTP; which answer is an error is decided here, with which status in `routes.rs`.

use sentinel_core::detector::{Evidence, Health};
use sentinel_core::discovery::{Freshness, InstanceView, ServiceView, StageView};
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::ledger::HistoryEntry;
use sentinel_core::observation::{Facts, Link, Role, Upstream};

use crate::api::{
    AgentJson, DecisionJson, ExplainJson, FreshnessJson, InstanceJson, PrimaryJson, SCHEMA,
    ServiceJson, ServicesJson, StatusJson, VoterJson,
};
use crate::source::Moment;

/// Why there is no primary to name. Messages name the service; [`NoPrimary::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPrimary {
    /// None was ever adopted.
    #[error("service `{0}` has no primary yet")]
    Unadopted(ServiceName),
    /// The node is stale, and set to say nothing then.
    #[error("this node has heard of no leader lately, and is set to refuse stale answers")]
    Stale,
}

impl NoPrimary {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Unadopted(service) => {
                format!(
                    "ask /v1/services/{service}/explain at the leader why no instance was adopted"
                )
            }
            Self::Stale => "ask another node, or set stale_answers = \"serve\"".to_owned(),
        }
    }
}

/// `/v1/services/{name}/primary`.
pub fn primary(
    moment: &Moment,
    name: &ServiceName,
    service: &ServiceView,
) -> Result<PrimaryJson, NoPrimary> {
    if moment.refuses() {
        return Err(NoPrimary::Stale);
    }
    let primary = service.primary.clone();
    Ok(PrimaryJson {
        schema: SCHEMA,
        service: name.clone(),
        primary: primary.ok_or_else(|| NoPrimary::Unadopted(name.clone()))?,
        epoch: service.primary_epoch.0,
        freshness: freshness(moment),
    })
}

/// `/v1/services`.
pub fn services(moment: &Moment) -> ServicesJson {
    let all = moment.view.services.iter();
    ServicesJson {
        schema: SCHEMA,
        services: all
            .map(|(name, service)| self::service(moment, name, service))
            .collect(),
        freshness: freshness(moment),
    }
}

/// `/v1/services/{name}`.
pub fn service(moment: &Moment, name: &ServiceName, service: &ServiceView) -> ServiceJson {
    let (stage, target) = stage(&service.stage);
    let instances = service.instances.iter();
    ServiceJson {
        schema: SCHEMA,
        service: name.clone(),
        engine: service.settings.engine.clone(),
        stage: stage.to_owned(),
        target: target.cloned(),
        primary: service.primary.clone().filter(|_| !moment.refuses()),
        epoch: service.primary_epoch.0,
        token_epoch: service.token.epoch.0,
        token_step: service.token.step,
        min_replicas: service.write_quorum_k,
        write_quorum: service.write_quorum_members.clone(),
        witnesses: service.witnesses.clone(),
        quorum: service.verdict_quorum,
        instances: instances
            .map(|(id, view)| instance(moment, service, id, view))
            .collect(),
        settings: Some((&service.settings).into()),
        blockers: service.blockers.clone(),
        freshness: freshness(moment),
    }
}

/// `/v1/services/{name}/explain`.
pub fn explain(moment: &Moment, name: &ServiceName, service: &ServiceView) -> ExplainJson {
    ExplainJson {
        schema: SCHEMA,
        service: name.clone(),
        node: moment.view.node.clone(),
        leader: moment.view.leader.clone(),
        leader_http: leader_http(moment),
        stage: stage(&service.stage).0.to_owned(),
        decisions: service.history.iter().map(decision).collect(),
        report: service.report.clone(),
        blockers: service.blockers.clone(),
        freshness: freshness(moment),
    }
}

/// `/v1/status`.
pub fn status(moment: &Moment) -> StatusJson {
    let view = &moment.view;
    let voter = |voter: &sentinel_core::discovery::PeerView| VoterJson {
        resp: voter.announced.resp.clone(),
        http: voter.announced.http.clone(),
        myid: voter.announced.myid.clone(),
        heard_ms: voter.heard.map(|heard| moment.ms_since(heard)),
    };
    StatusJson {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: view.cluster.clone(),
        node: view.node.clone(),
        myid: moment.myid.to_string(),
        role: view.role,
        leader: view.leader.clone(),
        leader_http: leader_http(moment),
        term: view.term.0,
        majority: view.voters.len() / 2 + 1,
        voters: view
            .voters
            .iter()
            .map(|(name, peer)| (name.clone(), voter(peer)))
            .collect(),
        freshness: freshness(moment),
    }
}

/// The word of a stage, and who is to be promoted in it.
pub fn stage(stage: &StageView) -> (&'static str, Option<&InstanceId>) {
    match stage {
        StageView::Unadopted => ("unadopted", None),
        StageView::Steady => ("steady", None),
        StageView::Switching(target) => ("switching", Some(target)),
        StageView::Freezing => ("freezing", None),
        StageView::Promoting(target) => ("promoting", Some(target)),
        StageView::Repointing => ("repointing", None),
    }
}

pub(super) fn freshness(moment: &Moment) -> FreshnessJson {
    FreshnessJson {
        stale: moment.freshness() != Freshness::Fresh,
        as_of_ms: moment.as_of_ms(),
    }
}

pub(super) fn leader_http(moment: &Moment) -> Option<InstanceId> {
    let leader = moment.view.leader.as_ref()?;
    moment.view.voters.get(leader)?.announced.http.clone()
}

fn decision(entry: &HistoryEntry) -> DecisionJson {
    DecisionJson {
        epoch: entry.token.epoch.0,
        step: entry.token.step,
        term: entry.term.0,
        decision: entry.decision.clone(),
        reasons: entry.reasons.clone(),
    }
}

fn instance(
    moment: &Moment,
    service: &ServiceView,
    id: &InstanceId,
    view: &InstanceView,
) -> InstanceJson {
    let facts = view.facts.as_ref();
    let (health, evidence) = health(&view.health);
    let (role, upstream, link) = facts.map_or((None, None, None), role);
    let position = facts.and_then(|facts| facts.position.as_ref());
    let own_priority = facts.map(|facts| facts.priority);
    InstanceJson {
        instance: id.clone(),
        health: health.to_owned(),
        evidence: evidence.map(str::to_owned),
        health_ms: moment.ms_since(view.health_since),
        role: role.map(str::to_owned),
        upstream: upstream.cloned(),
        link: link.map(str::to_owned),
        synced: facts.map(|facts| facts.synced),
        lineage: position.map(|position| position.lineage.as_str().to_owned()),
        offset: position.map(|position| position.offset.0),
        priority: service
            .settings
            .priorities
            .get(id)
            .copied()
            .or(own_priority),
        facts_ms: view.facts_at.map(|at| moment.ms_since(at)),
        rejected: view.rejected.clone(),
        trouble: facts.and_then(|facts| facts.trouble.clone()),
        agent: view.agent.as_ref().map(|agent| AgentJson {
            runs: agent.runs,
            doing: agent.doing.clone(),
        }),
    }
}

fn health(health: &Health) -> (&'static str, Option<&'static str>) {
    match health {
        Health::Unknown => ("unknown", None),
        Health::Up => ("up", None),
        Health::Suspect => ("suspect", None),
        Health::Down(evidence) => {
            let evidence = match evidence {
                Evidence::Silence => "silence",
                Evidence::Refusal => "refusal",
                Evidence::Restarted => "restarted",
                Evidence::NotPrimary => "not_primary",
            };
            ("down", Some(evidence))
        }
    }
}

type RoleWords<'a> = (
    Option<&'static str>,
    Option<&'a InstanceId>,
    Option<&'static str>,
);

fn role(facts: &Facts) -> RoleWords<'_> {
    match &facts.role {
        Role::Primary => (Some("primary"), None, None),
        Role::Replica { upstream, link } => {
            let link = match link {
                Link::Streaming => "streaming",
                Link::Syncing => "syncing",
                Link::Broken => "broken",
                Link::Stranded => "stranded",
            };
            match upstream {
                Upstream::Instance(upstream) => (Some("replica"), Some(upstream), Some(link)),
                Upstream::Frozen => (Some("frozen"), None, Some(link)),
            }
        }
    }
}
