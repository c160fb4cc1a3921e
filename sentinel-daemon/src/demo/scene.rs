//! One service in a demonstration: its servers and writers, what happened to it, and the report on it.
//!
//! Knows how each step is done for one service, and not which step comes when. What goes wrong after the fault is kept
//! in the report, and everything acknowledged is read back all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sentinel_core::id::InstanceId;

use super::engines::{Fleet, SERVERS};
use super::error::{DemoError, system};
use super::journal::{self, Acked, Journal};
use super::options::{DemoOptions, Fault};
use super::patience;
use super::plan::ServicePlan;
use super::report::{Endpoints, Report, Stay, Times, millis};
use super::timeline::{Mark, Timeline};
use super::voters::Voters;
use super::writers::Writers;
use crate::api::ServiceJson;

/// Writes after the first one of the new primary.
pub(super) const TRAIL: Duration = Duration::from_secs(3);

/// How long the network stays apart, after the primary counts as down.
const APART: Duration = Duration::from_secs(4);

/// How long the voters may take to begin, and to be whole again afterwards: a full copy waits for `restart_delay`.
pub(super) const WHOLE_MAX: Duration = Duration::from_secs(40);

/// How long a new primary may take, beyond `down_after`.
const FAILOVER_MAX: Duration = Duration::from_secs(20);

/// A service that is guarded and whole.
#[derive(Debug)]
pub(super) struct Scene {
    plan: ServicePlan,
    fleet: Fleet,
    journal: Arc<Journal>,
    primary: InstanceId,
    epoch: u64,
    acknowledged: PathBuf,
}

/// It is written to, and listened to.
#[derive(Debug)]
pub(super) struct Opening {
    timeline: Timeline,
    writers: Writers,
}

/// What is found out after the fault, on the way to the report.
#[derive(Debug)]
pub(super) struct Aftermath {
    fault: Instant,
    timeline: Timeline,
    writers: Option<Writers>,
    promoted: Option<(InstanceId, u64)>,
    is_repaired: bool,
    lost: Option<u64>,
    error: Option<DemoError>,
}

impl Scene {
    /// Waits until the voters guard a primary with two replicas that count.
    pub(super) async fn prepare(
        plan: ServicePlan,
        fleet: Fleet,
        voters: &Voters,
        folder: &Path,
    ) -> Result<Self, DemoError> {
        let service = whole(voters, plan.name).await?;
        let Some(primary) = service.primary else {
            return Err(in_vain("a primary is known", WHOLE_MAX));
        };
        let counted = service.write_quorum.len();
        plan.note(&format!(
            "ready: {primary} is primary, and one of {counted} replicas must hold a write"
        ));
        Ok(Self {
            acknowledged: folder.join(format!("acknowledged-{}.txt", plan.name)),
            plan,
            fleet,
            journal: Arc::new(Journal::new()),
            primary,
            epoch: service.epoch,
        })
    }

    /// Begins to write, and waits for the first acknowledgement.
    pub(super) async fn open(&self, voters: &Voters) -> Result<Opening, DemoError> {
        let endpoints = voters.resp();
        let timeline = Timeline::listen(&endpoints, &self.plan).await?;
        let client = |number| self.fleet.writer(number, &self.primary, &endpoints);
        let writers = Writers::start(client, &self.journal);
        let begun = self.journal.acknowledged_elsewhere(Instant::now(), &[]);
        within("the first write is acknowledged", FAILOVER_MAX, begun).await?;
        self.plan.note("writing on four connections");
        Ok(Opening { timeline, writers })
    }

    /// Lets the fault happen. A switchover is ordered while it is watched, because its answer is its end.
    pub(super) fn strike(&self, opening: Opening) -> Result<Aftermath, DemoError> {
        let Opening { timeline, writers } = opening;
        let fault = timeline.begin(&format!("{} {}", self.primary, self.plan.fault.told()));
        self.fleet.strike(&self.primary)?;
        Ok(Aftermath {
            fault,
            timeline,
            writers: Some(writers),
            promoted: None,
            is_repaired: false,
            lost: None,
            error: None,
        })
    }

    /// Waits for the new primary, or, where the network fell apart, for the time to mend it.
    pub(super) async fn watch(
        &self,
        after: &mut Aftermath,
        voters: &Voters,
        leader: Option<usize>,
    ) {
        match self.plan.fault {
            Fault::Switchover => {
                let ordered = voters.switch_over(leader.unwrap_or_default(), self.plan.name);
                let switched = tokio::try_join!(ordered, self.first_write(after));
                if switched.is_err() {
                    // Called off: nobody else will take a write, and the old primary goes on.
                    tokio::time::sleep(TRAIL).await;
                }
                after.note_failure(switched.map(|_| ()));
            }
            Fault::Isolate => tokio::time::sleep(self.plan.down_after + APART).await,
            Fault::Kill | Fault::Hang => {
                let taken = self.first_write(after).await;
                after.note_failure(taken);
            }
        }
    }

    async fn first_write(&self, after: &Aftermath) -> Result<(), DemoError> {
        let old = self.fleet.addresses(&self.primary);
        let bound = self.plan.down_after + FAILOVER_MAX;
        let taken = self.journal.acknowledged_elsewhere(after.fault, &old);
        within("a new primary acknowledges a write", bound, taken).await?;
        let acked = self.journal.acked();
        if let Some(first) = journal::first_elsewhere(&acked, after.fault, &old) {
            let text = format!("{} acknowledged a write", first.by);
            after.timeline.saw(Mark::FirstWrite, first.at, &text);
        }
        tokio::time::sleep(TRAIL).await;
        Ok(())
    }

    /// Takes the fault away, and ends the writing.
    pub(super) async fn repair(&mut self, after: &mut Aftermath) {
        let repaired = self.fleet.repair(&self.primary).await;
        after.is_repaired = repaired.is_ok();
        after.note_failure(repaired);
        match self.plan.fault {
            // The other half of the writers finds out only now.
            Fault::Isolate => tokio::time::sleep(TRAIL).await,
            Fault::Kill | Fault::Hang | Fault::Switchover => {}
        }
        if let Some(writers) = after.writers.take() {
            writers.stop().await;
        }
    }

    /// Waits until all replicas count again, and reads back what was acknowledged.
    pub(super) async fn close(&self, after: &mut Aftermath, voters: &Voters) {
        if after.is_repaired {
            let closed = self.read_back(after, voters).await;
            after.note_failure(closed);
        }
    }

    async fn read_back(&self, after: &mut Aftermath, voters: &Voters) -> Result<(), DemoError> {
        let service = whole(voters, self.plan.name).await;
        after.promoted = self.promoted(voters).await;
        let primary = service?.primary.unwrap_or_else(|| self.primary.clone());
        let acked = self.journal.acked();
        self.plan.note(&format!(
            "reading {} acknowledged writes on {SERVERS} servers",
            acked.len()
        ));
        after.lost = Some(self.fleet.lost(&acked, &primary).await?);
        self.save(&acked)
    }

    /// Whoever became primary since the beginning, by the newest answer, and its epoch.
    async fn promoted(&self, voters: &Voters) -> Option<(InstanceId, u64)> {
        let answers = voters.service(self.plan.name).await;
        let newest = answers.into_iter().max_by_key(|service| service.epoch)?;
        let primary = newest.primary.filter(|_| newest.epoch > self.epoch)?;
        Some((primary, newest.epoch))
    }

    fn save(&self, acked: &[Acked]) -> Result<(), DemoError> {
        let keys: String = acked.iter().map(|acked| acked.key.name() + "\n").collect();
        std::fs::write(&self.acknowledged, keys)
            .map_err(system("the acknowledged keys cannot be written"))
    }

    /// What was found out.
    pub(super) fn report(
        &self,
        after: Aftermath,
        options: &DemoOptions,
        voters: &Voters,
    ) -> Report {
        let acked = self.journal.acked();
        let time = |mark| after.timeline.time(mark).map(millis);
        let old = self.fleet.addresses(&self.primary);
        let first = journal::first_elsewhere(&acked, after.fault, &old);
        let (new_primary, epoch) = after.promoted.unzip();
        Report {
            old_primary: Some(self.primary.clone()),
            new_primary,
            epoch: epoch.or(Some(self.epoch)),
            times: Times {
                detected_ms: time(Mark::Detected),
                decided_ms: time(Mark::Decided),
                promoted_ms: time(Mark::Promoted),
                first_write_ms: first.map(|first| millis(first.at - after.fault)),
                write_gap_ms: journal::longest_gap(&acked).map(millis),
            },
            writes_sent: self.journal.sent(),
            writes_acked: acked.len() as u64,
            writes_lost: after.lost,
            error: after.error.map(|error| error.to_string()),
            stay: options.stay.then(|| Stay {
                endpoints: Endpoints {
                    resp: voters.resp(),
                    http: voters.http(),
                },
                acknowledged: self.acknowledged.clone(),
            }),
            ..Report::empty(&self.plan, options)
        }
    }
}

impl Aftermath {
    /// Whether anything went wrong.
    pub(super) fn is_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Keeps what went wrong. The later failure is the more telling one: the earlier steps went on without it.
    pub(super) fn note_failure(&mut self, result: Result<(), DemoError>) {
        if let Err(error) = result {
            self.error = Some(error);
        }
    }
}

/// Waits until every voter says that the service is steady with all servers in it.
async fn whole(voters: &Voters, service: &str) -> Result<ServiceJson, DemoError> {
    patience::until("all replicas count", WHOLE_MAX, async || {
        let mut answers = voters.service(service).await;
        match answers.iter().find_map(lacking) {
            Some(lacking) => Err(lacking),
            None if answers.len() < voters.count() => {
                Err(format!("{} voters answer", answers.len()))
            }
            None => answers.pop().ok_or_else(String::new),
        }
    })
    .await
}

/// What the service lacks to be whole.
fn lacking(service: &ServiceJson) -> Option<String> {
    let down = service
        .instances
        .iter()
        .find(|instance| instance.health != "up");
    if service.stage != "steady" {
        Some(format!("the service is {}", service.stage))
    } else if service.primary.is_none() {
        Some("no primary".to_owned())
    } else if service.write_quorum.len() < SERVERS - 1 {
        Some(format!("{} replicas count", service.write_quorum.len()))
    } else {
        down.map(|instance| format!("{} is {}", instance.instance, instance.health))
    }
}

async fn within(
    what: &str,
    bound: Duration,
    happens: impl Future<Output = ()>,
) -> Result<(), DemoError> {
    tokio::time::timeout(bound, happens)
        .await
        .map_err(|_| in_vain(what, bound))
}

fn in_vain(what: &str, bound: Duration) -> DemoError {
    DemoError::InVain {
        what: what.to_owned(),
        bound,
        last: String::new(),
    }
}
