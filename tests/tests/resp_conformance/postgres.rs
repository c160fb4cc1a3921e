//! A PostgreSQL service through the Sentinel protocol: the same rows, with what clients expect in each field.

use std::process::Command;

use sentinel_core::id::ServerId;
use sentinel_core::observation::{Role, Upstream, Writes};
use sentinel_core::position::{Lineage, Offset};
use serde_json::json;

use crate::real_clients::python;
use crate::view::{Served, Setup, id, view_with};

const PRIMARY: &str = "127.0.0.1:33423";
const REPLICA: &str = "127.0.0.1:49397";

async fn served() -> Served {
    let view = view_with(|orders| {
        orders.settings.engine = "postgres".into();
        for (name, offset) in [(PRIMARY, 0x16_B374_D848), (REPLICA, 0x16_B374_D800)] {
            let instance = orders.instances.get_mut(&id(name)).unwrap();
            let facts = instance.facts.as_mut().unwrap();
            facts.incarnation = "7268616322854375442.1724873966".into();
            facts.server = ServerId::new(format!("7268616322854375442+1724873966352526+{name}"));
            let position = facts.position.as_mut().unwrap();
            position.lineage = Lineage::new("7268616322854375442/2@16/B0000060");
            position.offset = Offset(offset);
            facts.writes = Writes::Taken;
        }
    });
    Served::start(view, Setup::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_client_reads_the_rows() {
    let served = served().await;
    let script = "import json, sys, redis\n\
        c = redis.Redis(port=int(sys.argv[1]))\n\
        s = redis.sentinel.Sentinel([('127.0.0.1', int(sys.argv[1]))])\n\
        m, r = c.sentinel_master('orders'), c.sentinel_slaves('orders')[0]\n\
        pick = lambda row, names: {n: row[n] for n in names}\n\
        print(json.dumps({'primary': s.discover_master('orders'), 'replicas': s.discover_slaves('orders'),\n\
            'm': pick(m, ['flags', 'role-reported', 'num-slaves', 'config-epoch']),\n\
            'r': pick(r, ['flags', 'role-reported', 'master-link-status', 'master-host', 'master-port',\n\
                          'slave-priority', 'slave-repl-offset']),\n\
            'runids': [m['runid'], r['runid']]}))";
    let port = served.address.port().to_string();
    let said = Command::new(python())
        .args(["-c", script, &port])
        .output()
        .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let mut said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let run_ids = said["runids"].take();
    let wanted = json!({
        "primary": ["127.0.0.1", 33423],
        "replicas": [["127.0.0.1", 49397]],
        "m": {"flags": "master", "role-reported": "master", "num-slaves": 1, "config-epoch": 3},
        "r": {
            "flags": "slave", "role-reported": "slave", "master-link-status": "ok", "master-host": "127.0.0.1",
            "master-port": 33423, "slave-priority": 100, "slave-repl-offset": 0x16_B374_D800_u64,
        },
        "runids": null,
    });
    assert_eq!(said, wanted);
    let run_ids = run_ids.as_array().unwrap();
    assert_ne!(run_ids[0], run_ids[1]);
    for run_id in run_ids {
        let run_id = run_id.as_str().unwrap();
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        assert!(run_id.len() == 40 && run_id.bytes().all(hex), "{run_id}");
    }
}

/// Another server at the same address, or the same one restarted, is another run id; the same process is the same one, on every node.
#[tokio::test]
async fn a_run_id_names_the_process() {
    let run_id = async |server: &str| {
        let view = view_with(|orders| {
            let instance = orders.instances.get_mut(&id(PRIMARY)).unwrap();
            instance.facts.as_mut().unwrap().server = ServerId::new(server);
        });
        let served = Served::start(view, Setup::default()).await;
        let mut client = served.client().await;
        client.send(&["SENTINEL", "MASTER", "orders"]).await;
        let row = String::from_utf8(client.read_some().await).unwrap();
        let (_, rest) = row.split_once("$5\r\nrunid\r\n$40\r\n").unwrap();
        rest[..40].to_owned()
    };
    let before = run_id("7268616322854375442+1724873966352526").await;
    assert_eq!(before, run_id("7268616322854375442+1724873966352526").await);
    assert_ne!(before, run_id("7268616322854375442+1724873966352527").await);
    // Of Redis it is the server's own.
    assert_eq!(run_id(crate::view::RUN_1).await, crate::view::RUN_1);
}

#[tokio::test]
async fn a_frozen_standby_has_no_upstream() {
    let view = view_with(|orders| {
        orders.settings.engine = "postgres".into();
        let instance = orders.instances.get_mut(&id(REPLICA)).unwrap();
        instance.facts.as_mut().unwrap().role = Role::Replica {
            upstream: Upstream::Frozen,
            link: sentinel_core::observation::Link::Broken,
        };
    });
    let served = Served::start(view, Setup::default()).await;
    let mut client = served.client().await;
    client.send(&["SENTINEL", "REPLICAS", "orders"]).await;
    let row = String::from_utf8(client.read_some().await).unwrap();
    for field in [
        "master-link-status\r\n$3\r\nerr",
        "master-host\r\n$1\r\n?",
        "master-port\r\n$1\r\n0",
    ] {
        assert!(row.contains(field), "{field}: {row}");
    }
}
