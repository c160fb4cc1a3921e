//! The voters are gone while a primary is stopped for a switchover.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::postgres_cluster::{PostgresCluster, SERVICE, Source, Steady, Writers};
use sentinel_tests::postgres_server::PostgresServer;
use sentinel_tests::wait;

/// How long nothing may change when nothing should.
const CALM: Duration = Duration::from_secs(5);

/// A target that never gets the last byte holds the switchover where its primary is stopped.
struct Held(Pid);

impl Held {
    fn back(cluster: &PostgresCluster, target: usize) -> Self {
        let receiver = cluster.servers[target].value("SELECT pid FROM pg_stat_wal_receiver");
        let pid = Pid::from_raw(receiver.parse().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// When the nodes are killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The primary has just been told to stop: nothing is decided yet.
    Stopping,
    /// It has stopped, and the voters may have seen it: the failover is about to be decided.
    Stopped,
}

impl Moment {
    fn has_come(self, primary: &PostgresServer) -> bool {
        match self {
            Self::Stopping => primary
                .log_text()
                .contains("received fast shutdown request"),
            Self::Stopped => primary.pid().is_none(),
        }
    }
}

/// Orders a switchover and kills these nodes in its pause, all of them at once.
fn pause_and_kill(cluster: &mut PostgresCluster, before: Steady, moment: Moment, killed: &[usize]) {
    let target = cluster.standbys(before)[0];
    let held = Held::back(cluster, target);
    let leader = cluster.until("a leader", || cluster.try_leader());
    let node = cluster.nodes[leader].plan().http_address().to_string();
    let to = cluster.servers[target].instance().to_string();
    let mut order = Command::new(sentinel_tests::binary::sentinel())
        .args(["switchover", SERVICE, "--to", &to, "--node", &node])
        .arg("--token-file")
        .arg(cluster.token_file())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.until("the pause", || {
        let primary = &cluster.servers[before.primary];
        moment.has_come(primary).then_some(())
    });
    for node in killed {
        cluster.nodes[*node].kill9();
    }
    // The leader may live, and leads nobody; its answer is not waited for.
    order.kill().unwrap();
    order.wait().unwrap();
    drop(held);
    cluster.until("the primary is stopped", || {
        let stopped = cluster.servers[before.primary].pid().is_none();
        stopped.then_some(())
    });
}

/// Without a leader the primary comes back and takes writes; with all nodes back the cluster is whole, and stays so.
fn comes_back(mut cluster: PostgresCluster, before: Steady, writers: Writers, dead: &[usize]) {
    writers.wait_for_more(&cluster, 100);
    assert_eq!(cluster.try_leader(), None, "nobody leads");
    for node in dead {
        cluster.nodes[*node].restart();
    }
    let after = cluster.wait_whole();
    // It is called off, because the primary has paused for it once. Or the leader that was cut off had its decision to freeze
    // in its log: then it is carried out, once, with all that was acknowledged since.
    let same = after == before;
    assert!(
        same || after.epoch == before.epoch + 1,
        "{after:?} after {before:?}"
    );
    wait::throughout(CALM, || {
        for service in cluster.answering().filter_map(|node| node.service()) {
            assert_eq!(service.token_epoch, after.epoch);
        }
    });
    assert_eq!(cluster.end_whole(writers), after);
}

/// Its own node lives, and hears nobody.
#[test]
fn a_primary_whose_leader_and_voters_are_lost_in_its_pause_comes_back() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    let others = cluster.standbys(before);
    pause_and_kill(&mut cluster, before, Moment::Stopping, &others);
    comes_back(cluster, before, writers, &others);
}

/// Its own node is restarted, and nobody else is there.
fn loses_every_node(moment: Moment) {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Discovery);
    pause_and_kill(&mut cluster, before, moment, &[0, 1, 2]);
    cluster.nodes[before.primary].restart();
    let others = cluster.standbys(before);
    comes_back(cluster, before, writers, &others);
}

#[test]
fn so_it_does_when_its_own_agent_was_lost_too() {
    loses_every_node(Moment::Stopping);
}

#[test]
fn so_it_does_when_it_had_stopped_before_the_voters_were_lost() {
    loses_every_node(Moment::Stopped);
}
