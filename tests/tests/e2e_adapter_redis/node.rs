//! One node of ours: an adapter, and what the tests ask of it.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, Epoch, InstanceId, Member, ProbeId, ServiceName, Term, Token};
use sentinel_core::observation::{
    Facts, Link, Observation, ProbeRequest, Role, Upstream, WriteQuorum,
};
use sentinel_core::runtime::{Adapter, AdapterContext, Clock};
use sentinel_redis::{Credentials, RedisAdapter, RedisService, Secret};
use sentinel_tests::redis_server::RedisServer;
use sentinel_tests::wait;
use tokio::sync::mpsc;

pub(crate) const SERVICE: &str = "orders";
pub(crate) const IN_TIME: Duration = Duration::from_secs(5);

pub(crate) struct Node {
    pub(crate) adapter: RedisAdapter,
    pub(crate) disconnects: mpsc::Receiver<(ServiceName, InstanceId)>,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(RedisService::default())
    }

    pub(crate) fn with(service: RedisService) -> Self {
        let (sender, disconnects) = mpsc::channel(16);
        let (notes, _) = mpsc::channel(1);
        let context = AdapterContext {
            clock: Clock::new(),
            disconnects: sender,
            notes,
        };
        let services = BTreeMap::from([(ServiceName::from(SERVICE), service)]);
        Self {
            adapter: RedisAdapter::new(services, context),
            disconnects,
        }
    }

    pub(crate) fn with_password(password: &str) -> Self {
        Self::with(RedisService {
            credentials: Some(Credentials {
                username: None,
                password: Secret::new(password),
            }),
            ..RedisService::default()
        })
    }

    pub(crate) async fn look(&self, server: &RedisServer, patience: Duration) -> Observation {
        let request = ProbeRequest {
            id: ProbeId(1),
            service: SERVICE.into(),
            instance: server.instance(),
            deadline: Clock::new().now() + patience,
        };
        self.adapter.probe(request).await
    }

    pub(crate) async fn facts(&self, server: &RedisServer) -> Facts {
        match self.look(server, IN_TIME).await {
            Observation::Facts(facts) => *facts,
            Observation::Failure(failure) => panic!("{failure:?}"),
        }
    }

    pub(crate) async fn act_within(
        &self,
        server: &RedisServer,
        kind: ActionKind,
        patience: Duration,
    ) -> Outcome {
        let action = Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: SERVICE.into(),
            instance: server.instance(),
            token: token(1),
            deadline: Clock::new().now() + patience,
            kind,
        };
        self.adapter.act(action).await
    }

    pub(crate) async fn act(&self, server: &RedisServer, kind: ActionKind) -> Outcome {
        self.act_within(server, kind, IN_TIME).await
    }

    pub(crate) async fn done(&self, server: &RedisServer, kind: ActionKind) -> Facts {
        match self.act(server, kind).await {
            Outcome::Done(facts) => *facts,
            Outcome::Refused(text) | Outcome::UnderWay(text) | Outcome::Unknown(text) => {
                panic!("{text}")
            }
        }
    }

    pub(crate) async fn refused(&self, server: &RedisServer, kind: ActionKind) -> String {
        match self.act(server, kind).await {
            Outcome::Refused(text) => text,
            outcome @ (Outcome::Done(_) | Outcome::UnderWay(_) | Outcome::Unknown(_)) => {
                panic!("{outcome:?}")
            }
        }
    }

    /// Waits until a replica streams, from this upstream.
    pub(crate) async fn follows(&self, replica: &RedisServer, primary: &RedisServer) -> Facts {
        let wanted = Role::Replica {
            upstream: Upstream::Instance(primary.instance()),
            link: Link::Streaming,
        };
        wait::until_async("the replica streams", || async {
            let facts = self.facts(replica).await;
            (facts.role == wanted).then_some(facts)
        })
        .await
    }

    /// Waits until a replica is where its primary is.
    pub(crate) async fn caught_up(&self, replica: &RedisServer, primary: &RedisServer) -> Facts {
        self.follows(replica, primary).await;
        wait::until_async("the replica has everything", || async {
            let (ahead, behind) = (self.facts(primary).await, self.facts(replica).await);
            (ahead.position == behind.position).then_some(behind)
        })
        .await
    }
}

pub(crate) fn token(step: u64) -> Token {
    Token {
        epoch: Epoch(1),
        step,
    }
}

pub(crate) fn quorum(k: u32, members: &[&RedisServer]) -> WriteQuorum {
    WriteQuorum {
        version: token(7),
        k,
        members: members.iter().map(|server| server.instance()).collect(),
    }
}

pub(crate) fn promotion(server: &RedisServer, facts: &Facts, quorum: WriteQuorum) -> ActionKind {
    ActionKind::Promote {
        expect: Member {
            instance: server.instance(),
            incarnation: facts.incarnation.clone(),
        },
        position: facts.position.clone().unwrap(),
        quorum,
    }
}

pub(crate) fn frozen() -> Role {
    Role::Replica {
        upstream: Upstream::Frozen,
        link: Link::Broken,
    }
}

/// Fails over from one server to the other, leaving `old` a primary that took one write too many.
pub(crate) async fn diverged(node: &Node, old: &RedisServer, new: &RedisServer) -> Facts {
    node.follows(new, old).await;
    old.cli(&["SET", "shared", "1"]);
    node.caught_up(new, old).await;
    let frozen = node.done(new, ActionKind::Freeze).await;
    old.cli(&["SET", "diverged", "only-here"]);
    node.done(new, promotion(new, &frozen, quorum(0, &[])))
        .await
}
