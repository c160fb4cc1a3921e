//! A replica has not finished its first sync when the primary dies.
//!
//! Where it is the only one, Redis Sentinel promotes it, and the old primary then copies its emptiness.

use std::time::Duration;

use sentinel_tests::cluster::{Cluster, Source, Writers};
use sentinel_tests::redis_server::RedisServer;
use sentinel_tests::wait;

const KEYS: i64 = 100_000;

/// Long beside a failover, which takes some hundred milliseconds here.
const NOTHING_FOR: Duration = Duration::from_secs(4);

fn load_keys(server: &RedisServer) -> redis::RedisResult<()> {
    let mut connection = server.connect()?;
    for first in (0..KEYS).step_by(1000) {
        let mut set = redis::cmd("MSET");
        for number in first..first + 1000 {
            set.arg(format!("key{number}")).arg(number);
        }
        set.exec(&mut connection)?;
    }
    Ok(())
}

/// Putting the write quorum in force closes every client's connection, at any moment until the leader is content.
fn slow_down_syncs(cluster: &Cluster, microseconds: &str) {
    let command = ["CONFIG", "SET", "rdb-key-save-delay", microseconds];
    cluster.until("the primary takes the delay", || {
        cluster.servers[0].try_cli(&command).ok()
    });
}

fn keys_on(server: &RedisServer) -> i64 {
    let size = wait::until("DBSIZE", || server.try_cli(&["DBSIZE"]).ok());
    redis::from_redis_value(size).unwrap()
}

#[test]
fn a_replica_in_its_first_sync_is_not_promoted_and_nothing_is_wiped() {
    let primary = RedisServer::start();
    load_keys(&primary).unwrap();
    primary.cli(&["SAVE"]);
    let mut cluster = Cluster::guarding(vec![primary]);
    let before = cluster.wait_whole();
    // Twenty seconds for all keys, in microseconds for each.
    slow_down_syncs(&cluster, "200");
    let replica = cluster.add_replica_of(0);
    let address = cluster.servers[replica].instance();
    cluster.until("the voters see the replica in its first sync", || {
        let instances = cluster.service().instances;
        let seen = instances.iter().find(|seen| seen.instance == address)?;
        (seen.link.as_deref() == Some("syncing") && seen.synced == Some(false)).then_some(())
    });
    cluster.servers[0].wait_for_info("rdb_bgsave_in_progress", "1");
    cluster.servers[replica].wait_for_info("master_sync_in_progress", "1");
    cluster.servers[0].kill9();

    cluster.until("explain names the veto", || {
        let report = cluster.explain().report;
        let named = |code: &str| report.iter().any(|reason| reason.code == code);
        (named("primary_down") && named("veto_first_sync")).then_some(())
    });
    wait::throughout(NOTHING_FOR, || {
        assert_eq!(cluster.servers[replica].info("role").unwrap(), "slave");
        for answer in cluster.answers() {
            let primary = cluster.servers[0].instance();
            assert_eq!((answer.primary, answer.epoch), (primary, before.epoch));
        }
    });
    let told = cluster.cli(cluster.follower(), &["explain", "orders"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{text}");
    let line = format!(
        "{address} has not finished its first sync, so its data are not whole [veto_first_sync]"
    );
    assert!(text.contains(&line), "{text}");

    cluster.servers[0].restart();
    assert_eq!(keys_on(&cluster.servers[0]), KEYS);
    slow_down_syncs(&cluster, "0");
    let mut missing = String::new();
    let whole = wait::within(wait::BOUND_CLUSTER, || {
        assert_eq!(keys_on(&cluster.servers[0]), KEYS, "keys of the primary");
        cluster.whole().map_err(|why| missing = why).ok()
    });
    let after = whole.unwrap_or_else(|| panic!("the cluster is not whole: {missing}"));
    assert_eq!(after.primary, 0);
    assert_eq!(keys_on(&cluster.servers[replica]), KEYS);
}

#[test]
fn a_replica_with_whole_data_is_promoted_and_not_the_one_in_its_first_sync() {
    let mut cluster = Cluster::start(1);
    let before = cluster.wait_whole();
    cluster.until("the keys are loaded", || {
        load_keys(&cluster.servers[before.primary]).ok()
    });
    let writers = Writers::start(&cluster, Source::Voters);
    slow_down_syncs(&cluster, "200");
    let late = cluster.add_replica_of(before.primary);
    cluster.servers[before.primary].wait_for_info("rdb_bgsave_in_progress", "1");
    cluster.servers[late].wait_for_info("master_sync_in_progress", "1");
    cluster.servers[before.primary].kill9();
    assert_ne!(cluster.wait_new_primary(before), late);
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 100);
    writers.stop().verify_all(&cluster, after);
    for server in &cluster.servers {
        assert!(keys_on(server) >= KEYS, "{}", server.instance());
    }
}
