//! What operators ask of the leader, outside the protocol's own course.
//!
//! A question becomes a decision like any other: planned, checked, proposed, and granted by its commit. Only the
//! leader can grant one; another node says who that is. What becomes of it afterwards is told by views and events.

use crate::failover::{Sight, switching};
use crate::id::{InstanceId, NodeName, ServiceName, Token};
use crate::ledger::{Applied, Decision, Stage};
use crate::reason::Reason;
use crate::sentinel::{Output, Sentinel};
use crate::time::Instant;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Make another instance primary, without loss, while the primary is well.
    Switchover {
        /// Of this service.
        service: ServiceName,
        /// Whom; `None` leaves it to the leader.
        to: Option<InstanceId>,
    },
}

/// Why a question is not granted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Only the leader decides.
    #[error("this node does not lead: ask {}", leader.as_ref().map_or("again in a moment, no leader is known", NodeName::as_str))]
    NotLeader {
        /// Who leads, if it is known.
        leader: Option<NodeName>,
    },
    /// No such service.
    #[error("no service of that name is guarded")]
    UnknownService,
    /// It could not come to its end now.
    #[error("{}", reasons.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; "))]
    Refused {
        /// Why.
        reasons: Vec<Reason>,
    },
    /// Something else was decided first.
    #[error("something else was decided first: look at the status, and ask again")]
    MovedOn,
    /// There is nobody to answer.
    #[error("the node was stopped: start it again, or ask another one")]
    Stopped,
}

/// A question whose decision is on its way through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    id: u64,
    /// The token from which it was decided.
    from: Token,
}

impl Sentinel {
    pub(super) fn on_ask(&mut self, now: Instant, id: u64, ask: Ask) {
        let Ask::Switchover { service, to } = ask;
        match self.begin_switchover(now, &service, to) {
            Ok(from) => {
                if let Some(older) = self.asked.insert(service, Pending { id, from }) {
                    self.answer_ask(older.id, Err(AskError::MovedOn));
                }
            }
            Err(error) => self.answer_ask(id, Err(error)),
        }
    }

    /// Proposes it; the token from which that was decided.
    fn begin_switchover(
        &mut self,
        now: Instant,
        name: &ServiceName,
        to: Option<InstanceId>,
    ) -> Result<Token, AskError> {
        let Some(held) = self.leadership.clone().filter(|_| self.is_leader()) else {
            let leader = self.leader().filter(|leader| *leader != self.settings.name);
            return Err(AskError::NotLeader { leader });
        };
        if let Some(reason) = self.held_back(now, &held) {
            let reasons = vec![reason];
            return Err(AskError::Refused { reasons });
        }
        let (Some(state), Some(post)) = (self.table.services.get(name), self.posts.get(name))
        else {
            return Err(AskError::UnknownService);
        };
        let Some(desk) = post.desk.as_ref() else {
            return Err(AskError::NotLeader { leader: None });
        };
        let agents = self.agents.of(now, name);
        let sight = Sight {
            now,
            state,
            monitor: &post.monitor,
            verdict: post.verdict.as_ref(),
            desk,
            agents: &agents,
            bugs: &self.settings.bugs,
        };
        let target = choose(&sight, to).map_err(|reasons| AskError::Refused { reasons })?;
        let from = state.token;
        let text = format!("asked for by an operator, to {target}");
        let reasons = vec![Reason::new("switchover", text)];
        if self.propose(now, name, Decision::Switch { target }, reasons) {
            Ok(from)
        } else {
            Err(AskError::MovedOn)
        }
    }

    /// A decision on the service was committed, or ignored.
    pub(super) fn settle_ask(
        &mut self,
        name: &ServiceName,
        decision: &Decision,
        applied: &Applied,
    ) {
        let Some(pending) = self.asked.remove(name) else {
            return;
        };
        let granted = matches!(
            (decision, applied),
            (Decision::Switch { .. }, Applied::Done(_))
        );
        let answer = match self.table.services.get(name) {
            Some(service) if granted && service.token > pending.from => Ok(service.token),
            Some(_) | None => Err(AskError::MovedOn),
        };
        self.answer_ask(pending.id, answer);
    }

    /// This node leads no more: nobody can say here what becomes of what was proposed.
    pub(super) fn give_asks_back(&mut self) {
        for (_, pending) in std::mem::take(&mut self.asked) {
            let error = AskError::NotLeader { leader: None };
            self.answer_ask(pending.id, Err(error));
        }
    }

    fn answer_ask(&mut self, id: u64, answer: Result<Token, AskError>) {
        self.outputs.push_back(Output::Answered { id, answer });
    }
}

fn choose(sight: &Sight<'_>, to: Option<InstanceId>) -> Result<InstanceId, Vec<Reason>> {
    if sight.state.stage != Stage::Steady || sight.state.configs.len() != 1 {
        let text = "another change is under way: look at the status, and ask again";
        return Err(vec![Reason::new("not_steady", text)]);
    }
    let target = match to {
        Some(target) => target,
        None => switching::best_target(sight).ok_or_else(|| nobody(sight))?,
    };
    let obstacles = switching::obstacles(sight, &target);
    if obstacles.is_empty() {
        Ok(target)
    } else {
        Err(obstacles)
    }
}

fn nobody(sight: &Sight<'_>) -> Vec<Reason> {
    let text = "no replica could take over now";
    let mut reasons = vec![Reason::new("no_candidate", text)];
    reasons.extend(sight.blockers());
    reasons
}
