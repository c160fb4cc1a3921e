//! Physical slots over failovers: whoever is promoted has one for each of the others, each is used by its standby, moves on
//! with it, and none keeps log for somebody who is gone for good.

use sentinel_core::action::ActionKind;
use sentinel_tests::postgres_cluster::{PostgresCluster, Shape, Source, Steady, Writers};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, Role};
use sentinel_tests::wait;

use crate::minded::{Minded, life};

/// What a slot may keep beyond what its standby still needs: a look of the agent, and a checkpoint, ago.
const BEHIND_BYTES_MAX: u64 = 3 << 20;

fn slot(server: &PostgresServer) -> String {
    format!("sentinel_127_0_0_1_{}", server.port())
}

/// Name, whether it is used, and how far it is behind the end of the primary's log; in the order of the names.
fn slots(server: &PostgresServer, end: &str) -> Option<Vec<(String, bool, u64)>> {
    let sql = format!(
        "SELECT slot_name, active, coalesce('{end}'::pg_lsn - restart_lsn, 1e15)::int8 FROM pg_replication_slots ORDER BY 1"
    );
    let rows = server.try_query(Role::Superuser, &sql).ok()?;
    let read =
        |row: &Vec<String>| Some((row[0].clone(), row[1] == "t", row[2].parse().unwrap_or(0)));
    rows.iter().map(read).collect()
}

/// Every server has a slot for each of the others; on the primary each is used; none is far behind.
fn wait_for_slots(cluster: &PostgresCluster, steady: Steady, present: &[usize]) {
    let primary = &cluster.servers[steady.primary];
    let mut found = Vec::new();
    let good = wait::within(wait::BOUND_CLUSTER, || {
        let end = primary.value("SELECT pg_current_wal_flush_lsn()");
        found.clear();
        for index in present {
            let mut wanted: Vec<String> = present
                .iter()
                .filter(|other| *other != index)
                .map(|other| slot(&cluster.servers[*other]))
                .collect();
            wanted.sort();
            let there = slots(&cluster.servers[*index], &end)?;
            let names: Vec<String> = there.iter().map(|(name, ..)| name.clone()).collect();
            let used = *index != steady.primary || there.iter().all(|(_, used, _)| *used);
            let near = there.iter().all(|(.., behind)| *behind < BEHIND_BYTES_MAX);
            found.push((*index, names == wanted, used, near, there));
        }
        let good =
            |(_, named, used, near, _): &(usize, bool, bool, bool, _)| *named && *used && *near;
        found.iter().all(good).then_some(())
    });
    assert!(
        good.is_some(),
        "the primary is {}; (index, right names, used, near the end, what is there): {found:#?}",
        steady.primary
    );
}

/// Many segments of log, and the checkpoints after which a server throws away what nobody asks it to keep.
fn write_much(cluster: &PostgresCluster, steady: Steady, present: &[usize]) {
    let primary = &cluster.servers[steady.primary];
    primary.execute("CREATE TABLE IF NOT EXISTS much (n int, filler text)");
    for _ in 0..4 {
        primary
            .execute("INSERT INTO much SELECT n, repeat('x', 500) FROM generate_series(1, 8000) n");
        primary.execute("CHECKPOINT");
    }
    for index in present.iter().filter(|index| **index != steady.primary) {
        primary.wait_for_standby(&cluster.servers[*index]);
        cluster.servers[*index].execute("CHECKPOINT");
    }
}

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}

/// The settings name no slot, as a cluster that was made by hand does: the agents put them to use.
#[test]
fn every_server_has_a_used_slot_for_each_other_also_after_a_failover() {
    let mut cluster = PostgresCluster::shaped(&Shape {
        agent_lines: lines(["slots_kept = \"3s\""]),
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    write_much(&cluster, before, &[0, 1, 2]);
    wait_for_slots(&cluster, before, &[0, 1, 2]);

    let writers = Writers::start(&cluster, Source::Discovery);
    let old = before.primary;
    cluster.nodes[old].kill9();
    cluster.servers[old].kill_everything();
    let new = cluster.wait_new_primary(before);
    let [one, other] = cluster.standbys(before);
    let left = [one, other];
    writers.wait_for_more(&cluster, 50);
    let after = Steady {
        primary: new,
        epoch: before.epoch + 1,
    };
    write_much(&cluster, after, &left);
    // The slot of the one that is gone keeps log for its time, and no longer.
    wait_for_slots(&cluster, after, &left);

    cluster.nodes[old].restart();
    let after = cluster.end_whole_after(before, writers);
    write_much(&cluster, after, &[0, 1, 2]);
    wait_for_slots(&cluster, after, &[0, 1, 2]);
}

fn birth(server: &PostgresServer) -> String {
    server.value("SELECT extract(epoch FROM (pg_stat_file('PG_VERSION')).change)::int8")
}

/// Nobody keeps log but for the slots. The standby is away while much is written, and while the primary changes.
#[test]
fn a_standby_that_was_away_over_a_failover_finds_its_log_at_the_new_primary() {
    let mut cluster = PostgresCluster::shaped(&Shape {
        service_lines: lines(["exclude_after = \"2s\""]),
        restart_after: "1s",
        ..Shape::default()
    });
    let before = cluster.wait_whole();
    wait_for_slots(&cluster, before, &[0, 1, 2]);
    for server in &cluster.servers {
        server.execute("ALTER SYSTEM SET wal_keep_size = 0");
        server.execute("SELECT pg_reload_conf()");
    }
    let [near, away] = cluster.standbys(before);
    let born = birth(&cluster.servers[away]);
    cluster.nodes[away].kill9();
    cluster.servers[away].kill_everything();
    cluster.until("the one that is away is excluded", || {
        (cluster.service().write_quorum.len() == 1).then_some(())
    });
    write_much(&cluster, before, &[before.primary, near]);

    let writers = Writers::start(&cluster, Source::Discovery);
    cluster.servers[before.primary].crash();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 50);
    let after = Steady {
        primary: near,
        epoch: before.epoch + 1,
    };
    write_much(&cluster, after, &[near]);

    cluster.nodes[away].restart();
    cluster.end_whole_after(before, writers);
    assert_eq!(
        birth(&cluster.servers[away]),
        born,
        "it is the copy that it was"
    );
}

/// Without a whole cluster: what each agent does by itself.
#[test]
fn slots_are_kept_on_standbys_too() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let (one, other) = (
        PostgresServer::standby_of(&primary),
        PostgresServer::standby_of(&primary),
    );
    let agents = [&primary, &one, &other].map(Minded::of);
    for minded in &agents {
        minded.committed(&primary.instance(), 1);
    }
    let has = |server: &PostgresServer, slots: [String; 2]| {
        let mut slots = slots;
        slots.sort();
        let names = "SELECT coalesce(string_agg(slot_name, ' ' ORDER BY slot_name), '') FROM pg_replication_slots";
        server.wait_for(names, &slots.join(" "));
    };
    has(&primary, [slot(&one), slot(&other)]);
    has(&one, [slot(&primary), slot(&other)]);
    has(&other, [slot(&primary), slot(&one)]);
    // A standby that is brought in later uses its own.
    let rebuild = ActionKind::Rebuild {
        primary: primary.instance(),
        life: life(&one),
    };
    agents[1].order_until_done(&rebuild, 1);
    assert_eq!(one.value("SHOW primary_slot_name"), slot(&one));
    let active = format!(
        "SELECT active FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&one)
    );
    primary.wait_for(&active, "t");
}

/// A standby without an agent names no slot, and a node that has lost its leader knows of no primary.
#[test]
fn a_slot_that_its_standby_does_not_use_moves_on_with_it() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let (alone, other) = (
        PostgresServer::standby_of(&primary),
        PostgresServer::standby_of(&primary),
    );
    let agents = [&primary, &other].map(Minded::of);
    agents[0].committed(&primary.instance(), 1);
    let kept = format!(
        "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        slot(&alone)
    );
    let first = [&primary, &other].map(|server| {
        wait::until("there is a slot", || {
            let rows = server.try_query(Role::Superuser, &kept).ok()?;
            rows.into_iter().flatten().next()
        })
    });
    primary.execute("CREATE TABLE t AS SELECT generate_series(1, 20000) n");
    primary.wait_for_standby(&alone);
    primary.wait_for_standby(&other);
    let unused = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND NOT active",
        slot(&alone)
    );
    for (server, first) in [&primary, &other].into_iter().zip(first) {
        assert_eq!(server.value(&unused), "1");
        let moved = kept.replace("restart_lsn", &format!("restart_lsn > '{first}'"));
        server.wait_for(&moved, "t");
    }
}

/// A standby that names a slot that is not there does not stream, and a primary that does not see it makes it none.
#[test]
fn a_standby_whose_slot_was_dropped_streams_all_the_same() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let mut standby = PostgresServer::standby_of(&primary);
    let agents = [&primary, &standby].map(Minded::of);
    for minded in &agents {
        minded.committed(&primary.instance(), 1);
    }
    let named = slot(&standby);
    standby.wait_for("SHOW primary_slot_name", &named);
    drop(agents);
    standby.kill_everything();
    primary.wait_for("SELECT count(*) FROM pg_stat_replication", "0");
    primary.execute(&format!("SELECT pg_drop_replication_slot('{named}')"));
    let agents = [&primary, &standby].map(Minded::of);
    for minded in &agents {
        minded.committed(&primary.instance(), 1);
    }
    let used = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{named}'");
    primary.wait_for(&used, "t");
    primary.wait_for_standby(&standby);
}

/// The operator's bound on what slots keep: a slot beyond it serves nobody, and would keep its standby away for good.
#[test]
fn a_slot_that_the_server_gave_up_is_made_anew() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    primary.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '2MB'");
    primary.execute("ALTER SYSTEM SET wal_keep_size = 0");
    primary.execute(
        "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"127.0.0.1:9\", \"sentinel:1.1\")'",
    );
    primary.execute("SELECT pg_reload_conf()");
    let minded = Minded::of(&primary);
    minded.committed(&primary.instance(), 1);
    let kept = "SELECT coalesce(string_agg(wal_status, ','), 'none') FROM pg_replication_slots WHERE slot_name = 'sentinel_127_0_0_1_9'";
    primary.wait_for(kept, "reserved");
    drop(minded);
    primary.execute(
        "SET synchronous_commit = local; CREATE TABLE much AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n",
    );
    primary.execute("CHECKPOINT");
    primary.wait_for(kept, "lost");
    let minded = Minded::of(&primary);
    minded.committed(&primary.instance(), 1);
    primary.wait_for(kept, "reserved");
}
