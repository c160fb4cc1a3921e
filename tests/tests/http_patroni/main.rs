#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Patroni's health paths over a view made by hand: which status each has for a primary, a replica, and everything between.

mod endpoint;
#[path = "../resp_conformance/view.rs"]
#[expect(
    dead_code,
    reason = "made for the Sentinel protocol, of which HTTP needs a part"
)]
mod view;

use std::sync::Arc;

use endpoint::Endpoint;
use sentinel_core::detector::{Evidence, Health};
use sentinel_core::discovery::{InstanceView, ServiceView, StageView, View};
use sentinel_core::id::{InstanceId, Member, Token};
use sentinel_core::observation::{Facts, Link, ReplicaLink, Role, Upstream, WriteQuorum};
use sentinel_core::peer::AgentState;
use sentinel_core::position::{ChainElement, Lineage, Offset};
use sentinel_daemon::source::StaleAnswers;

const PRIMARY: &str = "127.0.0.1:33423";
const REPLICA: &str = "127.0.0.1:49397";
/// Timeline 2, which left timeline 1 at 0/3000060.
const LINEAGES: [&str; 2] = [
    "7268616322854375442/1@0/0",
    "7268616322854375442/2@0/3000060",
];

/// Paths that mean the primary alone.
const OF_PRIMARY: [&str; 5] = ["/", "/primary", "/master", "/read-write", "/leader"];

fn element(lineage: Option<&str>, start: u64) -> ChainElement {
    ChainElement {
        lineage: lineage.map(Lineage::new),
        start: Offset(start),
        torn_until: Offset(start),
    }
}

/// A service of PostgreSQL: the primary at 0/4000060, and its replica, which has yet to receive 10 bytes, and to replay 30.
fn orders(change: impl FnOnce(&mut ServiceView)) -> View {
    view::view_with(|orders| {
        orders.settings.engine = "postgres".into();
        orders.lineages = vec![
            element(Some(LINEAGES[0]), 0),
            element(Some(LINEAGES[1]), 0x300_0060),
        ];
        for (id, offset) in [(PRIMARY, 0x400_0060), (REPLICA, 0x400_0056)] {
            let position = facts(orders, id).position.as_mut().unwrap();
            position.lineage = Lineage::new(LINEAGES[1]);
            position.offset = Offset(offset);
        }
        let primary = facts(orders, PRIMARY);
        primary.write_quorum = Some(WriteQuorum {
            version: Token::default(),
            k: 1,
            members: [view::id(REPLICA)].into(),
        });
        primary.replicas = vec![ReplicaLink {
            instance: view::id(REPLICA),
            link: Link::Streaming,
            acknowledged: Offset(0x400_0056),
            applied: Some(Offset(0x400_0042)),
        }];
        facts(orders, REPLICA).applied = Some(Offset(0x400_0042));
        change(orders);
    })
}

fn instance<'a>(orders: &'a mut ServiceView, id: &str) -> &'a mut InstanceView {
    orders.instances.get_mut(&view::id(id)).unwrap()
}

fn facts<'a>(orders: &'a mut ServiceView, id: &str) -> &'a mut Facts {
    instance(orders, id).facts.as_mut().unwrap()
}

async fn agent_of(view: View, id: &str) -> Endpoint {
    Endpoint::start(view, &[view::id(id)], StaleAnswers::Serve).await
}

/// Each path must have this status, with each method, and a body for GET alone.
async fn wants(endpoint: &Endpoint, table: &[(&str, u16)], what: &str) {
    for (path, status) in table {
        let (got, body) = endpoint.ask("GET", path).await;
        assert_eq!(got, *status, "{what}: GET {path}: {body}");
        assert!(body.starts_with('{'), "{what}: GET {path}: {body}");
        for method in ["HEAD", "OPTIONS"] {
            let got = endpoint.ask(method, path).await;
            assert_eq!(got, (*status, String::new()), "{what}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn a_primary_and_its_replica() {
    let primary = agent_of(orders(|_| ()), PRIMARY).await;
    let table = OF_PRIMARY.map(|path| (path, 200));
    wants(&primary, &table, "the primary").await;
    let others = [
        ("/standby-leader", 503),
        ("/replica", 503),
        ("/read-only", 200),
        ("/synchronous", 503),
        ("/sync", 503),
        ("/read-only-sync", 200),
        ("/quorum", 503),
        ("/read-only-quorum", 200),
        ("/asynchronous", 503),
        ("/async", 503),
        ("/health", 200),
        ("/liveness", 200),
        ("/readiness", 200),
        ("/patroni", 200),
        ("/cluster", 200),
    ];
    wants(&primary, &others, "the primary").await;

    let replica = agent_of(orders(|_| ()), REPLICA).await;
    let table = OF_PRIMARY.map(|path| (path, 503));
    wants(&replica, &table, "the replica").await;
    let others = [
        ("/standby-leader", 503),
        ("/replica", 200),
        ("/read-only", 200),
        // It is the only member of the write quorum, so nothing is acknowledged without it.
        ("/synchronous", 200),
        ("/sync", 200),
        ("/read-only-sync", 200),
        ("/quorum", 200),
        ("/read-only-quorum", 200),
        ("/asynchronous", 503),
        ("/async", 503),
        ("/health", 200),
        ("/liveness", 200),
        ("/readiness", 200),
        ("/patroni", 200),
        ("/cluster", 200),
    ];
    wants(&replica, &others, "the replica").await;
    assert_eq!(
        replica.reason("/primary").await,
        "127.0.0.1:49397 is not the primary: 127.0.0.1:33423 is"
    );
    assert_eq!(primary.ask("POST", "/primary").await.0, 405);
}

type Change = fn(&mut ServiceView);
/// Why the primary is none after this change.
const NO_PRIMARY: [(&str, Change); 11] = [
    (
        "127.0.0.1:33423 was the primary, and another one is being promoted",
        |orders| {
            orders.stage = StageView::Promoting(view::id(REPLICA));
            orders.authorised = Some(Member {
                instance: view::id(REPLICA),
                incarnation: view::RUN_2.into(),
            });
        },
    ),
    (
        "127.0.0.1:33423 is back in another life than the one that was made primary",
        |orders| {
            facts(orders, PRIMARY).incarnation = "another".into();
        },
    ),
    (
        "127.0.0.1:33423 is not the primary: 127.0.0.1:49397 is",
        |orders| {
            orders.primary = Some(view::id(REPLICA));
        },
    ),
    (
        "127.0.0.1:33423 is not the primary: none was adopted yet",
        |orders| {
            orders.primary = None;
        },
    ),
    (
        "127.0.0.1:33423 is the primary, and says that it is a replica",
        |orders| {
            facts(orders, PRIMARY).role = Role::Replica {
                upstream: Upstream::Frozen,
                link: Link::Broken,
            };
        },
    ),
    ("127.0.0.1:33423 is down (silence)", |orders| {
        instance(orders, PRIMARY).health = Health::Down(Evidence::Silence);
    }),
    (
        "127.0.0.1:33423 is down (silence: wrong password)",
        |orders| {
            instance(orders, PRIMARY).health = Health::Down(Evidence::Silence);
            instance(orders, PRIMARY).rejected = Some("wrong password".into());
        },
    ),
    ("127.0.0.1:33423 has not answered this node yet", |orders| {
        instance(orders, PRIMARY).health = Health::Unknown;
    }),
    ("127.0.0.1:33423 was last seen 3001 ms ago", |orders| {
        instance(orders, PRIMARY).facts_at = Some(view::at_ms(96_999));
    }),
    ("127.0.0.1:33423 does not run", |orders| {
        instance(orders, PRIMARY).agent = Some(AgentState {
            runs: Some(false),
            doing: String::new(),
            kept: None,
        });
    }),
    ("127.0.0.1:33423 has not answered this node yet", |orders| {
        orders.instances.remove(&view::id(PRIMARY));
    }),
];

/// Every one of these would be a client's write sent to the wrong server.
#[tokio::test]
async fn only_an_authorised_primary_that_was_seen_lately_is_one() {
    let endpoint = agent_of(orders(|_| ()), PRIMARY).await;
    for (reason, change) in NO_PRIMARY {
        endpoint.set_view(orders(change));
        for path in OF_PRIMARY {
            assert_eq!(endpoint.status(path).await, 503, "{reason}: {path}");
            assert_eq!(endpoint.reason(path).await, reason);
        }
    }
}

/// What does not take the authority away, and what does not give it.
#[tokio::test]
async fn authority_begins_and_ends_with_the_table() {
    // The target knows that it is a primary before the table does.
    let target = agent_of(
        orders(|orders| {
            orders.stage = StageView::Promoting(view::id(REPLICA));
            orders.authorised = Some(Member {
                instance: view::id(REPLICA),
                incarnation: view::RUN_2.into(),
            });
            facts(orders, REPLICA).role = Role::Primary;
        }),
        REPLICA,
    )
    .await;
    for path in ["/primary", "/replica", "/read-only"] {
        assert_eq!(target.status(path).await, 503, "{path}");
    }
    assert_eq!(
        target.json("/patroni").await["role"],
        serde_json::Value::Null
    );

    let endpoint = agent_of(orders(|_| ()), PRIMARY).await;
    // A suspect may be back with its next answer: it is not taken out for one late probe.
    endpoint.set_view(orders(|orders| {
        instance(orders, PRIMARY).health = Health::Suspect;
    }));
    assert_eq!(endpoint.status("/primary").await, 200);
    // A failover that has only begun may be given up, and the primary keeps its authority until then.
    endpoint.set_view(orders(|orders| orders.stage = StageView::Freezing));
    assert_eq!(endpoint.status("/primary").await, 200);
}

#[tokio::test]
async fn without_a_leader_nobody_is_primary_and_replicas_go_on() {
    let stale = |mut view: View| {
        view.leader_heard = Some(view::at_ms(97_000));
        view
    };
    for answers in [StaleAnswers::Serve, StaleAnswers::Refuse] {
        let own = [view::id(PRIMARY)];
        let primary = Endpoint::start(stale(orders(|_| ())), &own, answers).await;
        for path in OF_PRIMARY.into_iter().chain(["/read-only"]) {
            assert_eq!(primary.status(path).await, 503, "{path}");
        }
        assert_eq!(
            primary.reason("/primary").await,
            "no leader was heard for 3000 ms, so nobody here knows whether the primary has changed"
        );
        assert_eq!(primary.status("/liveness").await, 200);
        assert_eq!(primary.status("/health").await, 200);
        let leader = &primary.json("/cluster").await["members"][0]["role"];
        let wanted = match answers {
            StaleAnswers::Serve => serde_json::json!("leader"),
            StaleAnswers::Refuse => serde_json::Value::Null,
        };
        assert_eq!(*leader, wanted);
    }
    let replica = agent_of(stale(orders(|_| ())), REPLICA).await;
    let table = [
        ("/replica", 200),
        ("/replica?lag=1MB", 200),
        ("/read-only", 200),
        // Who counts may have changed.
        ("/quorum", 503),
        ("/sync", 503),
        ("/async", 503),
    ];
    wants(&replica, &table, "a stale replica").await;
    let mut never = orders(|_| ());
    never.leader_heard = None;
    let primary = agent_of(never, PRIMARY).await;
    assert!(
        primary
            .reason("/")
            .await
            .contains("since this node was started")
    );
}

#[tokio::test]
async fn replicas_by_lag_and_state() {
    let replica = agent_of(orders(|_| ()), REPLICA).await;
    let table = [
        ("/replica?lag=30", 200),
        ("/replica?lag=29", 503),
        ("/replica?lag=16kB", 200),
        // The mode is a word of /readiness.
        ("/replica?lag=10&mode=write", 503),
        ("/quorum?lag=29", 503),
        ("/quorum?lag=30", 200),
        ("/sync?lag=29", 503),
        ("/read-only-sync?lag=29", 503),
        ("/read-only-quorum?lag=29", 503),
        ("/async?lag=16kB", 503),
        ("/read-only?lag=9", 503),
        ("/replica?replication_state=streaming", 200),
        ("/replica?replication_state=in+archive+recovery", 503),
        ("/readiness", 200),
        ("/readiness?lag=10&mode=write", 200),
        ("/readiness?lag=9&mode=write", 503),
        ("/readiness?lag=30", 200),
        ("/readiness?lag=29", 503),
        ("/readiness?lag=29&mode=apply", 503),
        ("/replica?tag_zone=a", 503),
        ("/health?tag_zone=a", 503),
        ("/replica?lag=lots", 400),
        ("/readiness?mode=no", 400),
        ("/replica?instance=nobody", 400),
    ];
    wants(&replica, &table, "30 bytes behind, of which 20 are here").await;
    assert_eq!(
        replica.reason("/replica?lag=9").await,
        "127.0.0.1:49397 has yet to replay 30 bytes, and 9 were allowed"
    );
    assert_eq!(
        replica.reason("/readiness?lag=9&mode=write").await,
        "127.0.0.1:49397 has yet to receive 10 bytes, and 9 were allowed"
    );
    let primary = agent_of(orders(|_| ()), PRIMARY).await;
    let table = [("/primary?tag_zone=a", 200), ("/read-only?lag=9", 200)];
    wants(&primary, &table, "tags and lag mean replicas").await;

    replica.set_view(orders(|orders| {
        instance(orders, PRIMARY).health = Health::Down(Evidence::Refusal);
    }));
    assert_eq!(
        replica.status("/replica?lag=30").await,
        200,
        "readers go on without a primary"
    );
    assert_eq!(replica.status("/replica?lag=29").await, 503);
}

#[tokio::test]
async fn replicas_that_do_not_follow() {
    let replica = agent_of(orders(|_| ()), REPLICA).await;
    replica.set_view(orders(|orders| {
        facts(orders, REPLICA).role = Role::Replica {
            upstream: Upstream::Frozen,
            link: Link::Broken,
        };
    }));
    let table = [
        ("/replica", 200),
        ("/replica?replication_state=streaming", 503),
        ("/readiness", 503),
    ];
    wants(&replica, &table, "frozen").await;

    replica.set_view(orders(|orders| {
        let position = facts(orders, REPLICA).position.as_mut().unwrap();
        position.lineage = Lineage::new(LINEAGES[0]);
    }));
    let table = [
        ("/replica", 200),
        ("/replica?lag=1TB", 503),
        ("/readiness", 503),
    ];
    wants(&replica, &table, "on a timeline that was left").await;

    replica.set_view(orders(|orders| facts(orders, REPLICA).synced = false));
    wants(&replica, &[("/replica", 503), ("/health", 200)], "copying").await;
}

/// The newer of the two readings counts: what the primary was told, or what the replica said of itself.
#[tokio::test]
async fn the_newer_reading_counts_for_lag() {
    let replica = agent_of(orders(|_| ()), REPLICA).await;
    replica.set_view(orders(|orders| {
        facts(orders, PRIMARY).replicas[0].acknowledged = Offset(0x400_0060);
    }));
    assert_eq!(replica.status("/readiness?lag=0&mode=write").await, 200);
    assert_eq!(replica.status("/replica?lag=0").await, 503);
    replica.set_view(orders(|orders| {
        facts(orders, PRIMARY).replicas[0].applied = Some(Offset(0x400_0060));
    }));
    assert_eq!(replica.status("/replica?lag=0").await, 200);
    // An engine that does not tell the two apart has applied what it has received.
    replica.set_view(orders(|orders| {
        facts(orders, PRIMARY).replicas[0].applied = None;
        facts(orders, REPLICA).applied = None;
    }));
    let table = [("/replica?lag=10", 200), ("/replica?lag=9", 503)];
    wants(&replica, &table, "applied is received").await;
}

#[tokio::test]
async fn replicas_that_count_and_others() {
    let replica = agent_of(
        orders(|orders| {
            orders.write_quorum_members.insert(view::id("127.0.0.1:7"));
        }),
        REPLICA,
    )
    .await;
    let table = [
        ("/quorum", 200),
        ("/read-only-quorum", 200),
        ("/synchronous", 503),
        ("/read-only-synchronous", 503),
        ("/async", 503),
    ];
    wants(&replica, &table, "one of two, of which one is enough").await;
    let body = replica.json("/patroni").await;
    assert_eq!(body["quorum_standby"], true);
    assert_eq!(body["sync_standby"], serde_json::Value::Null);

    replica.set_view(orders(|orders| orders.write_quorum_members.clear()));
    let table = [
        ("/quorum", 503),
        ("/sync", 503),
        ("/async", 200),
        ("/asynchronous?lag=9", 503),
    ];
    wants(&replica, &table, "no member").await;
}

#[tokio::test]
async fn documents() {
    let primary = agent_of(orders(|_| ()), PRIMARY).await;
    let wanted = serde_json::json!({
        "state": "running",
        "role": "primary",
        "xlog": {"location": 0x400_0060},
        "timeline": 2,
        "database_system_identifier": "7268616322854375442",
        "replication": [
            {"application_name": REPLICA, "state": "streaming", "sync_state": "quorum"},
        ],
        "patroni": {"scope": "orders", "name": PRIMARY},
        "sentinel": {
            "node": "s1", "stage": "steady", "primary": PRIMARY, "epoch": 3, "stale": false, "as_of_ms": 50,
        },
    });
    assert_eq!(primary.json("/patroni").await, wanted);
    assert_eq!(primary.json("/primary").await, wanted);

    let replica = agent_of(orders(|_| ()), REPLICA).await;
    let body = replica.json("/patroni").await;
    assert_eq!(
        (&body["role"], &body["state"], &body["replication_state"]),
        (&"replica".into(), &"running".into(), &"streaming".into())
    );
    assert_eq!(
        body["xlog"],
        serde_json::json!({"received_location": 0x400_0056, "replayed_location": 0x400_0042})
    );

    let cluster = replica.json("/cluster").await;
    let members = serde_json::json!([
        {
            "name": PRIMARY, "role": "leader", "state": "running", "host": "127.0.0.1", "port": 33423, "timeline": 2,
        },
        {
            "name": REPLICA, "role": "sync_standby", "state": "streaming", "host": "127.0.0.1", "port": 49397,
            "timeline": 2, "lag": 10, "receive_lag": 10, "receive_lsn": "0/4000056", "replay_lag": 30,
            "replay_lsn": "0/4000042",
        },
    ]);
    assert_eq!(
        (&cluster["members"], &cluster["scope"]),
        (&members, &"orders".into())
    );
    let history = serde_json::json!([[1, 0x300_0060, "failover"]]);
    assert_eq!(replica.json("/history").await, history);
}

#[tokio::test]
async fn documents_leave_out_what_is_not_known() {
    let primary = agent_of(orders(|_| ()), PRIMARY).await;
    let history = serde_json::json!([[1, 0x300_0060, "failover"]]);
    primary.set_view(orders(|orders| {
        orders.lineages.push(element(None, 0x400_0000));
        instance(orders, PRIMARY).agent = Some(AgentState {
            runs: Some(false),
            doing: String::new(),
            kept: None,
        });
        instance(orders, REPLICA).health = Health::Down(Evidence::Silence);
    }));
    assert_eq!(
        primary.json("/history").await,
        history,
        "a promotion has no place yet"
    );
    let body = primary.json("/patroni").await;
    assert_eq!(
        (&body["state"], &body["timeline"]),
        (&"stopped".into(), &serde_json::Value::Null)
    );
    let members = &primary.json("/cluster").await["members"];
    assert_eq!(
        (
            &members[0]["state"],
            &members[1]["state"],
            &members[1]["lag"]
        ),
        (&"stopped".into(), &"unknown".into(), &"unknown".into())
    );

    // Another engine has no timelines, and the paths work all the same.
    let redis = agent_of(view::view(), PRIMARY).await;
    assert_eq!(redis.status("/primary").await, 200);
    assert_eq!(
        redis.json("/patroni").await["timeline"],
        serde_json::Value::Null
    );
    assert_eq!(redis.json("/history").await, serde_json::json!([]));
}

#[tokio::test]
async fn a_node_of_no_instance_or_of_several() {
    let none = Endpoint::start(orders(|_| ()), &[], StaleAnswers::Serve).await;
    for path in [
        "/", "/primary", "/replica", "/health", "/patroni", "/cluster", "/history",
    ] {
        let (status, body) = none.ask("GET", path).await;
        assert_eq!(status, 404, "{path}");
        assert!(
            body.contains("this node is the agent of no instance, so it has no health to tell"),
            "{body}"
        );
        assert_eq!(none.ask("OPTIONS", path).await, (404, String::new()));
    }
    assert_eq!(none.status("/v1/services/orders/primary").await, 200);

    let own = [view::id(REPLICA), view::id(PRIMARY)];
    let both = Endpoint::start(orders(|_| ()), &own, StaleAnswers::Serve).await;
    let table = [
        // The first by address, unless one is named.
        ("/primary", 200),
        ("/primary?instance=127.0.0.1:33423", 200),
        ("/primary?instance=127.0.0.1:49397", 503),
        ("/replica?instance=127.0.0.1%3A49397&lag=16kB", 200),
        ("/primary?instance=127.0.0.1:1", 404),
    ];
    wants(&both, &table, "agent of two").await;

    let mut empty = orders(|_| ());
    empty.services.clear();
    let unknown = agent_of(empty, PRIMARY).await;
    assert_eq!(
        unknown.reason("/health").await,
        "service `orders` is not in the committed table of this node"
    );
    let wanted = serde_json::json!({
        "state": "unknown",
        "patroni": {"scope": "orders", "name": PRIMARY},
        "sentinel": {"node": "s1", "stale": false, "as_of_ms": 50},
    });
    assert_eq!(unknown.json("/patroni").await, wanted);
}

/// The table moves from one view to the next, and with it the answers of both agents, never both yes at once.
#[tokio::test]
async fn a_failover_seen_by_both_agents() {
    let ids: [InstanceId; 2] = [view::id(PRIMARY), view::id(REPLICA)];
    let target = Member {
        instance: ids[1].clone(),
        incarnation: view::RUN_2.into(),
    };
    let mut stages = vec![Arc::new(orders(|_| ()))];
    stages.push(Arc::new(orders(|orders| {
        orders.stage = StageView::Freezing
    })));
    stages.push(Arc::new(orders(|orders| {
        orders.stage = StageView::Promoting(target.instance.clone());
        orders.authorised = Some(target.clone());
        facts(orders, REPLICA).role = Role::Primary;
    })));
    stages.push(Arc::new(orders(|orders| {
        orders.stage = StageView::Repointing;
        orders.authorised = Some(target.clone());
        orders.primary = Some(target.instance.clone());
        facts(orders, REPLICA).role = Role::Primary;
    })));
    let wanted = [(200, 503), (200, 503), (503, 503), (503, 200)];
    let old = agent_of(orders(|_| ()), PRIMARY).await;
    let new = agent_of(orders(|_| ()), REPLICA).await;
    for (stage, wanted) in stages.iter().zip(wanted) {
        for endpoint in [&old, &new] {
            endpoint.set_view(View::clone(stage));
        }
        let got = (old.status("/primary").await, new.status("/primary").await);
        assert_eq!(got, wanted, "{:?}", stage.services["orders"].stage);
    }
}
