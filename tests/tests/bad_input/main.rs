#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Bad input, as one table: what is given, the exit code, and the exact first line.
//!
//! Each first line names the field or the peer, and what to do. Runs the real binary in a folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use sentinel_tests::binary;

mod frames;
mod instances;
mod quorum;
mod starting;

/// A usable file; rows change a part of it.
const SETTINGS: &str = r#"[node]
cluster = "main"
name = "s1"
data_dir = "data"
[voters]
s1 = "127.0.0.1:26380"
[[service]]
name = "orders"
engine = "redis"
instances = ["127.0.0.1:6379"]
"#;

/// One row: a part of [`SETTINGS`] and what stands there instead, the command, and how it ends.
struct Row {
    change: (&'static str, &'static str),
    command: &'static [&'static str],
    code: i32,
    first_line: &'static str,
}

const CHECK: &[&str] = &["check", "--config", "s1.toml"];

const UNCHANGED: (&str, &str) = ("", "");

const ROWS: &[Row] = &[
    Row {
        change: ("data_dir", "data_dri"),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:4: unknown key `data_dri` in [node]: did you mean `data_dir`?",
    },
    Row {
        change: ("127.0.0.1:6379", "127.0.0.1:high"),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:10: `instances`: `127.0.0.1:high` has a bad port; a port is a number from 1 to 65535",
    },
    Row {
        change: ("[voters]", "[listen]\nhttp = \"localhost:26381\"\n[voters]"),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:6: `listen.http`: `localhost:26381` is no address to listen on; write an IP address of this machine and a port, for example 127.0.0.1:26379",
    },
    Row {
        change: (
            "[[service]]",
            "[[service]]\nname = \"orders\"\nengine = \"redis\"\ninstances = [\"h:1\"]\n[[service]]",
        ),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:12: service `orders` is defined twice, first in line 8: rename one of them",
    },
    Row {
        change: ("cluster = \"main\"", "cluster = \"main"),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:2: not valid TOML: invalid basic string, expected `\"`: correct the line",
    },
    Row {
        change: (
            "[voters]",
            "[security]\ncluster_key_file = \"open.key\"\n[voters]",
        ),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:6: `cluster_key_file`: the cluster key file open.key has mode 0644, so that others can read it: run chmod 600 on it",
    },
    Row {
        change: (
            "engine = \"redis\"",
            "engine = \"redis\"\npassword_env = \"NOT_SET_ANYWHERE\"",
        ),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:10: `password_env`: environment variable `NOT_SET_ANYWHERE` is not set: set it, or use password_file",
    },
    Row {
        change: (
            "engine = \"redis\"",
            "engine = \"postgres\"\nrestart_delay = \"2s\"",
        ),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:10: `restart_delay` of service `orders` means nothing to engine `postgres`, which never copies over another data set by itself: take it out",
    },
    Row {
        change: (
            "[[service]]",
            "[agent]\nservice = \"ledger\"\ninstance = \"h:1\"\ndata_dir = \"/srv/pg\"\n[[service]]",
        ),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:8: `agent.service` is `ledger`, and no [[service]] has that name: add it, or correct the name",
    },
    Row {
        change: (
            "[voters]",
            "[security]\nadmin_token_file = \"open.key\"\n[voters]",
        ),
        command: CHECK,
        code: 2,
        first_line: "error: s1.toml:6: `admin_token_file`: open.key has mode 0644, so others can read or write it: run `chmod 600 open.key`",
    },
    Row {
        change: UNCHANGED,
        command: &["check", "--config", "absent.toml"],
        code: 2,
        first_line: "error: absent.toml: cannot read the settings: No such file or directory (os error 2): give an existing file with --config",
    },
    Row {
        change: UNCHANGED,
        command: &["status", "--node", "http://127.0.0.1:1"],
        code: 3,
        first_line: "error: node 127.0.0.1:1 cannot be reached (nothing listens there): start it, or name another one with --node",
    },
    Row {
        change: UNCHANGED,
        command: &["primary", "orders", "--node", "https://127.0.0.1:1"],
        code: 2,
        first_line: "error: `https://127.0.0.1:1` is no address of a node: nodes answer http, not https",
    },
    Row {
        change: UNCHANGED,
        command: &["primary", "../orders"],
        code: 2,
        first_line: "error: SERVICE `../orders` is no name; use 1 to 64 of the characters a-z 0-9 - _ .",
    },
    Row {
        change: UNCHANGED,
        command: &["quorum", "0"],
        code: 2,
        first_line: "error: invalid value '0' for '[VOTERS]': 0 is not in 1..=1000000",
    },
];

fn sentinel(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary::sentinel())
        .args(arguments)
        .current_dir(folder)
        .env_remove("SENTINEL_NODE")
        .output()
        .unwrap()
}

fn errors_of(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_table() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let key = folder.path().join("open.key");
    fs::write(&key, "a key that is long enough\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    for row in ROWS {
        let (part, replacement) = row.change;
        assert!(SETTINGS.contains(part), "{part}");
        let settings = match part {
            "" => SETTINGS.to_owned(),
            part => SETTINGS.replacen(part, replacement, 1),
        };
        fs::write(folder.path().join("s1.toml"), settings).unwrap();
        let output = sentinel(folder.path(), row.command);
        let errors = errors_of(&output);
        assert_eq!(errors.lines().next(), Some(row.first_line), "{errors}");
        assert_eq!(output.status.code(), Some(row.code), "{errors}");
        assert!(
            errors.lines().any(|line| line.starts_with("hint: ")),
            "{errors}"
        );
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "a result");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(binary::sentinel())
        .arg("quorum")
        .current_dir(folder.path())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(errors_of(&output), "");
    assert_eq!(output.status.code(), Some(0));
}
