//! A server under an agent: its end is noticed at once, it is started again when it may be, and the agent's own end
//! changes nothing for it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::id::InstanceId;
use sentinel_core::observation::Role;
use sentinel_postgres::agent::{How, ServerState};
use sentinel_tests::postgres_server::{Paused, PostgresServer, PostgresVersion, StopMode};
use sentinel_tests::wait;

use crate::minded::Minded;

pub(crate) fn running(minded: &Minded) {
    wait::until("the agent sees the server", || {
        (minded.status().state == ServerState::Running).then_some(())
    });
}

pub(crate) fn kill_postmaster(server: &PostgresServer) {
    let former = server.pid().unwrap();
    let pid = Pid::from_raw(i32::try_from(former).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // A killed process ends a moment later.
    wait::until("the postmaster is gone", || {
        (server.pid() != Some(former)).then_some(())
    });
}

#[track_caller]
pub(crate) fn restarted(server: &PostgresServer, former: Option<u32>) {
    let seen = wait::within(wait::BOUND, || {
        let other = server.pid().is_some() && server.pid() != former;
        let answers = server
            .try_query(sentinel_tests::postgres_server::Role::Superuser, "SELECT 1")
            .is_ok();
        (other && answers).then_some(())
    });
    assert!(
        seen.is_some(),
        "no other postmaster answers: {}",
        server.log_text()
    );
}

/// However the server was started: as another's child, or by each of the ways that need no service manager.
#[test]
fn the_end_of_a_server_is_noticed_at_once_and_it_is_started_in_place() {
    for how in [How::Command, How::PgCtl] {
        let server = PostgresServer::primary(&PostgresVersion::any());
        let mut minded = Minded::prepare(&server);
        minded.settings.how = how.clone();
        minded.begin();
        minded.committed(&server.instance(), 1);
        running(&minded);
        for _ in 0..2 {
            let pid = server.pid();
            kill_postmaster(&server);
            let killed = Instant::now();
            wait::until("the end is noticed", || {
                (minded.status().state != ServerState::Running).then_some(())
            });
            assert!(
                killed.elapsed() < Duration::from_millis(250),
                "{how:?}: {:?}",
                killed.elapsed()
            );
            restarted(&server, pid);
            assert!(
                killed.elapsed() >= minded.settings.restart_after,
                "an order is waited for"
            );
            running(&minded);
        }
        assert!(minded.status().last_exit.is_some());
    }
}

#[test]
fn a_primary_that_is_not_the_committed_one_is_not_started() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let minded = Minded::of(&server);
    running(&minded);
    kill_postmaster(&server);
    wait::throughout(4 * minded.settings.restart_after, || {
        assert_eq!(server.pid(), None)
    });
    // The other one cannot be reached: all the more it stays down.
    minded.committed(&InstanceId::new("127.0.0.1", 1), 2);
    wait::throughout(4 * minded.settings.restart_after, || {
        assert_eq!(server.pid(), None)
    });
    minded.committed(&server.instance(), 3);
    restarted(&server, None);
}

#[test]
fn a_standby_is_started_at_once_whoever_is_primary() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let standby = PostgresServer::standby_of(&primary);
    let minded = Minded::of(&standby);
    running(&minded);
    let pid = standby.pid();
    kill_postmaster(&standby);
    restarted(&standby, pid);
    primary.wait_for_standby(&standby);
}

#[test]
fn the_end_of_the_agent_is_none_of_the_server_and_a_new_agent_adopts_it() {
    let mut server = PostgresServer::primary(&PostgresVersion::any());
    server.stop(StopMode::Fast);
    let mut minded = Minded::of(&server);
    minded.committed(&server.instance(), 1);
    restarted(&server, None);
    let pid = server.pid();
    minded.kill_agent();
    server.execute("CREATE TABLE t (n int)");
    minded.begin();
    running(&minded);
    assert_eq!(server.pid(), pid, "it is the same server");
    kill_postmaster(&server);
    restarted(&server, pid);
}

#[test]
fn a_hanging_server_is_stopped_all_the_same() {
    let (old, new) = {
        let old = PostgresServer::primary(&PostgresVersion::any());
        let new = PostgresServer::standby_of(&old);
        old.wait_for_standby(&new);
        (old, new)
    };
    let mut minded = Minded::prepare(&old);
    minded.settings.limits.fast = Duration::from_millis(200);
    minded.settings.limits.immediate = Duration::from_millis(200);
    minded.begin();
    running(&minded);
    old.pause(Paused::Postmaster);
    new.execute("SELECT pg_promote()");
    let primary = new.instance();
    minded.order_until_done(&ActionKind::Demote { primary }, 2);
    new.wait_for_standby(&old);
}

#[test]
fn a_pause_ends_by_order_or_by_itself() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let minded = Minded::of(&server);
    minded.committed(&server.instance(), 1);
    running(&minded);
    let long = ActionKind::Pause {
        limit: Duration::from_secs(60),
    };
    let facts = minded.order_until_done(&long, 1);
    assert_eq!(server.pid(), None);
    let again = minded.order_until_done(&long, 1);
    assert_eq!(facts, again);
    wait::throughout(2 * minded.settings.restart_after, || {
        assert_eq!(server.pid(), None)
    });
    let resumed = wait::until("it runs again", || {
        match minded.order(ActionKind::Resume, 1) {
            Outcome::Done(facts) => Some(facts),
            Outcome::Refused(_) | Outcome::UnderWay(_) | Outcome::Unknown(_) => None,
        }
    });
    assert_eq!(resumed.role, Role::Primary);
    let offset = |facts: &sentinel_core::observation::Facts| facts.position.clone().unwrap().offset;
    assert!(offset(&resumed) > offset(&facts));
    running(&minded);
    let short = ActionKind::Pause {
        limit: Duration::from_millis(500),
    };
    drop(minded.order_within(short, 1, Duration::from_secs(20)));
    restarted(&server, None);
}
