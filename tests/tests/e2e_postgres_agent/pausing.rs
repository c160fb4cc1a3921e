//! The pause for a switchover: a checkpoint that takes its time while the server takes writes, the stop, and how it ends
//! when nobody orders it to.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::id::InstanceId;
use sentinel_core::observation::Facts;
use sentinel_postgres::agent::ServerState;
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion};
use sentinel_tests::wait;

use crate::minded::Minded;

const ORDER: Duration = Duration::from_millis(300);

fn pause(limit: Duration) -> ActionKind {
    ActionKind::Pause { limit }
}

/// A primary that can acknowledge nothing without its standby, and their agents' settings.
fn pair() -> (PostgresServer, PostgresServer) {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    primary.execute("CREATE TABLE written (id bigint)");
    let standby = PostgresServer::standby_of(&primary);
    primary.wait_for_standby(&standby);
    let names = format!("ANY 1 (\"{}\", \"sentinel:1.1\")", standby.instance());
    primary.execute(&format!(
        "ALTER SYSTEM SET synchronous_standby_names = '{names}'"
    ));
    primary.execute("SELECT pg_reload_conf()");
    primary.wait_for("SHOW synchronous_standby_names", &names);
    (primary, standby)
}

/// The process that writes checkpoints, standing still.
struct Stuck(Pid);

impl Stuck {
    fn of(server: &PostgresServer) -> Self {
        let checkpointer =
            server.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
        let pid = Pid::from_raw(checkpointer.parse().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn under_way(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::UnderWay(text) if text.contains("checkpoint"))
}

#[test]
fn a_slow_checkpoint_is_joined_by_each_order_and_stops_no_writes() {
    let (primary, _standby) = pair();
    let minded = Minded::of(&primary);
    minded.committed(&primary.instance(), 1);
    let stuck = Stuck::of(&primary);
    let began = Instant::now();
    let mut row = 0;
    while began.elapsed() < Duration::from_secs(2) {
        let outcome = minded.order_within(pause(Duration::from_secs(60)), 1, ORDER);
        assert!(under_way(&outcome), "{outcome:?}");
        row += 1;
        primary.execute(&format!("INSERT INTO written VALUES ({row})"));
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'CHECKPOINT' AND state = 'active'";
        assert_eq!(primary.value(waiting), "1", "it is the same checkpoint");
    }
    let doing = minded.status().doing.unwrap_or_default();
    assert!(doing.contains("checkpoint"), "{doing}");
    drop(stuck);
    minded.order_until_done(&pause(Duration::from_secs(60)), 1);
    assert_eq!(primary.pid(), None);
    minded.order_until_done(&ActionKind::Resume, 1);
    assert_eq!(
        primary.value("SELECT max(id) FROM written"),
        row.to_string()
    );
}

/// Called off, or no longer asked for: the server that still runs goes on.
#[test]
fn a_pause_that_is_given_up_during_its_checkpoint_stops_nothing() {
    let (primary, _standby) = pair();
    let minded = Minded::of(&primary);
    minded.committed(&primary.instance(), 1);
    let pid = primary.pid();
    let stuck = Stuck::of(&primary);
    let outcome = minded.order_within(pause(Duration::from_secs(60)), 1, ORDER);
    assert!(under_way(&outcome), "{outcome:?}");
    minded.order_until_done(&ActionKind::Resume, 2);
    assert_eq!(minded.status().doing, None);
    // The leader that asks for it is gone.
    let outcome = minded.order_within(pause(Duration::from_secs(60)), 2, ORDER);
    assert!(under_way(&outcome), "{outcome:?}");
    wait::until("the pause is given up", || {
        minded.status().doing.is_none().then_some(())
    });
    drop(stuck);
    wait::throughout(Duration::from_secs(1), || {
        assert_eq!(primary.pid(), pid, "nobody stopped it");
    });
}

/// Somebody in authority gives the server another order over SQL, which closes all acting sessions.
#[test]
fn an_order_over_sql_ends_the_pause_that_is_being_prepared() {
    let (primary, _standby) = pair();
    let minded = Minded::of(&primary);
    minded.committed(&primary.instance(), 1);
    let pid = primary.pid();
    let stuck = Stuck::of(&primary);
    let outcome = minded.order_within(pause(Duration::from_secs(60)), 1, ORDER);
    assert!(under_way(&outcome), "{outcome:?}");
    primary.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sentinel-act'",
    );
    drop(stuck);
    wait::until("the checkpoint ends", || {
        minded.status().doing.is_none().then_some(())
    });
    assert_eq!(primary.pid(), pid, "nobody stopped it");
}

/// Paused for so long; nobody is heard from here on.
const PAUSE: Duration = Duration::from_secs(2);

fn paused_alone(minded: &Minded) -> Facts {
    let own = minded.settings.instance.clone();
    minded.committed(&own, 3);
    let facts = minded.order_until_done(&pause(PAUSE), 3);
    minded.alone(&own, 3);
    facts
}

fn comes_back(server: &PostgresServer) {
    wait::until("it takes writes again", || {
        let insert = "INSERT INTO written VALUES (1)";
        let role = sentinel_tests::postgres_server::Role::Superuser;
        server.try_query(role, insert).ok()
    });
}

fn stays_stopped(minded: &Minded, server: &PostgresServer, why: &str) {
    wait::until("it says why it stays stopped", || {
        let problem = minded.status().problem.unwrap_or_default();
        problem.contains(why).then_some(())
    });
    wait::throughout(3 * PAUSE, || assert_eq!(server.pid(), None));
    assert_eq!(minded.status().state, ServerState::Down);
}

#[test]
fn a_paused_primary_comes_back_when_no_leader_is_heard() {
    let (primary, _standby) = pair();
    let mut minded = Minded::of(&primary);
    paused_alone(&minded);
    assert_eq!(primary.pid(), None);
    comes_back(&primary);
    wait::until("the agent sees it run", || {
        (minded.status().state == ServerState::Running).then_some(())
    });
    // A leader that finds the switchover where it was left does not stop it a second time.
    for restarted in [false, true] {
        if restarted {
            minded.kill_agent();
            minded.begin();
        }
        let outcome = minded.order(pause(PAUSE), 3);
        assert!(
            matches!(&outcome, Outcome::Refused(text) if text.contains("ended by itself")),
            "{outcome:?}"
        );
    }
    // Another switchover is another matter.
    minded.committed(&primary.instance(), 4);
    minded.order_until_done(&pause(PAUSE), 4);
    minded.order_until_done(&ActionKind::Resume, 4);
}

#[test]
fn so_it_does_when_its_agent_was_restarted_meanwhile() {
    let (primary, _standby) = pair();
    let mut minded = Minded::of(&primary);
    let facts = paused_alone(&minded);
    minded.kill_agent();
    minded.begin();
    // A leader that is there after all is given the same answer.
    let again = minded.order_until_done(&pause(PAUSE), 3);
    assert_eq!(again, facts);
    minded.kill_agent();
    minded.begin();
    wait::throughout(PAUSE / 2, || assert_eq!(primary.pid(), None));
    comes_back(&primary);
}

#[test]
fn it_stays_stopped_where_another_was_chosen() {
    let (primary, standby) = pair();
    let minded = Minded::of(&primary);
    paused_alone(&minded);
    minded.alone(&standby.instance(), 4);
    stays_stopped(&minded, &primary, "another instance was chosen");
    minded.committed(&primary.instance(), 5);
    comes_back(&primary);
}

#[test]
fn it_stays_stopped_after_an_order_of_a_later_epoch() {
    let (primary, _standby) = pair();
    let mut minded = Minded::of(&primary);
    paused_alone(&minded);
    // It leads nowhere, and is an order all the same.
    let nobody = InstanceId::new("127.0.0.1", 1);
    let outcome = minded.order(ActionKind::Repoint { primary: nobody }, 4);
    assert!(!matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    minded.kill_agent();
    minded.begin();
    let why = match std::fs::exists(minded.settings.state_dir.join("pause.json")).unwrap() {
        true => "an order of a later failover",
        false => "not known who is the primary",
    };
    stays_stopped(&minded, &primary, why);
}

/// Its standby was frozen for a failover: it could acknowledge nothing.
#[test]
fn it_stays_stopped_while_its_write_quorum_does_not_follow_it() {
    let (primary, standby) = pair();
    let conninfo = standby.value("SHOW primary_conninfo").replace('\'', "''");
    standby.execute("ALTER SYSTEM SET primary_conninfo = ''");
    standby.execute("SELECT pg_reload_conf()");
    standby.wait_for("SHOW primary_conninfo", "");
    let minded = Minded::of(&primary);
    paused_alone(&minded);
    stays_stopped(&minded, &primary, "0 of the 1 standbys");
    standby.execute(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"));
    standby.execute("SELECT pg_reload_conf()");
    comes_back(&primary);
}
