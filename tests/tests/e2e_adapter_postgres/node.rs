//! One node of ours: an adapter, and what the tests ask of it.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, Epoch, InstanceId, Member, ProbeId, ServiceName, Term, Token};
use sentinel_core::observation::{
    Facts, Link, Observation, ProbeRequest, Role, Upstream, WriteQuorum,
};
use sentinel_core::position::Offset;
use sentinel_core::runtime::{Adapter, AdapterContext, Clock};
use sentinel_postgres::{Credentials, PostgresAdapter, PostgresService, Secret};
use sentinel_tests::postgres_server::{self, PostgresServer, PostgresVersion};
use sentinel_tests::wait;
use tokio::sync::mpsc;

pub(crate) const SERVICE: &str = "orders";
pub(crate) const IN_TIME: Duration = Duration::from_secs(5);

pub(crate) struct Node {
    pub(crate) adapter: PostgresAdapter,
    pub(crate) disconnects: mpsc::Receiver<(ServiceName, InstanceId)>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(PostgresService::default())
    }

    pub(crate) fn with(service: PostgresService) -> Self {
        let (sender, disconnects) = mpsc::channel(16);
        let (notes, _) = mpsc::channel(1);
        let context = AdapterContext {
            clock: Clock::new(),
            disconnects: sender,
            notes,
        };
        let services = BTreeMap::from([(ServiceName::from(SERVICE), service)]);
        Self {
            adapter: PostgresAdapter::new(services, BTreeMap::new(), context),
            disconnects,
        }
    }

    /// As one of the coordinator's roles of the test servers.
    pub(crate) fn as_role(role: postgres_server::Role, password: Option<&str>) -> Self {
        Self::with(PostgresService {
            credentials: Credentials {
                username: role.name().to_owned(),
                password: password.map(Secret::new),
            },
            ..PostgresService::default()
        })
    }

    pub(crate) async fn look_at(&self, instance: &InstanceId, patience: Duration) -> Observation {
        let request = ProbeRequest {
            id: ProbeId(1),
            service: SERVICE.into(),
            instance: instance.clone(),
            deadline: Clock::new().now() + patience,
        };
        self.adapter.probe(request).await
    }

    pub(crate) async fn look(&self, server: &PostgresServer, patience: Duration) -> Observation {
        self.look_at(&server.instance(), patience).await
    }

    pub(crate) async fn facts(&self, server: &PostgresServer) -> Facts {
        match self.look(server, IN_TIME).await {
            Observation::Facts(facts) => *facts,
            Observation::Failure(failure) => panic!("{failure:?}"),
        }
    }

    pub(crate) async fn act_with(
        &self,
        server: &PostgresServer,
        kind: ActionKind,
        (token, patience): (Token, Duration),
    ) -> Outcome {
        let action = Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: SERVICE.into(),
            instance: server.instance(),
            token,
            deadline: Clock::new().now() + patience,
            kind,
        };
        self.adapter.act(action).await
    }

    pub(crate) async fn act(&self, server: &PostgresServer, kind: ActionKind) -> Outcome {
        self.act_with(server, kind, (token(1), IN_TIME)).await
    }

    pub(crate) async fn done(&self, server: &PostgresServer, kind: ActionKind) -> Facts {
        match self.act(server, kind).await {
            Outcome::Done(facts) => *facts,
            Outcome::Refused(text) | Outcome::UnderWay(text) | Outcome::Unknown(text) => {
                panic!("{text}")
            }
        }
    }

    pub(crate) async fn refused(&self, server: &PostgresServer, kind: ActionKind) -> String {
        match self.act(server, kind).await {
            Outcome::Refused(text) => text,
            outcome @ (Outcome::Done(_) | Outcome::UnderWay(_) | Outcome::Unknown(_)) => {
                panic!("{outcome:?}")
            }
        }
    }

    /// Waits until a standby streams, from this upstream.
    pub(crate) async fn follows(
        &self,
        standby: &PostgresServer,
        primary: &PostgresServer,
    ) -> Facts {
        let wanted = Role::Replica {
            upstream: Upstream::Instance(primary.instance()),
            link: Link::Streaming,
        };
        wait::until_async("the standby streams", || async {
            let facts = self.facts(standby).await;
            (facts.role == wanted).then_some(facts)
        })
        .await
    }

    /// Waits until a standby is where its primary is.
    pub(crate) async fn caught_up(
        &self,
        standby: &PostgresServer,
        primary: &PostgresServer,
    ) -> Facts {
        self.follows(standby, primary).await;
        wait::until_async("the standby has everything", || async {
            let (ahead, behind) = (self.facts(primary).await, self.facts(standby).await);
            (ahead.position == behind.position).then_some(behind)
        })
        .await
    }

    /// Fails over to a frozen standby.
    pub(crate) async fn promoted(&self, standby: &PostgresServer, frozen: &Facts) -> Facts {
        let kind = promotion(standby, frozen, quorum(1, &[]));
        self.done(standby, kind).await
    }
}

/// A primary and its two standbys.
pub(crate) struct Trio {
    pub(crate) primary: PostgresServer,
    pub(crate) left: PostgresServer,
    pub(crate) right: PostgresServer,
}

impl Trio {
    pub(crate) fn new(version: &PostgresVersion) -> Self {
        let primary = PostgresServer::primary(version);
        let left = PostgresServer::standby_of(&primary);
        let right = PostgresServer::standby_of(&primary);
        Self {
            primary,
            left,
            right,
        }
    }
}

pub(crate) fn token(step: u64) -> Token {
    Token {
        epoch: Epoch(1),
        step,
    }
}

pub(crate) fn quorum(k: u32, members: &[&PostgresServer]) -> WriteQuorum {
    WriteQuorum {
        version: token(7),
        k,
        members: members.iter().map(|server| server.instance()).collect(),
    }
}

pub(crate) fn promotion(server: &PostgresServer, facts: &Facts, quorum: WriteQuorum) -> ActionKind {
    ActionKind::Promote {
        expect: Member {
            instance: server.instance(),
            incarnation: facts.incarnation.clone(),
        },
        position: facts.position.clone().unwrap(),
        quorum,
    }
}

pub(crate) fn repoint(primary: &PostgresServer) -> ActionKind {
    ActionKind::Repoint {
        primary: primary.instance(),
    }
}

pub(crate) fn frozen() -> Role {
    Role::Replica {
        upstream: Upstream::Frozen,
        link: Link::Broken,
    }
}

/// The end of the last record that a standby has replayed.
pub(crate) fn replayed(standby: &PostgresServer) -> Offset {
    let bytes = standby.value("SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn");
    Offset(bytes.parse().unwrap())
}
