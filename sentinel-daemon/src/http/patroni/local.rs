//! One instance that this node is the agent of: what the committed table says of it, and what this node last saw of it.
//!
//! Reads the view and nothing else: no server is asked while a client waits. Does not know paths, nor what a
//! load balancer makes of an answer.

use std::collections::BTreeSet;
use std::time::Duration;

use sentinel_core::detector::Health;
use sentinel_core::discovery::{Freshness, InstanceView, ServiceView};
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::observation::{Facts, Link, Role, Upstream};

use super::refusal::Refusal;
use crate::source::Moment;

/// Facts in the view are renewed at least once in so long, while the instance answers.
const FACTS_RENEWED: Duration = Duration::from_secs(1);

/// How far a replica has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach {
    /// What it answers with: Patroni's `apply`, and the usual one.
    #[default]
    Replayed,
    /// What it holds: Patroni's `write`.
    Received,
}

/// An instance at the moment of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local<'a> {
    pub(super) moment: &'a Moment,
    pub(super) name: &'a ServiceName,
    pub(super) id: &'a InstanceId,
    /// `None` while the service is not in the committed table.
    pub(super) service: Option<&'a ServiceView>,
}

impl<'a> Local<'a> {
    /// The instance that a request speaks of: the one that it names, else the first.
    pub(super) fn of(
        moment: &'a Moment,
        agent_of: &'a BTreeSet<(ServiceName, InstanceId)>,
        named: Option<&InstanceId>,
    ) -> Option<Self> {
        let mut own = agent_of.iter();
        let (name, id) = own.find(|(_, id)| named.is_none_or(|named| named == id))?;
        let service = moment.view.services.get(name).map(AsRef::as_ref);
        Some(Self {
            moment,
            name,
            id,
            service,
        })
    }

    /// The same for another instance of its service.
    pub(super) fn sibling(self, id: &'a InstanceId) -> Self {
        Self { id, ..self }
    }

    /// What is shown of the instance.
    pub(super) fn view(self) -> Option<&'a InstanceView> {
        self.service?.instances.get(self.id)
    }

    /// What it last said, provided that this was lately, and that nothing speaks against its still running.
    pub(super) fn facts(self) -> Result<&'a Facts, Refusal> {
        let service = self
            .service
            .ok_or_else(|| Refusal::NoService(self.name.clone()))?;
        let unseen = || Refusal::NeverSeen(self.id.clone());
        let instance = self.view().ok_or_else(unseen)?;
        if is_stopped(instance) {
            return Err(Refusal::Stopped(self.id.clone()));
        }
        let cause = || match &instance.rejected {
            Some(rejected) => format!(": {rejected}"),
            None => String::new(),
        };
        match &instance.health {
            Health::Up | Health::Suspect => {}
            Health::Unknown => return Err(unseen()),
            Health::Down(evidence) => {
                let evidence = format!("{evidence}{}", cause());
                return Err(Refusal::Down(self.id.clone(), evidence));
            }
        }
        let (Some(facts), Some(at)) = (&instance.facts, instance.facts_at) else {
            return Err(unseen());
        };
        if self.moment.now.since(at) > service.settings.down_after + FACTS_RENEWED {
            return Err(Refusal::SeenLongAgo {
                instance: self.id.clone(),
                ms: self.moment.ms_since(at),
            });
        }
        Ok(facts)
    }

    /// Whether a leader was heard lately, so that the table can be trusted to be current.
    pub(super) fn fresh(self) -> Result<(), Refusal> {
        match self.moment.freshness() {
            Freshness::Fresh => Ok(()),
            Freshness::Stale(_) => Err(Refusal::Stale(self.moment.as_of_ms())),
        }
    }

    /// Whether it is the primary of a completed change and has its authority still, as the table has it: the
    /// instance itself is not believed.
    pub(super) fn is_authorised(self) -> Result<(), Refusal> {
        let service = self
            .service
            .ok_or_else(|| Refusal::NoService(self.name.clone()))?;
        let answered = service.primary.as_ref();
        if answered != Some(self.id) {
            return Err(Refusal::NotPrimary {
                instance: self.id.clone(),
                primary: answered.cloned(),
            });
        }
        let facts = self.facts()?;
        // While somebody else is promoted, the answer is still the old one, and its authority has ended.
        let authorised = service.authorised.as_ref();
        if authorised.is_none_or(|member| member.instance != *self.id) {
            return Err(Refusal::Deposed(self.id.clone()));
        }
        if authorised.is_none_or(|member| member.incarnation != facts.incarnation) {
            return Err(Refusal::OtherIncarnation(self.id.clone()));
        }
        match facts.role {
            Role::Primary => Ok(()),
            Role::Replica { .. } => Err(Refusal::SaysReplica(self.id.clone())),
        }
    }

    /// Whether it is a running replica with whole data. What it serves may be old; how old is the lag's business.
    pub(super) fn is_replica(self) -> Result<&'a Facts, Refusal> {
        let facts = self.facts()?;
        match facts.role {
            Role::Primary => Err(Refusal::SaysPrimary(self.id.clone())),
            Role::Replica { .. } if !facts.synced => Err(Refusal::NotSynced(self.id.clone())),
            Role::Replica { .. } => Ok(facts),
        }
    }

    /// Whether it receives at this time.
    pub(super) fn is_streaming(self) -> bool {
        self.facts().is_ok_and(|facts| match &facts.role {
            Role::Primary => false,
            Role::Replica { upstream, link } => {
                let receives = matches!(upstream, Upstream::Instance(_));
                receives && *link == Link::Streaming
            }
        })
    }

    /// Whether its acknowledgement counts for writes.
    pub(super) fn in_write_quorum(self) -> bool {
        self.service
            .is_some_and(|service| service.write_quorum_members.contains(self.id))
    }

    /// Whether no write is acknowledged without it: it counts, and so many are needed that all are.
    pub(super) fn in_every_write(self) -> bool {
        self.in_write_quorum()
            && self.service.is_some_and(|service| {
                service.write_quorum_members.len() <= service.write_quorum_k as usize
            })
    }

    /// Bytes of the primary's history that it has not received, or not replayed; `None` when nobody can say.
    ///
    /// A primary that is down counts with what it said last: replicas are not further behind because it is gone.
    pub(super) fn lag_bytes(self, reach: Reach) -> Option<u64> {
        let primary = self.sibling(self.service?.primary.as_ref()?).view()?;
        let primary = primary.facts.as_ref()?;
        let end = primary.position.as_ref()?;
        let facts = self.facts().ok()?;
        let own = facts.position.as_ref();
        let own = own.filter(|own| own.lineage == end.lineage)?;
        // Both ends of one reading are better than two readings at different times.
        let links = primary.replicas.iter();
        let mut streams = links.filter(|link| link.link == Link::Streaming);
        let link = streams.find(|link| link.instance == *self.id);
        let (own, link) = match reach {
            Reach::Received => (own.offset, link.map(|link| link.acknowledged)),
            Reach::Replayed => (
                facts.applied.unwrap_or(own.offset),
                link.map(|link| link.applied.unwrap_or(link.acknowledged)),
            ),
        };
        let reached = link.map_or(own, |link| own.max(link));
        Some(end.offset.0.saturating_sub(reached.0))
    }
}

/// Whether the agent says that there is no process.
pub(super) fn is_stopped(instance: &InstanceView) -> bool {
    let agent = instance.agent.as_ref();
    agent.is_some_and(|agent| agent.runs == Some(false))
}
