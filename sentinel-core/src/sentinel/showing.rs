//! Builds the view: only what changed is built anew, the rest is shared with the view before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::NodeSettings;
use crate::discovery::{InstanceView, PeerView, ServiceView, StageView, View};
use crate::failover::{Desk, Sight};
use crate::id::{Epoch, InstanceId, Term};
use crate::ledger::{ServiceState, Stage};
use crate::peer::AgentState;
use crate::planted::Bug;
use crate::quorum::majority;
use crate::reason::Reason;
use crate::sentinel::post::Post;
use crate::sentinel::{Output, Sentinel};
use crate::time::Instant;

/// The view of a node that knows nothing yet.
pub(super) fn empty(settings: &NodeSettings) -> View {
    View {
        cluster: settings.cluster.clone(),
        node: settings.name.clone(),
        role: settings.role,
        leader: None,
        term: Term(0),
        leader_heard: None,
        stale_after: settings.timing.stale_after,
        voters: settings
            .voters
            .iter()
            .map(|name| (name.clone(), PeerView::default()))
            .collect(),
        services: BTreeMap::new(),
    }
}

impl Sentinel {
    /// Puts a new view out if anything shown has changed.
    pub(super) fn show(&mut self, now: Instant) {
        let mut changed = self.view_stale || self.view.services.len() != self.posts.len();
        self.view_stale = false;
        let voters = self.settings.voters.len();
        for name in std::mem::take(&mut self.visited) {
            let (Some(state), Some(post)) =
                (self.table.services.get(&name), self.posts.get_mut(&name))
            else {
                continue;
            };
            if post.view_stale || post.view.is_none() {
                let agents = self.agents.of(now, &name);
                let blockers = blockers(now, state, post, &self.settings, &agents);
                let mut view = service_view(state, post, voters, blockers, &agents);
                if self.settings.bugs.has(Bug::AnswerBeforePromoted) {
                    answer_early(&mut view, &state.stage);
                }
                post.view = Some(Arc::new(view));
                post.view_stale = false;
                self.refreshed.remove(&name);
                changed = true;
            }
        }
        if !changed {
            return;
        }
        if self.is_leader() {
            // Kept: a leader that steps down must not look as if it had never had a majority.
            self.leader_heard = self.leader_heard.max(self.contact(now));
        }
        let view = View {
            leader: self.leader(),
            term: self.term(),
            leader_heard: self.leader_heard,
            voters: self.voters(),
            services: self
                .posts
                .iter()
                .filter_map(|(name, post)| Some((name.clone(), post.view.clone()?)))
                .collect(),
            ..empty(&self.settings)
        };
        self.view = Arc::new(view);
        self.outputs.push_back(Output::View(Arc::clone(&self.view)));
    }

    fn voters(&self) -> BTreeMap<crate::id::NodeName, PeerView> {
        let view = |name| self.peers.get(name).cloned().unwrap_or_default();
        self.settings
            .voters
            .iter()
            .map(|name| (name.clone(), view(name)))
            .collect()
    }
}

/// What would keep the next failover from succeeding; known to the leader only.
fn blockers(
    now: Instant,
    state: &ServiceState,
    post: &Post,
    settings: &NodeSettings,
    agents: &BTreeMap<InstanceId, AgentState>,
) -> Vec<Reason> {
    let desk: &Desk = match (&post.desk, &state.stage) {
        (Some(desk), Stage::Steady | Stage::Repointing) => desk,
        (
            Some(_),
            Stage::Unadopted | Stage::Switching { .. } | Stage::Freezing | Stage::Promoting { .. },
        )
        | (None, _) => {
            return Vec::new();
        }
    };
    let verdict = post.verdict.as_ref();
    Sight {
        now,
        state,
        monitor: &post.monitor,
        verdict,
        desk,
        agents,
        bugs: &settings.bugs,
    }
    .blockers()
}

fn service_view(
    state: &ServiceState,
    post: &Post,
    voters: usize,
    blockers: Vec<Reason>,
    agents: &BTreeMap<InstanceId, AgentState>,
) -> ServiceView {
    let needed = state
        .settings
        .quorum
        .map_or(majority(voters), |quorum| quorum as usize);
    ServiceView {
        settings: state.settings.clone(),
        token: state.token,
        stage: stage_view(&state.stage),
        primary: state.answer.as_ref().map(|answer| answer.primary.clone()),
        primary_epoch: state
            .answer
            .as_ref()
            .map_or(Epoch(0), |answer| answer.epoch),
        authorised: state.primary.clone(),
        lineages: state.chain.elements().to_vec(),
        write_quorum_k: state
            .configs
            .last()
            .map_or(state.settings.min_replicas, |config| config.k),
        write_quorum_members: state
            .configs
            .iter()
            .flat_map(|config| config.members.keys())
            .cloned()
            .collect(),
        instances: instances(post, agents),
        witnesses: post
            .verdict
            .as_ref()
            .map(|verdict| verdict.witness_names())
            .unwrap_or_default(),
        verdict_quorum: u32::try_from(needed).unwrap_or(u32::MAX),
        report: post.report.clone(),
        blockers,
        history: state.history.iter().cloned().collect(),
    }
}

/// The planted bug: the target is answered before anybody saw it as primary.
fn answer_early(view: &mut ServiceView, stage: &Stage) {
    if let Stage::Promoting { target, .. } = stage {
        view.primary = Some(target.instance.clone());
        view.primary_epoch = view.token.epoch;
    }
}

fn stage_view(stage: &Stage) -> StageView {
    match stage {
        Stage::Unadopted => StageView::Unadopted,
        Stage::Steady => StageView::Steady,
        Stage::Switching { target } => StageView::Switching(target.clone()),
        Stage::Freezing => StageView::Freezing,
        Stage::Promoting { target, .. } => StageView::Promoting(target.instance.clone()),
        Stage::Repointing => StageView::Repointing,
    }
}

fn instances(
    post: &Post,
    agents: &BTreeMap<InstanceId, AgentState>,
) -> BTreeMap<InstanceId, InstanceView> {
    let view = |instance: &InstanceId, watch: &crate::monitor::Watch| InstanceView {
        agent: agents.get(instance).cloned(),
        health: watch.health().clone(),
        health_since: watch.health_since(),
        facts: watch.reading().map(|reading| reading.facts.clone()),
        facts_at: watch.reading().map(|reading| reading.read_at),
        rejected: watch.rejected().map(str::to_owned),
    };
    post.monitor
        .watches()
        .iter()
        .map(|(instance, watch)| (instance.clone(), view(instance, watch)))
        .collect()
}
