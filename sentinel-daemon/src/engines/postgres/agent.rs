//! The agent of a server on this host: made from the settings, told who is primary, and heard by the core.
//!
//! The agent needs the running node, and the adapter needs the agent before there is one: orders go through a [`Door`]
//! that is opened once the node runs. What an agent does is its own knowledge; here it is put into a few words.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sentinel_core::action::{Action, Outcome};
use sentinel_core::discovery::{Freshness, ServiceView, StageView, View};
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::peer::AgentState;
use sentinel_core::runtime::{AdapterContext, AgentNote, Clock, Handle};
use sentinel_postgres::agent::{
    AgentSettings, AgentStatus, Failover, How, Limits, PostgresHost, ServerState, Silence, Standing,
};
use sentinel_postgres::{Host, Hosts, PostgresAdapter, PostgresService};
use tokio::sync::{mpsc, watch};

use crate::engines::{AgentFailure, AgentStart, RunningAgent};
use crate::settings::{AgentEntry, RunSettings, Settings};

/// How often it is looked whether the view went stale, which no change of it tells.
const FRESHNESS_PACE: Duration = Duration::from_millis(500);

/// Where the core takes notes of agents, once there is a driver.
pub(super) type Notes = Arc<OnceLock<mpsc::Sender<AgentNote>>>;

/// The way from the adapter to an agent that begins after it.
#[derive(Default)]
pub(super) struct Door(OnceLock<PostgresHost>);

impl Host for Door {
    fn carry_out(&self, action: Action) -> BoxFuture<'static, Outcome> {
        match self.0.get() {
            Some(host) => host.carry_out(action),
            None => {
                let text = "the agent of this instance has not begun yet".to_owned();
                Box::pin(std::future::ready(Outcome::Refused(text)))
            }
        }
    }
}

/// One agent, before it begins.
pub(super) struct Plan {
    settings: AgentSettings,
    door: Arc<Door>,
    notes: Notes,
}

/// The agents of the settings, and the doors to them. `describe` is what the adapter knows of a service.
pub(super) fn plans(
    settings: &Settings,
    notes: &Notes,
    describe: impl Fn(&ServiceName) -> Option<PostgresService>,
) -> (Hosts, Vec<Plan>) {
    let mut hosts = Hosts::new();
    let mut plans = Vec::new();
    for entry in &settings.agents {
        let Some(service) = describe(&entry.service) else {
            continue;
        };
        let door = Arc::<Door>::default();
        let subject = (entry.service.clone(), entry.instance.clone());
        hosts.insert(subject, door.clone());
        plans.push(Plan {
            settings: agent_settings(settings, entry, service),
            door,
            notes: notes.clone(),
        });
    }
    (hosts, plans)
}

fn agent_settings(
    settings: &Settings,
    entry: &AgentEntry,
    service: PostgresService,
) -> AgentSettings {
    let own = std::path::absolute(&settings.data_dir).unwrap_or(settings.data_dir.clone());
    let subject = format!(
        "{}-{}-{}",
        entry.service,
        entry.instance.host().replace(['/', ':'], "_"),
        entry.instance.port()
    );
    let limits = &entry.limits;
    AgentSettings {
        service: entry.service.clone(),
        instance: entry.instance.clone(),
        data_dir: entry.data_dir.clone(),
        config_file: entry.config_file.clone(),
        bin_dir: entry.bin_dir.clone(),
        how: match &entry.run {
            RunSettings::Command => How::Command,
            RunSettings::PgCtl => How::PgCtl,
            RunSettings::PgCtlCluster { version, name } => How::PgCtlCluster {
                version: version.clone(),
                name: name.clone(),
            },
            RunSettings::Systemd { unit } => How::Systemd { unit: unit.clone() },
        },
        account: entry.user.clone(),
        log_file: entry.log_file.clone(),
        state_dir: own.join("agent").join(&subject),
        diverged_dir: match &entry.diverged_dir {
            Some(folder) => folder.clone(),
            None => own.join("diverged").join(&subject),
        },
        restart_after: entry.restart_after,
        limits: Limits {
            start: limits.start,
            smart: limits.smart,
            fast: limits.fast,
            immediate: limits.immediate,
        },
        // The coordinator's own role, which has what `sentinel postgres grants` prints.
        rewind: None,
        postgres: service,
        first_settings: entry.first_settings.clone(),
        slots_kept: entry.slots_kept,
    }
}

impl Plan {
    /// What begins the agent once the node runs.
    pub(super) fn start(self) -> AgentStart {
        Box::new(move |handle| self.begin(handle))
    }

    fn begin(self, handle: &Handle) -> Result<RunningAgent, AgentFailure> {
        let Self {
            settings,
            door,
            notes,
        } = self;
        let subject = (settings.service.clone(), settings.instance.clone());
        let failure = |problem: String| AgentFailure {
            service: subject.0.clone(),
            instance: subject.1.clone(),
            problem,
        };
        let (tell, standing) = watch::channel(Standing::default());
        let sql = own_adapter(&settings, handle.clock());
        let host = PostgresHost::start(settings, standing, sql, handle.clock())
            .map_err(|error| failure(error.to_string()))?;
        let status = host.status();
        if door.0.set(host).is_err() {
            return Err(failure("it was begun twice".to_owned()));
        }
        let tasks = [
            tokio::spawn(tell_standing(handle.clone(), subject.0.clone(), tell)),
            tokio::spawn(pass_notes(status, subject, notes)),
        ];
        Ok(Box::new(tasks.map(AbortOnDrop)))
    }
}

/// Ends a task with the agent that it belongs to.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The agent talks to its own server over connections of its own, by an adapter that knows no agent.
fn own_adapter(settings: &AgentSettings, clock: Clock) -> Arc<PostgresAdapter> {
    let services = [(settings.service.clone(), settings.postgres.clone())];
    // The core hears of the same server from its own adapter.
    let (disconnects, _) = mpsc::channel(1);
    let (notes, _) = mpsc::channel(1);
    let context = AdapterContext {
        clock,
        disconnects,
        notes,
    };
    Arc::new(PostgresAdapter::new(
        services.into_iter().collect(),
        Hosts::new(),
        context,
    ))
}

/// Tells an agent who is primary, with each change, and when nobody knows any longer.
async fn tell_standing(handle: Handle, service: ServiceName, tell: watch::Sender<Standing>) {
    let mut views = handle.views();
    loop {
        let standing = {
            let view = views.borrow_and_update();
            standing(&view, &service, view.freshness(handle.clock().now()))
        };
        tell.send_if_modified(|told| {
            let changed = *told != standing;
            *told = standing;
            changed
        });
        tokio::select! {
            changed = views.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(FRESHNESS_PACE) => {}
            () = tell.closed() => return,
        }
    }
}

/// A node that has lost the leader does not know whether another primary was made meanwhile.
fn standing(view: &View, service: &ServiceName, freshness: Freshness) -> Standing {
    match (view.services.get(service), freshness) {
        (Some(service), Freshness::Fresh) => Standing {
            primary: service.primary.clone(),
            // Of the newest commit: orders of a failover that was given up bear it too.
            epoch: service.token.epoch,
            failover: failover(&service.stage),
            silence: None,
        },
        (service, Freshness::Stale(_)) => Standing {
            silence: Some(Silence {
                token: service.map(|service| service.token).unwrap_or_default(),
                authority: service.and_then(|service| authority(service)),
                heard: view.leader_heard,
            }),
            ..Standing::default()
        },
        (None, Freshness::Fresh) => Standing::default(),
    }
}

fn failover(stage: &StageView) -> Failover {
    match stage {
        StageView::Steady => Failover::None,
        StageView::Freezing => Failover::Freezing,
        StageView::Unadopted
        | StageView::Switching(_)
        | StageView::Promoting(_)
        | StageView::Repointing => Failover::UnderWay,
    }
}

/// Who had the authority when the leader was last heard: from the decision to promote somebody on, that one.
fn authority(service: &ServiceView) -> Option<InstanceId> {
    match &service.stage {
        StageView::Promoting(target) => Some(target.clone()),
        StageView::Unadopted
        | StageView::Steady
        | StageView::Switching(_)
        | StageView::Freezing
        | StageView::Repointing => {
            let authorised = service.authorised.as_ref();
            authorised.map(|member| member.instance.clone())
        }
    }
}

/// Passes on to the core what an agent does.
async fn pass_notes(
    mut status: watch::Receiver<AgentStatus>,
    (service, instance): (ServiceName, InstanceId),
    notes: Notes,
) {
    loop {
        let state = told(&status.borrow_and_update());
        let note = AgentNote {
            service: service.clone(),
            instance: instance.clone(),
            state,
        };
        if let Some(notes) = notes.get()
            && notes.send(note).await.is_err()
        {
            return;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// In the core's words, and a few for people.
fn told(status: &AgentStatus) -> AgentState {
    let runs = match status.state {
        ServerState::Unknown => None,
        ServerState::Running => Some(true),
        ServerState::Down | ServerState::Paused | ServerState::Starting | ServerState::Busy => {
            Some(false)
        }
    };
    let busy = match (&status.doing, status.percent, status.state) {
        (Some(doing), Some(percent), _) => Some(format!("{doing}, {percent} %")),
        (Some(doing), None, _) => Some(doing.clone()),
        (None, _, ServerState::Paused) => Some("stopped for a switchover".to_owned()),
        (None, _, ServerState::Starting) => Some("starting the server".to_owned()),
        (
            None,
            _,
            ServerState::Unknown | ServerState::Running | ServerState::Down | ServerState::Busy,
        ) => None,
    };
    let kept = status.diverged.as_ref().map(|diverged| {
        let size = diverged
            .bytes
            .map_or(String::new(), |bytes| format!("{bytes} bytes of "));
        let until = match &diverged.to {
            Some(to) => format!(" to {to}"),
            None => String::new(),
        };
        format!(
            "{size}log that only this server had, from {}{until}, are in {}",
            diverged.from,
            diverged.folder.display()
        )
    });
    let problems = [status.full.clone(), status.problem.clone()];
    let words: Vec<String> = std::iter::once(busy)
        .chain(problems)
        .chain([kept.clone()])
        .flatten()
        .collect();
    AgentState {
        runs,
        doing: words.join("; "),
        kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_does_is_said_in_a_few_words() {
        let idle = AgentStatus {
            state: ServerState::Running,
            ..AgentStatus::default()
        };
        assert_eq!(told(&idle).doing, "");
        assert_eq!(told(&idle).runs, Some(true));
        let busy = AgentStatus {
            state: ServerState::Busy,
            doing: Some("rewinding from 10.0.0.22:5432: copying".to_owned()),
            percent: Some(40),
            problem: Some("the last try failed".to_owned()),
            full: Some("the disk is full".to_owned()),
            ..idle
        };
        assert_eq!(
            told(&busy).doing,
            "rewinding from 10.0.0.22:5432: copying, 40 %; the disk is full; the last try failed"
        );
        assert_eq!(told(&busy).runs, Some(false));
    }
}
