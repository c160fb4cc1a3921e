//! An agent for a server of the tests, with a committed table that the test writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, Epoch, Incarnation, InstanceId, ServiceName, Term, Token};
use sentinel_core::observation::Facts;
use sentinel_core::runtime::{Adapter, AdapterContext, Clock};
use sentinel_postgres::agent::{
    AgentError, AgentSettings, AgentStatus, Failover, How, Limits, PostgresHost, Silence, Standing,
};
use sentinel_postgres::{Credentials, Host, Hosts, PostgresAdapter, PostgresService};
use sentinel_tests::postgres_server::{self, PostgresServer, account};
use sentinel_tests::wait;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// Copies of small servers take a second or two each; the machine may be busy.
pub(crate) const JOB: Duration = Duration::from_secs(90);

/// An agent, and what it knows.
pub(crate) struct Minded {
    pub(crate) settings: AgentSettings,
    standing: watch::Sender<Standing>,
    life: Option<(Runtime, PostgresHost)>,
}

impl Minded {
    /// Settings for an agent of this server; nothing runs yet.
    pub(crate) fn prepare(server: &PostgresServer) -> Self {
        let folder = server.folder();
        for name in ["agent", "diverged"] {
            account::make_folder(&folder.join(name), 0o711).unwrap();
        }
        let settings = AgentSettings {
            service: ServiceName::new("orders"),
            instance: server.instance(),
            data_dir: server.data_dir(),
            config_file: None,
            bin_dir: Some(server.bin_dir()),
            how: How::Command,
            account: rustix::process::geteuid()
                .is_root()
                .then(|| "nobody".to_owned()),
            log_file: None,
            state_dir: folder.join("agent"),
            diverged_dir: folder.join("diverged"),
            restart_after: Duration::from_millis(300),
            limits: Limits::default(),
            postgres: PostgresService {
                credentials: Credentials {
                    username: postgres_server::Role::Sentinel.name().to_owned(),
                    password: None,
                },
                ..PostgresService::default()
            },
            rewind: None,
            first_settings: BTreeMap::new(),
            slots_kept: Duration::from_secs(600),
        };
        let (standing, _) = watch::channel(Standing::default());
        Self {
            settings,
            standing,
            life: None,
        }
    }

    /// The same, and the agent begins.
    pub(crate) fn of(server: &PostgresServer) -> Self {
        let mut minded = Self::prepare(server);
        minded.begin();
        minded
    }

    pub(crate) fn begin(&mut self) {
        self.try_begin().unwrap();
    }

    pub(crate) fn try_begin(&mut self) -> Result<(), AgentError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let guard = runtime.enter();
        let host = PostgresHost::start(
            self.settings.clone(),
            self.standing.subscribe(),
            adapter(&self.settings),
            Clock::new(),
        );
        drop(guard);
        self.life = Some((runtime, host?));
        Ok(())
    }

    /// The agent is gone at once, in the middle of whatever it does.
    pub(crate) fn kill_agent(&mut self) {
        let (runtime, host) = self.life.take().expect("the agent lives");
        // The tasks are dropped where they stand; the host is not asked to end anything.
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(host);
    }

    /// The committed table says so.
    pub(crate) fn committed(&self, primary: &InstanceId, epoch: u64) {
        self.standing.send_replace(Standing {
            primary: Some(primary.clone()),
            epoch: Epoch(epoch),
            failover: Failover::None,
            silence: None,
        });
    }

    /// No leader is heard any longer; this was the newest commit known.
    pub(crate) fn alone(&self, authority: &InstanceId, epoch: u64) {
        self.standing.send_replace(Standing {
            silence: Some(Silence {
                token: token(epoch),
                authority: Some(authority.clone()),
                heard: Some(Clock::new().now()),
            }),
            ..Standing::default()
        });
    }

    pub(crate) fn status(&self) -> AgentStatus {
        let (_, host) = self.life.as_ref().expect("the agent lives");
        host.status().borrow().clone()
    }

    /// One order, with the patience of a real one.
    pub(crate) fn order(&self, kind: ActionKind, epoch: u64) -> Outcome {
        self.order_within(kind, epoch, Duration::from_millis(500))
    }

    pub(crate) fn order_within(&self, kind: ActionKind, epoch: u64, patience: Duration) -> Outcome {
        let (runtime, host) = self.life.as_ref().expect("the agent lives");
        runtime.block_on(host.carry_out(self.action(kind, epoch, patience)))
    }

    /// One order that does not go by the agent, which learns nothing of it.
    pub(crate) fn order_over_sql(&self, kind: ActionKind, epoch: u64) -> Outcome {
        let (runtime, _) = self.life.as_ref().expect("the agent lives");
        let action = self.action(kind, epoch, Duration::from_secs(2));
        runtime.block_on(async { adapter(&self.settings).act(action).await })
    }

    fn action(&self, kind: ActionKind, epoch: u64, patience: Duration) -> Action {
        Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: self.settings.service.clone(),
            instance: self.settings.instance.clone(),
            token: token(epoch),
            deadline: Clock::new().now() + patience,
            kind,
        }
    }

    /// Repeats an order until it is done, as the leader does.
    #[track_caller]
    pub(crate) fn order_until_done(&self, kind: &ActionKind, epoch: u64) -> Facts {
        let mut last = None;
        let done = wait::within(JOB, || match self.order(kind.clone(), epoch) {
            Outcome::Done(facts) => Some(*facts),
            other @ (Outcome::Refused(_) | Outcome::UnderWay(_) | Outcome::Unknown(_)) => {
                last = Some(other);
                None
            }
        });
        done.unwrap_or_else(|| panic!("{kind:?} was never done: {last:?}; {:?}", self.status()))
    }

    pub(crate) fn folders_of_diverged(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.settings.diverged_dir).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn token(epoch: u64) -> Token {
    Token {
        epoch: Epoch(epoch),
        step: epoch,
    }
}

impl Drop for Minded {
    fn drop(&mut self) {
        if self.life.is_some() {
            self.kill_agent();
        }
    }
}

/// The incarnation of a server, as the adapter tells it.
pub(crate) fn life(server: &PostgresServer) -> Incarnation {
    let life = "SELECT system_identifier || '.' || extract(epoch FROM (pg_stat_file('PG_VERSION')).change)::bigint \
        FROM pg_control_system()";
    Incarnation::new(server.value(life))
}

/// An adapter for the agent's own use, as the daemon makes one.
fn adapter(settings: &AgentSettings) -> Arc<PostgresAdapter> {
    let services = [(settings.service.clone(), settings.postgres.clone())];
    let context = AdapterContext {
        clock: Clock::new(),
        disconnects: mpsc::channel(1).0,
        notes: mpsc::channel(1).0,
    };
    Arc::new(PostgresAdapter::new(
        BTreeMap::from(services),
        Hosts::new(),
        context,
    ))
}
