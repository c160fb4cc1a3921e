//! Carries out probes and actions: each on a task of its own, each answered exactly once.
//!
//! Decides what the answer is when the adapter gives none: late, or broken. Does not know what is probed or why.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;

use crate::action::{Action, Outcome};
use crate::id::{EngineName, ServiceName};
use crate::observation::{Observation, ProbeFailure, ProbeRequest};
use crate::sentinel::Input;
use crate::time::Deadline;

use super::adapter::Adapter;
use super::board::Board;
use super::clock::Clock;

/// Adapters keep their deadlines themselves; this much later the answer is given for them.
const GRACE: Duration = Duration::from_millis(50);

/// The adapters of a node, and what they are busy with.
pub(super) struct Hands {
    pub(super) clock: Clock,
    pub(super) adapters: BTreeMap<EngineName, Arc<dyn Adapter>>,
    /// Engines of the services in the settings, for as long as no view names the service.
    pub(super) seeds: BTreeMap<ServiceName, EngineName>,
    pub(super) board: Arc<Board>,
    pub(super) tasks: JoinSet<Input>,
}

/// Why an adapter gave no answer.
enum Silent {
    Late,
    Panicked,
}

impl Hands {
    /// Begins a probe.
    pub(super) fn probe(&mut self, request: ProbeRequest) {
        let adapter = self.adapter(&request.service);
        let (id, deadline) = (request.id, request.deadline);
        let clock = self.clock;
        self.tasks.spawn(async move {
            let observation = match adapter {
                Err(problem) => Observation::Failure(ProbeFailure::Rejected(problem)),
                Ok(adapter) => {
                    let answer = async move { adapter.probe(request).await };
                    match in_time(clock, deadline, answer).await {
                        Ok(observation) => observation,
                        Err(Silent::Late) => Observation::Failure(ProbeFailure::TimedOut),
                        // A fault of this program is no evidence against the instance.
                        Err(Silent::Panicked) => {
                            Observation::Failure(ProbeFailure::Rejected(PANICKED.into()))
                        }
                    }
                }
            };
            Input::Probed { id, observation }
        });
    }

    /// Begins an action.
    pub(super) fn act(&mut self, action: Action) {
        let adapter = self.adapter(&action.service);
        let (id, deadline) = (action.id, action.deadline);
        let clock = self.clock;
        self.tasks.spawn(async move {
            let outcome = match adapter {
                Err(problem) => Outcome::Refused(problem),
                Ok(adapter) => {
                    let answer = async move { adapter.act(action).await };
                    match in_time(clock, deadline, answer).await {
                        Ok(outcome) => outcome,
                        Err(Silent::Late) => Outcome::Unknown("no answer by the deadline".into()),
                        Err(Silent::Panicked) => Outcome::Unknown(PANICKED.into()),
                    }
                }
            };
            Input::Acted { id, outcome }
        });
    }

    /// The next answer; waits for ever while nothing is under way.
    pub(super) async fn answer(&mut self) -> Input {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(input)) => return input,
                // Only a task that was cancelled gives no answer, and nobody cancels one.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    fn adapter(&self, service: &ServiceName) -> Result<Arc<dyn Adapter>, String> {
        let view = self.board.view();
        let shown = view
            .services
            .get(service)
            .map(|service| &service.settings.engine);
        let engine = shown.or_else(|| self.seeds.get(service));
        let engine =
            engine.ok_or_else(|| format!("the engine of service `{service}` is not known yet"))?;
        let adapter = self.adapters.get(engine).map(Arc::clone);
        adapter.ok_or_else(|| {
            format!("this node has no adapter for engine `{engine}`: run a build that has it on every node")
        })
    }
}

const PANICKED: &str = "the adapter panicked, which is a fault of this program: please report it";

async fn in_time<T>(
    clock: Clock,
    deadline: Deadline,
    answer: impl Future<Output = T>,
) -> Result<T, Silent> {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    match tokio::time::timeout(clock.until(deadline) + GRACE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Silent::Panicked),
        Err(_) => Err(Silent::Late),
    }
}
