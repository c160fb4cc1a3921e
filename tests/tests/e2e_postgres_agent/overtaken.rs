//! A standby whose agent was told to bring it to another primary is frozen over SQL before the agent gets to it: a later
//! failover is under way. Brought to that primary all the same, it would acknowledge what nobody looks for any more.

use std::time::{Duration, Instant};

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::id::InstanceId;
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, Role as Login};
use sentinel_tests::wait;

use crate::client::Client;
use crate::minded::{JOB, Minded};
use crate::rejoining::{equal, fill};
use crate::stalling::Stalling;

/// A primary that was just promoted, and a standby that received beyond the fork, so that only its agent can bring it over.
fn promoted_and_ahead() -> (PostgresServer, PostgresServer) {
    let mut old = PostgresServer::primary(&PostgresVersion::any());
    let new = PostgresServer::standby_of(&old);
    let ahead = PostgresServer::standby_of(&old);
    fill(&old);
    old.wait_for_standby(&new);
    old.wait_for_standby(&ahead);
    ahead.execute("SELECT pg_wal_replay_pause()");
    ahead.wait_for("SELECT pg_get_wal_replay_pause_state()", "paused");
    new.execute("ALTER SYSTEM SET primary_conninfo = ''");
    new.execute("SELECT pg_reload_conf()");
    new.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0");
    old.execute("INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series(9001, 29000) n");
    let end = old.value("SELECT pg_current_wal_flush_lsn()");
    ahead.wait_for(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"), "t");
    old.kill();
    new.execute("SELECT pg_promote()");
    (new, ahead)
}

#[track_caller]
fn freeze_over_sql(minded: &Minded) {
    wait::until("it is frozen", || {
        match minded.order_over_sql(ActionKind::Freeze, 3) {
            Outcome::Done(facts) => Some(facts),
            Outcome::Refused(_) | Outcome::UnderWay(_) | Outcome::Unknown(_) => None,
        }
    });
}

/// Orders the standby to this primary, which hangs while it is asked, and freezes it meanwhile; gives the answer.
fn overtaken(
    minded: &Minded,
    primary: &Stalling,
    patience: Duration,
    frozen_after: Duration,
) -> Outcome {
    let began = Instant::now();
    primary.stall_after(0);
    std::thread::scope(|scope| {
        let order = scope.spawn(|| {
            let primary: InstanceId = primary.instance();
            minded.order_within(ActionKind::Repoint { primary }, 2, patience)
        });
        primary.wait_until_stalled();
        wait::until("it is time to freeze", || {
            (began.elapsed() > frozen_after).then_some(())
        });
        freeze_over_sql(minded);
        primary.pass_everything();
        order.join().unwrap()
    })
}

#[track_caller]
fn assert_untouched(minded: &Minded, ahead: &PostgresServer, pid: Option<u32>) {
    assert_eq!(ahead.pid(), pid, "it was not stopped");
    assert!(!minded.settings.state_dir.join("job.json").exists());
    assert_eq!(ahead.value("SHOW primary_conninfo"), "");
}

#[test]
fn an_order_is_not_carried_out_when_its_deadline_passed_while_the_primary_was_asked() {
    let (new, ahead) = promoted_and_ahead();
    let (minded, primary) = (Minded::of(&ahead), Stalling::before(&new));
    let pid = ahead.pid();
    let patience = Duration::from_secs(2);
    let outcome = overtaken(&minded, &primary, patience, patience);
    assert!(
        matches!(&outcome, Outcome::Refused(text) if text.contains("deadline")),
        "{outcome:?}"
    );
    assert_untouched(&minded, &ahead, pid);
}

#[test]
fn an_order_is_not_carried_out_when_another_came_over_sql_while_the_primary_was_asked() {
    let (new, ahead) = promoted_and_ahead();
    let (minded, primary) = (Minded::of(&ahead), Stalling::before(&new));
    let pid = ahead.pid();
    let patience = Duration::from_secs(20);
    let outcome = overtaken(&minded, &primary, patience, Duration::ZERO);
    assert!(
        matches!(&outcome, Outcome::Refused(text) if text.contains("another order")),
        "{outcome:?}"
    );
    assert_untouched(&minded, &ahead, pid);
}

/// A smart stop waits for the clients; one that was there before can still freeze the server.
#[test]
fn a_job_does_not_undo_a_freeze_that_came_while_the_server_was_stopping() {
    let (new, ahead) = promoted_and_ahead();
    let mut minded = Minded::prepare(&ahead);
    minded.settings.limits.smart = JOB;
    minded.begin();
    let (pid, client) = (ahead.pid(), Client::logged_in(&ahead, Login::Superuser));
    let primary = new.instance();
    let begun = minded.order(ActionKind::Repoint { primary }, 2);
    assert!(matches!(begun, Outcome::UnderWay(_)), "{begun:?}");
    ahead.wait_for_log("received smart shutdown request");
    client.execute("ALTER SYSTEM SET primary_conninfo = ''");
    drop(client);
    wait::until_within(JOB, "the job has given up", || {
        let problem = minded.status().problem;
        problem.filter(|problem| problem.contains("may be frozen"))
    });
    wait::until("it runs again", || {
        let found = ahead.try_query(Login::Superuser, "SHOW primary_conninfo");
        found.ok().map(|found| assert_eq!(found, [[""]]))
    });
    assert_ne!(ahead.pid(), pid, "it was stopped");
    // The order still holds, for all that its leader knows.
    let primary = new.instance();
    minded.order_until_done(&ActionKind::Repoint { primary }, 2);
    equal(&new, &ahead);
}
