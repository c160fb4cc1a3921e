//! A rewind is killed half-way, alone or with its agent: the next try goes on there.

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Writers};
use sentinel_tests::postgres_server::PostgresServer;
use sentinel_tests::wait;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Rewind,
    RewindAndNode,
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn signal(pid: &str, signal: Signal) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap();
}

/// The program that rewinds this server's data, while it runs.
fn rewind(server: &PostgresServer) -> Option<u32> {
    server.pids().into_iter().find(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "pg_rewind")
    })
}

/// Its log holds what it sent to nobody.
fn diverge(server: &PostgresServer) {
    let senders = server.query("SELECT pid FROM pg_stat_replication");
    for sender in senders.iter().flatten() {
        signal(sender, Signal::STOP);
    }
    server.execute(
        "SET synchronous_commit = local; UPDATE bulk SET text = md5(text) || md5(id::text)",
    );
}

fn case(killed: Killed) {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let old = before.primary;
    // Enough for a rewind that takes a moment.
    cluster.servers[old].execute(
        "CREATE TABLE bulk AS SELECT id, repeat(md5(id::text), 8) AS text FROM generate_series(1, 40000) AS id",
    );
    for index in cluster.standbys(before) {
        cluster.servers[old].wait_for_standby(&cluster.servers[index]);
    }
    let writers = Writers::start(&cluster, Source::Discovery);
    diverge(&cluster.servers[old]);
    cluster.servers[old].kill_everything();
    cluster.wait_new_primary(before);
    let pid = wait::until_within(wait::BOUND_CLUSTER, "the old primary is rewound", || {
        rewind(&cluster.servers[old])
    });
    if killed == Killed::RewindAndNode {
        cluster.nodes[old].kill9();
        // It may have gone with its node.
        if rewind(&cluster.servers[old]) == Some(pid) {
            kill(pid);
        }
        wait::until("it is gone", || {
            rewind(&cluster.servers[old]).is_none().then_some(())
        });
        cluster.nodes[old].restart();
    } else {
        kill(pid);
    }
    writers.wait_for_more(&cluster, 50);
    cluster.end_whole_after(before, writers);
    let gone = "SELECT count(*) FROM bulk WHERE length(text) < 256";
    assert_eq!(cluster.servers[old].value(gone), "0", "{killed:?}");
}

#[test]
fn a_killed_rewind_is_done_again() {
    case(Killed::Rewind);
}

#[test]
fn a_rewind_killed_with_its_agent_is_done_again() {
    case(Killed::RewindAndNode);
}
