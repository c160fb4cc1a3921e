//! Real clients, unmodified, against a served view that names real servers: redis-py and redis-rs.

use std::path::PathBuf;
use std::process::Stdio;

use redis::sentinel::{SentinelClient, SentinelServerType};
use sentinel_core::discovery::View;
use sentinel_core::event::{Event, EventKind};
use sentinel_core::id::{Epoch, Token};
use sentinel_daemon::resp::Password;
use sentinel_tests::redis_server::RedisServer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::view::{Served, Setup, service, view};

const PASSWORD: &str = "open";

/// Primary and replica, and a view of them.
struct Servers {
    first: RedisServer,
    second: RedisServer,
}

impl Servers {
    fn start() -> Self {
        let first = RedisServer::start();
        let second = RedisServer::replica_of(&first);
        second.wait_for_info("master_link_status", "up");
        Self { first, second }
    }

    fn view(&self) -> View {
        Self::view_of(&self.first, &self.second, 3)
    }

    fn view_of(primary: &RedisServer, replica: &RedisServer, epoch: u64) -> View {
        let (primary, replica) = (
            primary.instance().to_string(),
            replica.instance().to_string(),
        );
        let mut orders = service("orders", &primary, &replica);
        orders.primary_epoch = Epoch(epoch);
        let mut view = view();
        view.services.insert("orders".into(), orders.into());
        view
    }

    /// What a cluster does in a failover, in short.
    fn fail_over(&self, served: &Served) {
        self.second.cli(&["REPLICAOF", "NO", "ONE"]);
        let port = self.second.port().to_string();
        self.first.cli(&["REPLICAOF", "127.0.0.1", &port]);
        served.set_view(Self::view_of(&self.second, &self.first, 4));
        let event = Event {
            service: "orders".into(),
            token: Token::default(),
            primary: Some(self.first.instance()),
            kind: EventKind::PrimarySwitched {
                from: Some(self.first.instance()),
                to: self.second.instance(),
            },
        };
        served.events.send(event).unwrap();
    }

    async fn served(&self) -> Served {
        let setup = Setup {
            password: Some(Password::new(PASSWORD)),
            ..Setup::default()
        };
        Served::start(self.view(), setup).await
    }
}

pub(crate) fn python() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join(".venv/bin/python");
    assert!(
        python.exists(),
        "redis-py is not installed: run scripts/install-clients, or make test"
    );
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_py_finds_the_primary_and_follows_it() {
    for protocol in ["2", "3"] {
        let servers = Servers::start();
        let served = servers.served().await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/redis_py.py");
        let port = served.address.port().to_string();
        let mut client = Command::new(python())
            .args([script, &port, "orders", protocol, PASSWORD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut tells = async || -> Value {
            let line = lines.next_line().await.unwrap();
            serde_json::from_str(&line.expect("the client's error is above")).unwrap()
        };
        let before = tells().await;
        let (first, second) = (servers.first.port(), servers.second.port());
        let wanted = json!({
            "primary": ["127.0.0.1", first],
            "replicas": [["127.0.0.1", second]],
            "num_other_sentinels": 2,
            "config_epoch": 3,
            "is_master": true,
            "sentinels": 2,
            "address": ["127.0.0.1", first],
            "unknown": "not found",
            "cut_off": "not found",
            "subscribed": "psubscribe",
        });
        assert_eq!(before, wanted, "RESP{protocol}");
        servers.fail_over(&served);
        client.stdin.take().unwrap().write_all(b"\n").await.unwrap();
        let told = format!("orders 127.0.0.1 {first} 127.0.0.1 {second}");
        let wanted = json!({"primary": ["127.0.0.1", second], "told": told});
        assert_eq!(tells().await, wanted, "RESP{protocol}");
        assert!(client.wait().await.unwrap().success());
        let after: String = redis::from_redis_value(servers.second.cli(&["GET", "after"])).unwrap();
        assert_eq!(after, "written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_rs_finds_the_primary_and_follows_it() {
    let servers = Servers::start();
    let served = servers.served().await;
    let url = format!("redis://:{PASSWORD}@{}", served.address);
    let client = |kind| SentinelClient::build(vec![url.clone()], "orders".into(), None, kind);
    let mut primary = client(SentinelServerType::Master).unwrap();
    let mut replica = client(SentinelServerType::Replica).unwrap();

    let mut connection = primary.get_async_connection().await.unwrap();
    let set = redis::cmd("SET").arg("before").arg("1").to_owned();
    set.query_async::<()>(&mut connection).await.unwrap();
    let mut reader = replica.get_async_connection().await.unwrap();
    assert_eq!(
        run_id(&mut reader).await,
        servers.second.info("run_id").unwrap()
    );

    servers.fail_over(&served);
    let mut connection = primary.get_async_connection().await.unwrap();
    assert_eq!(
        run_id(&mut connection).await,
        servers.second.info("run_id").unwrap()
    );
    set.query_async::<()>(&mut connection).await.unwrap();
}

async fn run_id(connection: &mut redis::aio::MultiplexedConnection) -> String {
    let info: redis::InfoDict = redis::cmd("INFO").query_async(connection).await.unwrap();
    info.get("run_id").unwrap()
}
