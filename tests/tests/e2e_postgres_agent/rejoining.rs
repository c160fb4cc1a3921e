//! A deposed primary comes back as a standby: by a rewind, without one, or as a copy, and what only it had is kept.

use std::fs;

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::observation::{Facts, Link, Role, Upstream};
use sentinel_tests::postgres_server::{
    Paused, PostgresServer, PostgresVersion, Role as Login, StopMode,
};

use crate::minded::{JOB, Minded, life};
use crate::stalling::Stalling;
use sentinel_tests::wait;

const ROWS: &str = "SELECT count(*) || ' ' || coalesce(sum(n), 0) || ' ' || coalesce(md5(string_agg(n::text, ',' ORDER BY n)), '') FROM t";

/// A primary and a standby that has everything.
fn pair() -> (PostgresServer, PostgresServer) {
    pair_of(&PostgresVersion::any())
}

fn pair_of(version: &PostgresVersion) -> (PostgresServer, PostgresServer) {
    let old = PostgresServer::primary(version);
    let new = PostgresServer::standby_of(&old);
    fill(&old);
    old.wait_for_standby(&new);
    (old, new)
}

/// Some rows.
pub(crate) fn fill(server: &PostgresServer) {
    server.execute("CREATE TABLE t (n int, filler text)");
    server.execute("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 1000) n");
}

fn promote(server: &PostgresServer) {
    server.execute("SELECT pg_promote()");
    server.execute("INSERT INTO t SELECT n FROM generate_series(2001, 2100) n");
}

/// The standby is cut off, the old primary goes on, and the standby is promoted.
pub(crate) fn diverge(old: &PostgresServer, new: &PostgresServer, rows: u32) {
    new.execute("ALTER SYSTEM SET primary_conninfo = ''");
    new.execute("SELECT pg_reload_conf()");
    new.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0");
    old.execute(&format!(
        "INSERT INTO t SELECT n, repeat('y', 100) FROM generate_series(1000001, {}) n",
        1_000_000 + rows
    ));
    promote(new);
}

pub(crate) fn follows(facts: &Facts, primary: &PostgresServer) -> bool {
    let upstream = Upstream::Instance(primary.instance());
    matches!(&facts.role, Role::Replica { upstream: found, .. } if *found == upstream)
}

pub(crate) fn equal(one: &PostgresServer, other: &PostgresServer) {
    one.wait_for_standby(other);
    // It streams before it is consistent, and answers only then.
    wait::until("the standby answers", || {
        other.try_query(Login::Superuser, "SELECT 1").ok()
    });
    assert_eq!(one.value(ROWS), other.value(ROWS));
}

fn incarnation(server: &PostgresServer) -> String {
    server.value("SELECT extract(epoch FROM (pg_stat_file('PG_VERSION')).change)::int8")
}

#[test]
fn a_deposed_primary_is_rewound_and_its_diverged_log_is_kept() {
    for version in PostgresVersion::all_present() {
        rewound_and_kept(&version);
    }
}

fn rewound_and_kept(version: &PostgresVersion) {
    let (mut old, new) = pair_of(version);
    old.execute("ALTER SYSTEM SET work_mem = '7MB'");
    old.execute("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"sentinel:1.1\")'");
    let born = incarnation(&old);
    diverge(&old, &new, 500);
    old.kill();
    let minded = Minded::of(&old);
    let primary = new.instance();
    let facts = minded.order_until_done(&ActionKind::Demote { primary }, 2);
    assert!(follows(&facts, &new), "{facts:?}");
    equal(&new, &old);
    assert_eq!(old.value("SHOW work_mem"), "7MB");
    assert_eq!(
        old.value("SHOW synchronous_standby_names"),
        "ANY 1 (\"sentinel:2.0\")"
    );
    assert_eq!(old.value("SHOW port"), old.port().to_string());
    assert_ne!(incarnation(&old), born);
    let kept = minded.status().diverged.expect("it is shown");
    assert!(kept.bytes.unwrap() > 500 * 100, "{kept:?}");
    assert_eq!(
        minded.folders_of_diverged(),
        std::slice::from_ref(&kept.folder)
    );
    let text = fs::read_to_string(kept.folder.join("diverged.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["from"], kept.from);
    for file in json["files"].as_array().unwrap() {
        assert!(kept.folder.join(file.as_str().unwrap()).exists());
    }
    let dump = old
        .command("pg_waldump")
        .args(["-s", &kept.from, "-n", "1", "-p"])
        .arg(&kept.folder)
        .output();
    // The kept log is whole: the tool reads it where it is. Root's folder is closed to the server's account.
    if !rustix::process::geteuid().is_root() {
        assert!(dump.unwrap().status.success());
    }
}

#[test]
fn one_that_stopped_before_the_fork_needs_no_rewind() {
    let (mut old, new) = pair();
    let born = incarnation(&old);
    old.stop(StopMode::Fast);
    promote(&new);
    let minded = Minded::of(&old);
    let primary = new.instance();
    let facts = minded.order_until_done(&ActionKind::Demote { primary }, 2);
    assert!(follows(&facts, &new), "{facts:?}");
    equal(&new, &old);
    assert_eq!(incarnation(&old), born, "it is the copy that it was");
    assert!(minded.folders_of_diverged().is_empty());
}

#[test]
fn one_that_runs_is_stopped_and_rewound() {
    let (old, new) = pair();
    let minded = Minded::of(&old);
    diverge(&old, &new, 10);
    let primary = new.instance();
    let first = minded.order(
        ActionKind::Demote {
            primary: primary.clone(),
        },
        2,
    );
    assert!(!matches!(first, Outcome::Refused(_)), "{first:?}");
    minded.order_until_done(
        &ActionKind::Demote {
            primary: primary.clone(),
        },
        2,
    );
    equal(&new, &old);
    // Repeated, it stops nothing.
    let pid = old.pid();
    minded.order_until_done(&ActionKind::Demote { primary }, 2);
    assert_eq!(old.pid(), pid);
}

#[test]
fn a_sibling_with_the_same_timeline_number_is_rebuilt() {
    let (mut old, new) = pair();
    let third = PostgresServer::standby_of(&old);
    old.wait_for_standby(&third);
    old.kill();
    promote(&new);
    promote(&third);
    third.execute("INSERT INTO t SELECT n FROM generate_series(5000, 5010) n");
    let minded = Minded::of(&third);
    let born = incarnation(&third);
    let primary = new.instance();
    minded.order_until_done(&ActionKind::Demote { primary }, 2);
    equal(&new, &third);
    assert_ne!(incarnation(&third), born);
    assert_eq!(minded.folders_of_diverged().len(), 1);
    let beside = fs::read_dir(third.folder()).unwrap();
    let left: Vec<_> = beside
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("sentinel-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_rewind_that_was_killed_half_way_is_taken_up_again() {
    let (mut old, new) = pair();
    old.execute("INSERT INTO t SELECT n, repeat('z', 100) FROM generate_series(3001, 33000) n");
    old.wait_for_standby(&new);
    diverge(&old, &new, 10);
    // Each of its pages has to be copied back.
    old.execute("UPDATE t SET filler = repeat('w', 100)");
    old.kill();
    let way = Stalling::before(&new);
    way.stall_after(1 << 20);
    let mut minded = Minded::of(&old);
    let order = ActionKind::Demote {
        primary: way.instance(),
    };
    drop(minded.order(order.clone(), 2));
    way.wait_until_stalled();
    minded.kill_agent();
    // Its programs die with it, and are gone a moment later.
    wait::until_within(JOB, "nothing runs in the folder", || {
        old.pids().is_empty().then_some(())
    });
    let journal = fs::read_to_string(minded.settings.state_dir.join("job.json")).unwrap();
    assert!(journal.contains("Rewinding"), "{journal}");
    way.pass_everything();
    minded.begin();
    // Without an order and without news it is not started as it is.
    wait::throughout(2 * minded.settings.restart_after, || {
        assert_eq!(old.pid(), None);
    });
    minded.order_until_done(&order, 2);
    equal(&new, &old);
    assert_eq!(minded.folders_of_diverged().len(), 1);
}

/// The copy of what only it had was broken off: it is made whole in the same place, and there is no second one.
#[test]
fn a_copy_of_the_diverged_log_that_was_broken_off_is_made_whole() {
    let (mut old, new) = pair();
    diverge(&old, &new, 500);
    old.kill();
    let way = Stalling::before(&new);
    way.stall_after(32 << 10);
    let mut minded = Minded::of(&old);
    let order = ActionKind::Demote {
        primary: way.instance(),
    };
    drop(minded.order(order.clone(), 2));
    way.wait_until_stalled();
    minded.kill_agent();
    let [folder] = minded.folders_of_diverged().try_into().unwrap();
    let whole = segments(&folder);
    // As it was a moment before: the journal names the folder, and half of it is there.
    let journal = minded.settings.state_dir.join("job.json");
    let text = fs::read_to_string(&journal).unwrap();
    assert!(text.contains("Rewinding"), "{text}");
    let text = text.replace("Rewinding", "Begun");
    let text = text.replace("\"rewinds\": 1", "\"rewinds\": 0");
    fs::write(&journal, text).unwrap();
    fs::remove_file(folder.join("diverged.json")).unwrap();
    fs::write(folder.join(&whole[0].0), "half").unwrap();
    way.pass_everything();
    minded.begin();
    minded.order_until_done(&order, 2);
    equal(&new, &old);
    assert_eq!(minded.folders_of_diverged(), std::slice::from_ref(&folder));
    assert!(folder.join("diverged.json").exists());
    let found = segments(&folder);
    assert_eq!(found[..whole.len()], whole[..]);
    assert_eq!(minded.status().diverged.unwrap().folder, folder);
}

/// The names and sizes of the files of a folder, without its description.
fn segments(folder: &std::path::Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut found: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry))
        .filter(|(name, _)| name != "diverged.json")
        .map(|(name, entry)| (name, entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_deposed_primary_that_crashed_rejoins_by_the_table_alone() {
    let (mut old, new) = pair();
    diverge(&old, &new, 10);
    old.kill();
    let minded = Minded::of(&old);
    minded.committed(&new.instance(), 2);
    wait::until_within(JOB, "it streams", || {
        let names = new.value(
            "SELECT coalesce(string_agg(application_name, ','), '') FROM pg_stat_replication",
        );
        names.contains(&old.instance().to_string()).then_some(())
    });
    equal(&new, &old);
}

#[test]
fn a_foreign_database_is_refused_and_not_touched() {
    let (_old, new) = pair();
    promote(&new);
    let stranger = PostgresServer::primary(&PostgresVersion::any());
    stranger.execute("CREATE TABLE mine (n int)");
    let pid = stranger.pid();
    let minded = Minded::of(&stranger);
    for kind in [
        ActionKind::Demote {
            primary: new.instance(),
        },
        ActionKind::Rebuild {
            primary: new.instance(),
            life: life(&stranger),
        },
        ActionKind::Repoint {
            primary: new.instance(),
        },
    ] {
        let text = wait::until("it is refused", || match minded.order(kind.clone(), 2) {
            Outcome::Refused(text) => Some(text),
            Outcome::Done(_) | Outcome::UnderWay(_) | Outcome::Unknown(_) => None,
        });
        assert!(text.contains("not the same service"), "{text}");
    }
    assert_eq!(stranger.pid(), pid, "it was not stopped");
    stranger.execute("INSERT INTO mine VALUES (1)");
}

#[test]
fn a_rebuild_is_done_once_for_a_life() {
    let (old, new) = pair();
    let minded = Minded::of(&new);
    let born = incarnation(&new);
    let order = ActionKind::Rebuild {
        primary: old.instance(),
        life: life(&new),
    };
    let facts = minded.order_until_done(&order, 2);
    assert!(matches!(facts.role, Role::Replica { .. }), "{facts:?}");
    old.wait_for_standby(&new);
    let reborn = incarnation(&new);
    assert_ne!(reborn, born);
    let facts = minded.order_until_done(&order, 2);
    assert!(matches!(
        facts.role,
        Role::Replica {
            link: Link::Streaming,
            ..
        }
    ));
    assert_eq!(incarnation(&new), reborn);
    // In its new life it may have to be rebuilt again.
    let again = ActionKind::Rebuild {
        primary: old.instance(),
        life: life(&new),
    };
    minded.order_until_done(&again, 2);
    assert_ne!(incarnation(&new), reborn);
}

/// A standby that received more than the promoted one, and replayed no more: its own log beyond the fork is moved aside.
#[test]
fn a_standby_that_received_beyond_the_fork_is_brought_over_as_it_is() {
    for version in PostgresVersion::all_present() {
        let (mut old, new) = pair_of(&version);
        let ahead = PostgresServer::standby_of(&old);
        old.wait_for_standby(&ahead);
        let born = incarnation(&ahead);
        ahead.execute("SELECT pg_wal_replay_pause()");
        ahead.wait_for("SELECT pg_get_wal_replay_pause_state()", "paused");
        new.execute("ALTER SYSTEM SET primary_conninfo = ''");
        new.execute("SELECT pg_reload_conf()");
        new.wait_for("SELECT count(*) FROM pg_stat_wal_receiver", "0");
        // More than the rest of a segment, so that it may not be pointed elsewhere by a reload.
        old.execute("INSERT INTO t SELECT n, repeat('v', 100) FROM generate_series(9001, 29000) n");
        let end = old.value("SELECT pg_current_wal_flush_lsn()");
        ahead.wait_for(&format!("SELECT pg_last_wal_receive_lsn() >= '{end}'"), "t");
        old.kill();
        promote(&new);
        let minded = Minded::of(&ahead);
        let primary = new.instance();
        minded.order_until_done(&ActionKind::Repoint { primary }, 2);
        equal(&new, &ahead);
        assert_eq!(incarnation(&ahead), born, "neither rewound nor copied");
        let aside = minded.settings.state_dir.join("set-aside");
        assert!(fs::read_dir(aside).unwrap().count() > 0);
    }
}

/// Told to follow a primary that hangs, and frozen over SQL before that answers again: a failover is under way. Brought back
/// to the old primary, it would acknowledge what nobody looks for any more.
#[test]
fn a_job_does_not_undo_a_freeze_that_came_after_it_was_begun() {
    let (old, new) = pair();
    let minded = Minded::of(&new);
    let pid = new.pid();
    let (primary, life) = (old.instance(), life(&new));
    old.pause(Paused::Everything);
    let begun = minded.order(ActionKind::Rebuild { primary, life }, 2);
    assert!(matches!(begun, Outcome::UnderWay(_)), "{begun:?}");
    minded.order_until_done(&ActionKind::Freeze, 3);
    old.resume();
    wait::until("the job has ended, or stopped the server", || {
        (minded.status().problem.is_some() || new.pid() != pid).then_some(())
    });
    assert_eq!(new.pid(), pid, "it was not stopped");
    let problem = minded.status().problem.unwrap_or_default();
    assert!(problem.contains("another order"), "{problem}");
    assert_eq!(new.value("SHOW primary_conninfo"), "");
}
