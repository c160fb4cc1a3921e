//! A server that is a unit of systemd. There is none here to ask: in place of `systemctl` stands a script of the test, which
//! starts and stops the real server as the unit's own lines would.
//!
//! It shows that the agent says the right words at the right moments, that it lives with a starter that returns before
//! there is a server, and that it adopts, minds and brings back a server whose parent it is not. It does not show what
//! systemd itself makes of it: states of units, limits of starts, control groups.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sentinel_tests::postgres_server::{FirstStart, Options, PostgresServer, PostgresVersion};
use sentinel_tests::wait;
use tempfile::TempDir;

use crate::client::Client;
use crate::minded::JOB;
use crate::minding::kill_postmaster;
use crate::node::AgentNode;
use crate::rejoining::{equal, fill};
use crate::stopping::modes_of;

/// Like `systemctl --no-block`, it returns at once; a unit of PostgreSQL is stopped fast.
fn write_script(folder: &Path, server: &PostgresServer) {
    let account = match rustix::process::geteuid().is_root() {
        true => "setpriv --reuid=65534 --regid=65534 --clear-groups --",
        false => "",
    };
    let text = format!(
        r#"#!/bin/sh
echo "$*" >>"{folder}/calls"
case "$1" in
start) {account} setsid "{programs}/postgres" -D "{data}" >/dev/null 2>&1 & ;;
stop) kill -INT "$(head -n 1 "{data}/postmaster.pid")" ;;
*) exit 1 ;;
esac
"#,
        folder = folder.display(),
        programs = server.bin_dir().display(),
        data = server.data_dir().display(),
    );
    let path = folder.join("systemctl");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

fn calls(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_until_it_streams(primary: &PostgresServer, standby: &PostgresServer, node: &AgentNode) {
    let streaming = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'",
        standby.instance()
    );
    let done = wait::within(JOB, || (primary.value(&streaming) == "1").then_some(()));
    assert!(done.is_some(), "{:?}\n{}", node.agent(), node.log());
    equal(primary, standby);
}

#[test]
fn a_unit_is_started_minded_stopped_and_brought_back() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    fill(&primary);
    let options = Options::default().first_start(FirstStart::Later);
    let server = PostgresServer::standby_with(&primary, options);
    let other = PostgresServer::standby_of(&primary);
    primary.wait_for_standby(&other);
    let folder = TempDir::with_prefix("systemctl-test-").unwrap();
    write_script(folder.path(), &server);
    let lines = "run_by = \"systemd\"\nunit = \"postgresql@15-main\"\nsmart_limit = \"2s\"";
    let mut node = AgentNode::of(&server, &[primary.instance(), other.instance()], lines);
    node.programs_first_in(folder.path());
    node.start();
    let [start, stop] =
        ["start", "stop"].map(|word| format!("{word} --no-block postgresql@15-main"));
    let [start, stop] = [start.as_str(), stop.as_str()];
    wait_until_it_streams(&primary, &server, &node);
    assert_eq!(calls(folder.path()), [start]);

    kill_postmaster(&server);
    wait::until("it is started again", || server.pid().map(drop));
    wait_until_it_streams(&primary, &server, &node);
    assert_eq!(calls(folder.path()), [start, start]);

    wait::until("another one is adopted as the primary", || {
        node.log().contains("primary_adopted").then_some(())
    });
    // It claims to be primary without authority, and a client stays connected.
    server.execute("SELECT pg_promote()");
    let client = Client::of(&server);
    let brought_back = wait::within(JOB, || {
        (calls(folder.path()) == [start, start, stop, start]).then_some(())
    });
    assert!(
        brought_back.is_some(),
        "{:?}\n{}\n{}",
        calls(folder.path()),
        node.log(),
        server.log_text()
    );
    wait_until_it_streams(&primary, &server, &node);
    assert!(!client.works());
    // The unit's own stop is a fast one: it is not asked for as long as clients may still leave by themselves.
    let modes = modes_of(&server);
    assert_eq!(modes, ["smart", "fast"]);
}
