//! The order of a demonstration: start, write, break, wait, repair, read back.
//!
//! Decides what comes when, and nothing of how. What goes wrong after the fault is kept in the report, and everything
//! acknowledged is read back all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sentinel_core::id::InstanceId;

use super::cluster::Cluster;
use super::error::{DemoError, system};
use super::journal::{self, Acked, Journal};
use super::layout::{SERVERS, SERVICE, Wiring};
use super::options::{DemoOptions, Fault};
use super::patience;
use super::proxy::Cable;
use super::readback;
use super::report::{Endpoints, Report, Stay, Times, millis};
use super::timeline::{Mark, Timeline};
use super::writers::Writers;
use crate::api::ServiceJson;
use crate::output;

/// Writes before the fault.
const LEAD: Duration = Duration::from_secs(2);

/// Writes after the first one of the new primary.
const TRAIL: Duration = Duration::from_secs(3);

/// How long the network stays apart, after the primary counts as down.
const APART: Duration = Duration::from_secs(4);

/// How long the voters may take to begin, and to be whole again afterwards: a full copy waits for `restart_delay`.
const WHOLE_MAX: Duration = Duration::from_secs(40);

/// How long a new primary may take, beyond `down_after`.
const FAILOVER_MAX: Duration = Duration::from_secs(20);

/// A cluster that writers write to, before the fault.
pub(super) struct Play {
    options: DemoOptions,
    cluster: Cluster,
    journal: Arc<Journal>,
    primary: InstanceId,
    epoch: u64,
}

/// What was found out on the way to the report.
struct Findings {
    fault: Instant,
    timeline: Timeline,
    promoted: Option<(InstanceId, u64)>,
    lost: Option<u64>,
    error: Option<DemoError>,
}

impl Play {
    /// Starts everything, and waits until the voters guard a primary with two replicas that count.
    pub(super) async fn prepare(options: DemoOptions) -> Result<Self, DemoError> {
        let wiring = match options.chosen_fault() {
            Fault::Kill | Fault::Hang => Wiring::Direct,
            Fault::Isolate => Wiring::Separable,
        };
        output::note("starting a primary, two replicas and three voters");
        let mut cluster = Cluster::start(wiring, options.down_after, options.planted()).await?;
        let service = whole(&mut cluster).await?;
        let Some(primary) = service.primary else {
            return Err(in_vain("a primary is known", WHOLE_MAX));
        };
        output::note(&format!(
            "ready: {primary} is primary, and one of {} replicas must hold a write",
            service.write_quorum.len()
        ));
        Ok(Self {
            options,
            cluster,
            journal: Arc::new(Journal::new()),
            primary,
            epoch: service.epoch,
        })
    }

    /// Everything from the first write to the last one read back.
    pub(super) async fn perform(&mut self) -> Result<Report, DemoError> {
        let timeline = Timeline::listen(&self.cluster.resp()).await?;
        let writers = Writers::start(&self.cluster.resp(), self.stuck_to(), &self.journal);
        let begun = self.journal.acknowledged_elsewhere(Instant::now(), &[]);
        within("the first write is acknowledged", FAILOVER_MAX, begun).await?;
        output::note("writing on four connections");
        tokio::time::sleep(LEAD).await;

        let leader = self.leader().await?;
        let what = format!("{} {}", self.primary, self.options.chosen_fault().told());
        let fault = timeline.begin(&what);
        self.strike(leader)?;
        let mut findings = Findings {
            fault,
            timeline,
            promoted: None,
            lost: None,
            error: None,
        };
        if let Err(error) = self.recover(&mut findings, leader, writers).await {
            findings.error = Some(error);
        }
        Ok(self.report(findings))
    }

    async fn recover(
        &mut self,
        findings: &mut Findings,
        leader: Option<usize>,
        writers: Writers,
    ) -> Result<(), DemoError> {
        let taken = self.await_first_write(findings).await;
        self.repair(leader).await?;
        if self.options.chosen_fault() == Fault::Isolate {
            // The other half of the writers finds out only now.
            tokio::time::sleep(TRAIL).await;
        }
        writers.stop().await;
        output::note("everything is started again; waiting until all replicas count");
        let service = whole(&mut self.cluster).await;
        findings.promoted = self.promoted().await;
        let primary = service?.primary.unwrap_or_else(|| self.primary.clone());
        let acked = self.journal.acked();
        output::note(&format!(
            "reading {} acknowledged writes on {SERVERS} servers",
            acked.len()
        ));
        let servers: Vec<InstanceId> = self
            .cluster
            .layout
            .servers
            .iter()
            .map(|server| server.direct.clone())
            .collect();
        let lost = readback::lost(&acked, self.direct(&primary), &servers).await?;
        findings.lost = Some(lost);
        self.save(&acked)?;
        taken
    }

    /// Whoever became primary since the beginning, by the newest answer, and its epoch.
    async fn promoted(&self) -> Option<(InstanceId, u64)> {
        let answers = self.cluster.service().await;
        let newest = answers.into_iter().max_by_key(|service| service.epoch)?;
        let primary = newest.primary.filter(|_| newest.epoch > self.epoch)?;
        Some((primary, newest.epoch))
    }

    /// Waits for the new primary, or, where the network fell apart, for the time to mend it.
    async fn await_first_write(&self, findings: &Findings) -> Result<(), DemoError> {
        if self.options.chosen_fault() == Fault::Isolate {
            tokio::time::sleep(self.options.down_after + APART).await;
            return Ok(());
        }
        let old = self.old();
        let bound = self.options.down_after + FAILOVER_MAX;
        let taken = self.journal.acknowledged_elsewhere(findings.fault, &old);
        within("a new primary acknowledges a write", bound, taken).await?;
        let acked = self.journal.acked();
        if let Some(first) = journal::first_elsewhere(&acked, findings.fault, &old) {
            let text = format!("{} acknowledged a write", first.by);
            findings.timeline.saw(Mark::FirstWrite, first.at, &text);
        }
        tokio::time::sleep(TRAIL).await;
        Ok(())
    }

    /// The number of the voter to kill, if one is to be killed.
    async fn leader(&self) -> Result<Option<usize>, DemoError> {
        if !self.options.with_leader {
            return Ok(None);
        }
        let cluster = &self.cluster;
        patience::until("the voters agree on a leader", WHOLE_MAX, async || {
            let leader = cluster.leader().await;
            leader.ok_or_else(String::new)
        })
        .await
        .map(Some)
    }

    fn strike(&self, leader: Option<usize>) -> Result<(), DemoError> {
        let primary = self.cluster.server_at(&self.primary).unwrap_or_default();
        match self.options.chosen_fault() {
            Fault::Kill => self.cluster.signal_server(primary, Signal::KILL)?,
            Fault::Hang => self.cluster.signal_server(primary, Signal::STOP)?,
            Fault::Isolate => self.cluster.set_cable(Cable::Cut),
        }
        match leader {
            Some(leader) => self.cluster.signal_voter(leader, Signal::KILL),
            None => Ok(()),
        }
    }

    async fn repair(&mut self, leader: Option<usize>) -> Result<(), DemoError> {
        let primary = self.cluster.server_at(&self.primary).unwrap_or_default();
        match self.options.chosen_fault() {
            Fault::Kill => self.cluster.start_server(primary).await?,
            Fault::Hang => self.cluster.signal_server(primary, Signal::CONT)?,
            Fault::Isolate => self.cluster.set_cable(Cable::Whole),
        }
        match leader {
            Some(leader) => self.cluster.start_voter(leader),
            None => Ok(()),
        }
    }

    /// The server that half of the writers stick to where the network falls apart.
    fn stuck_to(&self) -> Option<&InstanceId> {
        match self.options.chosen_fault() {
            Fault::Kill | Fault::Hang => None,
            Fault::Isolate => Some(self.direct(&self.primary)),
        }
    }

    /// Both addresses of the old primary.
    fn old(&self) -> [InstanceId; 2] {
        [self.primary.clone(), self.direct(&self.primary).clone()]
    }

    /// Where a server listens itself.
    fn direct<'a>(&'a self, address: &'a InstanceId) -> &'a InstanceId {
        match self.cluster.server_at(address) {
            Some(index) => &self.cluster.layout.servers[index].direct,
            None => address,
        }
    }

    fn save(&self, acked: &[Acked]) -> Result<(), DemoError> {
        let keys: String = acked.iter().map(|acked| acked.key.name() + "\n").collect();
        std::fs::write(self.cluster.acknowledged_file(), keys)
            .map_err(system("the acknowledged keys cannot be written"))
    }

    fn report(&self, findings: Findings) -> Report {
        let acked = self.journal.acked();
        let time = |mark| findings.timeline.time(mark).map(millis);
        let first = journal::first_elsewhere(&acked, findings.fault, &self.old());
        let (new_primary, epoch) = findings.promoted.unzip();
        Report {
            service: SERVICE,
            engine: self.options.engine,
            durability: self.options.durability,
            fault: self.options.chosen_fault(),
            with_leader: self.options.with_leader,
            old_primary: Some(self.primary.clone()),
            new_primary,
            epoch: epoch.or(Some(self.epoch)),
            times: Times {
                detected_ms: time(Mark::Detected),
                decided_ms: time(Mark::Decided),
                promoted_ms: time(Mark::Promoted),
                first_write_ms: first.map(|first| millis(first.at - findings.fault)),
                write_gap_ms: journal::longest_gap(&acked).map(millis),
            },
            writes_sent: self.journal.sent(),
            writes_acked: acked.len() as u64,
            writes_lost: findings.lost,
            error: findings.error.map(|error| error.to_string()),
            stay: self.options.stay.then(|| Stay {
                endpoints: Endpoints {
                    resp: self.cluster.resp(),
                    http: self.cluster.http(),
                },
                acknowledged: self.cluster.acknowledged_file(),
            }),
        }
    }
}

/// Waits until every voter that runs says that the service is steady with all servers in it.
async fn whole(cluster: &mut Cluster) -> Result<ServiceJson, DemoError> {
    let waited = {
        let cluster = &*cluster;
        patience::until("all replicas count", WHOLE_MAX, async || {
            let mut answers = cluster.service().await;
            match answers.iter().find_map(lacking) {
                Some(lacking) => Err(lacking),
                None if answers.len() < cluster.layout.voters.len() => {
                    Err(format!("{} voters answer", answers.len()))
                }
                None => answers.pop().ok_or_else(String::new),
            }
        })
        .await
    };
    // A voter that ended is the better reason.
    if waited.is_err() {
        cluster.check_voters()?;
    }
    waited
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
