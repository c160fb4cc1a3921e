//! An agent for a server of the tests, with a committed table that the test writes.
//!
//! Its connection to the server is a small one of the tests' own: the adapter has its own tests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{
    ActionId, EngineName, Epoch, Incarnation, InstanceId, ServerId, ServiceName, Term, Token,
};
use sentinel_core::observation::{
    Facts, Link, Observation, Persistable, ProbeFailure, ProbeRequest, RestartGuard, Role,
    Upstream, Writes,
};
use sentinel_core::position::{Lineage, Offset, Position};
use sentinel_core::runtime::{Adapter, Clock};
use sentinel_postgres::agent::{
    AgentError, AgentSettings, AgentStatus, How, Limits, PostgresHost, Standing,
};
use sentinel_postgres::{Credentials, Host, PostgresService};
use sentinel_tests::postgres_server::{self, PostgresServer, account};
use sentinel_tests::wait;
use tokio::runtime::Runtime;
use tokio::sync::watch;

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
            Arc::new(Connection),
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
            stage_steady: true,
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
        let action = Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: self.settings.service.clone(),
            instance: self.settings.instance.clone(),
            token: Token {
                epoch: Epoch(epoch),
                step: epoch,
            },
            deadline: Clock::new().now() + patience,
            kind,
        };
        runtime.block_on(host.carry_out(action))
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

impl Drop for Minded {
    fn drop(&mut self) {
        if self.life.is_some() {
            self.kill_agent();
        }
    }
}

/// What the agent needs of an adapter.
struct Connection;

const FACTS: &str = "SELECT pg_is_in_recovery(), \
    (SELECT system_identifier::text FROM pg_control_system()), \
    extract(epoch FROM (pg_stat_file('PG_VERSION')).change)::int8, \
    (CASE WHEN pg_is_in_recovery() THEN coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0') \
     ELSE pg_current_wal_flush_lsn() END - '0/0')::int8, \
    coalesce(current_setting('primary_conninfo'), ''), \
    EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'), \
    pg_postmaster_start_time()::text";

impl Connection {
    async fn facts(instance: InstanceId) -> Result<Facts, String> {
        let text = format!(
            "host={} port={} user=postgres dbname=postgres",
            instance.host(),
            instance.port()
        );
        let connected = tokio_postgres::connect(&text, tokio_postgres::NoTls).await;
        let (client, connection) = connected.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let row = client.query_one(FACTS, &[]).await;
        let row = row.map_err(|error| error.to_string())?;
        let system: String = row.get(1);
        let conninfo: String = row.get(4);
        let word = |name: &str| {
            let mut words = conninfo.split_whitespace();
            let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches('\''))
        };
        let upstream = match (word("host"), word("port").map(str::parse)) {
            (Some(host), Some(Ok(port))) => Upstream::Instance(InstanceId::new(host, port)),
            _ => Upstream::Frozen,
        };
        let link = match row.get(5) {
            true => Link::Streaming,
            false => Link::Broken,
        };
        let offset = Offset(row.get::<_, i64>(3).cast_unsigned());
        Ok(Facts {
            incarnation: Incarnation::new(format!("{system}.{}", row.get::<_, i64>(2))),
            server: ServerId::new(row.get::<_, String>(6)),
            role: match row.get(0) {
                true => Role::Replica { upstream, link },
                false => Role::Primary,
            },
            position: Some(Position {
                lineage: Lineage::new("-"),
                offset,
            }),
            fork: None,
            synced: true,
            holds_data: true,
            persistable: Persistable::Yes,
            priority: 100,
            write_quorum: None,
            replicas: Vec::new(),
            restart_guard: RestartGuard::Unneeded,
            writes: Writes::Taken,
        })
    }
}

impl Adapter for Connection {
    fn engine(&self) -> EngineName {
        EngineName::new("postgres")
    }

    fn probe(
        &self,
        request: ProbeRequest,
    ) -> Pin<Box<dyn Future<Output = Observation> + Send + 'static>> {
        Box::pin(async move {
            match Self::facts(request.instance).await {
                Ok(facts) => Observation::Facts(Box::new(facts)),
                Err(text) => Observation::Failure(ProbeFailure::Rejected(text)),
            }
        })
    }

    fn act(&self, action: Action) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'static>> {
        Box::pin(async move { Outcome::Refused(format!("no test orders {}", action.kind.word())) })
    }
}
