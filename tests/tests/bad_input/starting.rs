//! What keeps a node from starting besides its settings: a busy port, and a data folder that is not this node's.
//!
//! After each row the same folder starts again.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use sentinel_tests::sentinel_node::SentinelNode;
use tempfile::TempDir;

use crate::{errors_of, sentinel};

/// A cluster of one voter on ports that the system picks.
const SETTINGS: &str = r#"[node]
cluster = "main"
name = "s1"
data_dir = "data"
[listen]
peer = "127.0.0.1:0"
resp = "127.0.0.1:0"
http = "127.0.0.1:0"
[voters]
s1 = "127.0.0.1:1"
[[service]]
name = "orders"
engine = "redis"
instances = ["127.0.0.1:1"]
"#;

struct Folder {
    dir: TempDir,
}

impl Folder {
    /// A folder in which a node has run once.
    fn used() -> Self {
        let folder = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        folder.write(SETTINGS);
        let node = SentinelNode::start(&folder.settings());
        node.wait_for_log("service_added");
        assert!(node.stop().success());
        folder
    }

    fn settings(&self) -> PathBuf {
        self.dir.path().join("s1.toml")
    }

    fn write(&self, settings: &str) {
        fs::write(self.settings(), settings).unwrap();
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("data/raft/00000000000000000001.log")
    }

    /// The exit code of a start that must fail, and the first line that it wrote.
    fn refusal(&self) -> (Option<i32>, String) {
        let output = sentinel(self.dir.path(), &["run", "--config", "s1.toml"]);
        let errors = errors_of(&output);
        assert!(
            errors.lines().any(|line| line.starts_with("hint: ")),
            "{errors}"
        );
        let first = errors.lines().next().unwrap_or_default();
        (output.status.code(), first.to_owned())
    }

    /// The settings as they were, and the folder as it is now: it starts, and stops in good order.
    fn starts_again(&self) {
        self.write(SETTINGS);
        let node = SentinelNode::start(&self.settings());
        assert!(node.stop().success());
    }
}

fn failed(line: impl Into<String>) -> (Option<i32>, String) {
    (Some(1), line.into())
}

#[test]
fn a_port_in_use() {
    let folder = Folder::used();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for field in ["peer", "resp", "http"] {
        let free = format!("{field} = \"127.0.0.1:0\"");
        folder.write(&SETTINGS.replace(&free, &format!("{field} = \"127.0.0.1:{port}\"")));
        assert_eq!(
            folder.refusal(),
            failed(format!(
                "error: `listen.{field}`: port {port} at 127.0.0.1 is in use: stop the process that has it, or use another port"
            ))
        );
    }
    folder.starts_again();
}

#[test]
fn a_data_folder_of_another_cluster() {
    let folder = Folder::used();
    folder.write(&SETTINGS.replace("cluster = \"main\"", "cluster = \"other\""));
    assert_eq!(
        folder.refusal(),
        failed(
            "error: data/raft/00000000000000000001.log belongs to cluster `main`, this node is of cluster `other`: correct node.cluster or node.data_dir"
        )
    );
    folder.starts_again();
}

#[test]
fn a_data_folder_of_another_node() {
    let folder = Folder::used();
    folder.write(&SETTINGS.replace("s1", "s2"));
    assert_eq!(
        folder.refusal(),
        failed(
            "error: data/raft/00000000000000000001.log belongs to node `s1`, this node is `s2`: correct node.name or node.data_dir"
        )
    );
    folder.starts_again();
}

#[test]
fn a_data_folder_in_use() {
    let folder = Folder::used();
    let node = SentinelNode::start(&folder.settings());
    assert_eq!(
        folder.refusal(),
        failed(
            "error: data folder data is in use by another process: stop it, or give each node its own data_dir"
        )
    );
    assert!(node.stop().success());
    folder.starts_again();
}

/// What to do about a log that cannot be read or is gone.
const REMEDY: &str = "check the disk, and only while a majority of the other voters is healthy move `raft` and `has_log` out of the data folder and start again, so that this node learns everything from them";

/// Length of a log's header, as it says itself.
fn header_bytes(log: &[u8]) -> usize {
    u32::from_le_bytes(log[12..16].try_into().unwrap()) as usize
}

#[test]
fn a_data_folder_of_a_newer_version() {
    let folder = Folder::used();
    let good = fs::read(folder.log_file()).unwrap();
    // Behind eight bytes of magic; a newer version keeps the checksum right, so this one does too.
    let mut newer = good.clone();
    newer[8] = 9;
    let length = header_bytes(&newer);
    let checksum = crc32c::crc32c(&newer[..length - 4]);
    newer[length - 4..length].copy_from_slice(&checksum.to_le_bytes());
    fs::write(folder.log_file(), newer).unwrap();
    assert_eq!(
        folder.refusal(),
        failed(
            "error: data/raft/00000000000000000001.log has format version 9, this build reads up to 1: run the version of the sentinel that wrote it, or a newer one"
        )
    );
    fs::write(folder.log_file(), good).unwrap();
    folder.starts_again();
}

#[test]
fn a_damaged_log() {
    let folder = Folder::used();
    let good = fs::read(folder.log_file()).unwrap();
    // The first byte of the first record's payload, behind the header and the record's frame of 13 bytes.
    let mut damaged = good.clone();
    let offset = header_bytes(&good);
    damaged[offset + 13] ^= 0xff;
    let payload = u32::from_le_bytes(good[offset + 4..offset + 8].try_into().unwrap());
    let next = offset + 13 + payload as usize;
    fs::write(folder.log_file(), damaged).unwrap();
    assert_eq!(
        folder.refusal(),
        failed(format!(
            "error: data/raft/00000000000000000001.log is damaged at byte {offset} (checksum does not match, yet a valid record follows at byte {next}): this node may have forgotten a vote and must not start with it; {REMEDY}"
        ))
    );
    fs::write(folder.log_file(), good).unwrap();
    folder.starts_again();
}

#[test]
fn a_log_that_is_gone() {
    let folder = Folder::used();
    let aside = folder.dir.path().join("aside");
    fs::rename(folder.log_file(), &aside).unwrap();
    assert_eq!(
        folder.refusal(),
        failed(format!(
            "error: data/raft has no log, and this node kept one there: it has forgotten its votes and must not start without them; {REMEDY}"
        ))
    );
    fs::rename(&aside, folder.log_file()).unwrap();
    folder.starts_again();
}

#[test]
fn a_data_folder_that_others_can_enter() {
    let folder = Folder::used();
    let data = folder.dir.path().join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        folder.refusal(),
        failed(
            "error: data folder data has mode 0777, so that everybody on this machine can alter what this node promised: run chmod 700 on it"
        )
    );
    fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
    let node = SentinelNode::start(&folder.settings());
    let warning = format!(
        "data folder {} has mode 0750, so that others than its owner can look into it: run chmod 700 on it",
        data.display()
    );
    assert_eq!(node.log().matches(&warning).count(), 1, "{}", node.log());
    assert!(node.stop().success());
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let node = SentinelNode::start(&folder.settings());
    assert!(!node.log().contains("has mode"), "{}", node.log());
    assert!(node.stop().success());
}

#[test]
fn an_interrupt_stops_in_good_order() {
    let folder = Folder::used();
    let mut node = SentinelNode::start(&folder.settings());
    node.signal(rustix::process::Signal::INT);
    assert!(node.wait().success());
    assert!(node.log().contains(" stopped"), "{}", node.log());
}
