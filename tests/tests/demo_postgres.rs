#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The demonstration of PostgreSQL and of both engines, judged from outside: exit code, object, and the servers.
//!
//! Runs the real binary on every server version that is here. Counts what was lost with a client of its own. Times are
//! not judged here; they are `make demo-check`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::demonstration::{
    Staying, assert_nothing_left, assert_replaced, command, folder, object, processes_of, run,
};
use sentinel_tests::postgres_server::PostgresVersion;
use serde_json::Value;
use tokio_postgres::NoTls;

/// On each version: the way back of the killed primary is not the same code of the engine on all of them.
#[test]
fn a_kill_on_every_version() {
    for version in PostgresVersion::all_present() {
        let bin = version.bin_dir().to_str().unwrap().to_owned();
        let object = run(&["postgres", "--fault", "kill", "--postgres-bin", &bin], 0);
        assert_replaced(&object, "postgres", "kill");
    }
}

#[test]
fn a_kill_together_with_the_leader() {
    let object = run(&["postgres", "--with-leader"], 0);
    assert_replaced(&object, "postgres", "kill");
    assert_eq!(object["with_leader"], true);
}

#[test]
fn a_switchover() {
    let object = run(&["postgres", "--fault", "switchover"], 0);
    assert_replaced(&object, "postgres", "switchover");
}

#[test]
fn both_engines_under_one_set_of_voters() {
    let object = run(&["both"], 0);
    let services = object["services"].as_array().unwrap();
    assert_eq!(services.len(), 2, "{object}");
    assert_replaced(&services[0], "redis", "kill");
    assert_replaced(&services[1], "postgres", "kill");
    assert_ne!(services[0]["service"], services[1]["service"]);
}

/// Every row of a server, as the demonstration names it, with its value.
fn rows(server: &str) -> BTreeMap<String, String> {
    let (host, port) = server.split_once(':').unwrap();
    let conninfo = format!("host={host} port={port} user=demo dbname=postgres");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
        tokio::spawn(connection);
        let question = "SELECT writer, number, value FROM writes";
        let rows = client.query(question, &[]).await.unwrap();
        let named = rows.iter().map(|row| {
            let (writer, number): (i32, i64) = (row.get(0), row.get(1));
            (format!("demo:{writer}:{number}"), row.get(2))
        });
        named.collect()
    })
}

/// The demonstration does not judge itself.
#[test]
fn a_client_of_its_own_agrees_after_a_hang() {
    let folder = folder();
    let mut staying = Staying::start(folder.path(), &["postgres", "--fault", "hang"]);
    let servers = staying.servers("demo");
    assert_eq!(servers.len(), 3);
    assert_eq!(staying.object["new_primary"], servers[0]);
    assert!(servers.contains(&text(&staying.object["old_primary"])));
    let keys = staying.acknowledged();
    let distinct: BTreeSet<&String> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "every row has its own key");
    assert_eq!(staying.object["writes_acked"], keys.len());
    assert!(keys.len() > 500);
    for server in &servers {
        let rows = rows(server);
        let lacks = |key: &&String| {
            let (writer, number) = key.strip_prefix("demo:").unwrap().split_once(':').unwrap();
            rows.get(*key) != Some(&format!("{writer}-{number}"))
        };
        let missing: Vec<&String> = keys.iter().filter(lacks).collect();
        assert!(missing.is_empty(), "{server} lacks {missing:?}");
    }
    assert_eq!(staying.object["writes_lost"], 0);
    staying.signal(Signal::TERM);
    assert_eq!(staying.wait(), Some(0));
    assert_nothing_left(folder.path());
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Servers that an agent started, and those that stand still, are found and ended too.
#[test]
fn nothing_outlives_a_killed_demonstration() {
    let folder = folder();
    let mut process = command(folder.path(), &["postgres", "--fault", "hang"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(notes.any(|line| line.contains("first write")));
    assert!(processes_of(folder.path()).len() >= 6);
    process.kill().unwrap();
    process.wait().unwrap();
    assert_nothing_left(folder.path());
}

#[test]
fn an_interrupt_in_the_middle_cleans_up() {
    let folder = folder();
    let mut process = command(folder.path(), &["postgres"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(process.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(notes.any(|line| line.contains("fault")));
    let pid = Pid::from_raw(process.id().cast_signed()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(notes.any(|line| line.starts_with("error: interrupted")));
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&object(&output)["error"]).starts_with("interrupted"));
    assert_nothing_left(folder.path());
}

#[test]
fn without_its_programs_the_remedy_is_named() {
    let folder = folder();
    let bin = folder.path().to_str().unwrap();
    for (shown, services) in [("postgres", None), ("both", Some(2))] {
        let output = command(folder.path(), &[shown])
            .env("SENTINEL_POSTGRES_BIN", bin)
            .output()
            .unwrap();
        let notes = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{notes}");
        assert!(notes.contains(&format!("error: there is no `initdb` in {bin}")));
        assert!(notes.contains("hint: install it: sudo apt-get install postgresql"));
        let object = object(&output);
        let named = object["services"].as_array().map(Vec::len);
        assert_eq!(named, services, "{object}");
        assert_nothing_left(folder.path());
    }
}
