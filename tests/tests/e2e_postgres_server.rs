#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The tests' own PostgreSQL servers: they stream, survive what the tests do to them, and leave nothing behind.
//!
//! Runs on every version that this machine has. Knows nothing of the adapter.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use sentinel_tests::postgres_server::{
    Options, Paused, PostgresServer, PostgresVersion, Role, StopMode, account, reachable,
};
use sentinel_tests::wait;

fn on_every_version(test: impl Fn(&PostgresVersion)) {
    let versions = PostgresVersion::all_present();
    assert!(!versions.is_empty(), "no PostgreSQL is installed");
    for version in versions {
        test(&version);
    }
}

#[test]
fn the_versions_that_the_environment_brings_are_found() {
    let majors: Vec<_> = PostgresVersion::all_present()
        .iter()
        .map(PostgresVersion::major)
        .collect();
    for major in [16, 18] {
        assert!(
            majors.contains(&major),
            "{majors:?} are here: scripts/install-clients brings 16 and 18"
        );
    }
}

fn rows(server: &PostgresServer) -> String {
    server.value("SELECT count(*) || ' ' || coalesce(sum(n), 0) FROM t")
}

#[test]
fn a_standby_streams_and_holds_the_same_rows() {
    on_every_version(|version| {
        let primary = PostgresServer::primary(version);
        primary.execute("CREATE TABLE t (n int)");
        let standby = PostgresServer::standby_of(&primary);
        primary.execute("INSERT INTO t SELECT generate_series(1, 1000)");
        primary.wait_for_standby(&standby);
        assert_eq!(rows(&standby), rows(&primary));
        assert_eq!(standby.value("SELECT pg_is_in_recovery()"), "t");
        let cascading = PostgresServer::standby_of(&standby);
        standby.wait_for_standby(&cascading);
        assert_eq!(rows(&cascading), "1000 500500");
    });
}

#[test]
fn two_primaries_are_two_clusters() {
    let version = PostgresVersion::any();
    let identity = "SELECT system_identifier FROM pg_control_system()";
    let [one, other] = [(); 2].map(|()| PostgresServer::primary(&version).value(identity));
    assert_ne!(one, other);
}

#[test]
fn a_killed_server_starts_again_with_its_rows() {
    on_every_version(|version| {
        let mut server = PostgresServer::primary(version);
        server.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
        server.kill();
        assert_eq!(server.pid(), None);
        assert!(server.try_query(Role::Superuser, "SELECT 1").is_err());
        server.start();
        assert_eq!(rows(&server), "1 7");
        for mode in [StopMode::Smart, StopMode::Fast, StopMode::Immediate] {
            server.stop(mode);
            assert_eq!(server.pid(), None);
            server.start();
        }
        assert_eq!(rows(&server), "1 7");
    });
}

#[test]
fn a_stopped_primary_becomes_a_standby() {
    on_every_version(|version| {
        let mut old = PostgresServer::primary(version);
        old.execute("CREATE TABLE t (n int)");
        let new = PostgresServer::standby_of(&old);
        old.wait_for_standby(&new);
        old.stop(StopMode::Fast);
        new.execute("SELECT pg_promote()");
        old.follow(&new);
        old.start();
        new.execute("INSERT INTO t VALUES (1)");
        new.wait_for_standby(&old);
        assert_eq!(rows(&old), "1 1");
    });
}

#[test]
fn a_paused_server_is_silent_until_it_is_resumed() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    for paused in [Paused::Postmaster, Paused::Everything] {
        server.pause(paused);
        let stopped = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            status.contains("State:\tT")
        };
        let pids = server.pids();
        assert!(pids.len() > 3, "{pids:?}");
        let all_stopped = wait::within(wait::BOUND, || {
            let count = pids.iter().filter(|pid| stopped(pid)).count();
            match paused {
                Paused::Postmaster => count == 1,
                Paused::Everything => count == pids.len(),
            }
            .then_some(())
        });
        assert_eq!(all_stopped, Some(()), "{paused:?}");
        server.resume();
        assert_eq!(server.value("SELECT 1"), "1");
    }
}

#[test]
fn every_role_logs_in_and_the_coordinator_may_do_what_it_must() {
    on_every_version(|version| {
        let primary = PostgresServer::primary(version);
        for role in [
            Role::Sentinel,
            Role::SentinelScram,
            Role::SentinelMd5,
            Role::SentinelPassword,
        ] {
            for sql in [
                "SELECT (pg_stat_file('PG_VERSION')).change",
                "SELECT pg_logical_emit_message(false, 'sentinel', '')",
                "ALTER SYSTEM SET synchronous_standby_names = ''",
                "ALTER SYSTEM SET default_transaction_read_only = off",
                "SELECT pg_reload_conf()",
                "CHECKPOINT",
            ] {
                primary.try_query(role, sql).unwrap();
            }
            let standby =
                PostgresServer::standby_with(&primary, Options::default().replication_role(role));
            primary.wait_for_standby(&standby);
            standby
                .try_query(role, "ALTER SYSTEM SET primary_conninfo = ''")
                .unwrap();
            standby.try_query(role, "SELECT pg_promote()").unwrap();
        }
        let refused = primary.try_query(Role::Sentinel, "ALTER SYSTEM SET fsync = off");
        assert_eq!(refused.is_err(), version.major() >= 15);
        let made = primary.try_query(Role::App, "CREATE TABLE t (n int)");
        assert_eq!(made, Ok(Vec::new()));
        assert!(primary.try_query(Role::App, "CHECKPOINT").is_err());
    });
}

#[test]
fn a_wrong_password_is_refused() {
    let server = PostgresServer::primary(&PostgresVersion::any());
    let conninfo = server
        .conninfo(Role::SentinelScram)
        .replace("not-secret", "wrong");
    let printed = server
        .command("psql")
        .args(["-d", &conninfo, "-c", "SELECT 1"])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stderr).unwrap();
    assert!(
        printed.contains("password authentication failed"),
        "{printed}"
    );
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let mut server = PostgresServer::primary(&PostgresVersion::any());
    server.stop(StopMode::Fast);
    let port = std::net::TcpListener::bind(("127.0.0.1", server.port())).unwrap();
    let log = server.try_start().unwrap_err();
    assert!(log.contains("Address already in use"), "{log}");
    drop(port);
    server.start();
}

#[test]
fn nothing_is_left_of_a_dropped_server() {
    on_every_version(|version| {
        let primary = PostgresServer::primary(version);
        let standby = PostgresServer::standby_of(&primary);
        // The one that stands still cannot end by itself.
        standby.pause(Paused::Everything);
        let folders = [&primary, &standby].map(|server| server.folder().to_owned());
        let pids = [primary.pids(), standby.pids()].concat();
        drop(primary);
        drop(standby);
        for folder in folders {
            assert!(!folder.exists(), "{}", folder.display());
        }
        for pid in pids {
            assert!(!runs(pid), "{pid}");
        }
    });
}

#[test]
fn a_full_wal_disk_stops_a_primary_until_it_has_room_again() {
    let mut server = PostgresServer::primary(&PostgresVersion::any());
    server.execute("CREATE TABLE t (n int, filler text)");
    server.stop(StopMode::Fast);
    let disk = match server.move_wal_to_small_disk(24) {
        Ok(disk) => disk,
        // Only root in a container that may mount can show it.
        Err(refused) => return assert!(!refused.is_empty()),
    };
    server.start();
    let folder = server.folder().to_owned();
    std::fs::write(disk.join("ballast"), vec![0; 64 << 20]).unwrap_err();
    let rows = "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 10000) n";
    server.try_query(Role::Superuser, rows).unwrap_err();
    server.wait_for_log("No space left on device");
    server.resize_wal_disk(256);
    server.kill_everything();
    server.start();
    server.execute(rows);
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn a_program_of_ours_runs_under_the_servers_account() {
    let program = std::env::current_exe().unwrap();
    let name = program.file_name().unwrap().to_str().unwrap();
    let place = reachable(program.parent().unwrap(), &[name]).unwrap();
    let listed = account::command(&place.join(name))
        .arg("--list")
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
}

/// Set for the copy of this test that is killed.
const VICTIM: &str = "POSTGRES_SERVER_VICTIM";

#[test]
fn nothing_is_left_when_the_test_process_is_killed() {
    if std::env::var_os(VICTIM).is_some() {
        let server = PostgresServer::primary(&PostgresVersion::any());
        server.pause(Paused::Everything);
        println_unbuffered(&format!("\nFOLDER={}", server.folder().display()));
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_when_the_test_process_is_killed"])
        .arg("--nocapture")
        .env(VICTIM, "1")
        // As a runner that ends the whole process group of a test.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let folder = lines
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from(line.strip_prefix("FOLDER=")?)))
        .unwrap();
    let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().parse().unwrap();
    assert!(runs(pid));
    let group = Pid::from_child(&victim);
    kill_process_group(group, Signal::KILL).unwrap();
    victim.wait().unwrap();
    wait::until("the guard has cleaned up", || {
        (!folder.exists() && !runs(pid)).then_some(())
    });
}

/// Past the test harness' capture and the buffer that a killed process never writes.
fn println_unbuffered(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").unwrap();
    stdout.flush().unwrap();
}

/// A process that has ended and waits for its parent is no process any more.
fn runs(pid: u32) -> bool {
    let arguments = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    arguments.is_ok_and(|arguments| !arguments.is_empty())
}
