//! Garbage, oversized and unauthorised input on each port of a running node: what it answers or logs, and that it
//! goes on answering.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sentinel_tests::sentinel_node::SentinelNode;

/// Writes the settings of a voter of `main` in its own folder, with these lines in `[listen]` and `[security]`.
fn settings(folder: &Path, name: &str, voters: &str, key: Option<&str>) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir(&folder).unwrap();
    let private = |file: &str, text: &str| {
        fs::write(folder.join(file), text).unwrap();
        fs::set_permissions(folder.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    };
    private("password", "hunter2\n");
    let key = key.map_or(String::new(), |key| {
        private("key", key);
        "cluster_key_file = \"key\"\n".to_owned()
    });
    let port = voters
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} = \"127.0.0.1:")))
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap();
    let file = folder.join("node.toml");
    let text = format!(
        "[node]\ncluster = \"main\"\nname = \"{name}\"\ndata_dir = \"data\"\n\
         [listen]\npeer = \"127.0.0.1:{port}\"\nresp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
         [security]\nresp_password_file = \"password\"\n{key}[voters]\n{voters}\n"
    );
    fs::write(&file, text).unwrap();
    file
}

/// Sends bytes, and returns everything that comes back until the node closes.
fn answer(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn free_voter() -> String {
    format!("s1 = \"127.0.0.1:{}\"", sentinel_tests::port::free_port())
}

type Row = (SocketAddr, Vec<u8>, &'static str);

/// Where, what, and the first line of the answer; nothing comes back from the port of the peers.
fn rows(resp: SocketAddr, http: SocketAddr, peer: SocketAddr, long: &[u8]) -> Vec<Row> {
    let row = |at, bytes: &[u8], wanted| (at, bytes.to_vec(), wanted);
    vec![
        row(
            resp,
            b"*1\r\n$4294967296\r\n",
            "-ERR Protocol error: invalid bulk length",
        ),
        row(
            resp,
            b"*99999999\r\n",
            "-ERR Protocol error: unauthenticated multibulk length",
        ),
        row(
            resp,
            b"*1\r\n!4\r\n",
            "-ERR Protocol error: expected '$', got '!'",
        ),
        row(resp, long, "-ERR Protocol error: too big inline request"),
        row(
            resp,
            b"AUTH wrong\r\n",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
        row(
            resp,
            b"SENTINEL MASTERS\r\n",
            "-NOAUTH Authentication required.",
        ),
        row(http, b"GARBAGE\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        row(
            http,
            b"GET /nowhere HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
            "HTTP/1.1 404 Not Found",
        ),
        row(
            http,
            &[b"GET / HTTP/1.1\r\nx: ", long, b"\r\n\r\n"].concat(),
            "HTTP/1.1 431 Request Header Fields Too Large",
        ),
        row(peer, b"\xff\xff\xff\xff garbage", ""),
        row(peer, b"\0\0\0\x07garbage", ""),
    ]
}

#[test]
fn garbage_on_each_port_is_answered_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let file = settings(folder.path(), "s1", &free_voter(), None);
    let node = SentinelNode::start(&file);
    let (resp, http, peer) = (
        node.address("resp"),
        node.address("http"),
        node.address("peer"),
    );
    for (at, bytes, wanted) in rows(resp, http, peer, &[b'x'; 100_000]) {
        assert_eq!(
            first_line(&answer(at, &bytes)),
            wanted,
            "{}",
            bytes[..bytes.len().min(60)].escape_ascii()
        );
    }
    let from_here = "peer at 127.0.0.1: it sent ";
    for complaint in [
        "a frame longer than 4096 bytes: check that a sentinel of this version is what connects here",
        "what is no frame of a sentinel (",
    ] {
        node.wait_for_log(&format!("{from_here}{complaint}"));
    }
    assert_eq!(
        answer(resp, b"AUTH hunter2\r\nPING\r\n"),
        "+OK\r\n+PONG\r\n"
    );
    assert!(!node.log().contains("hunter2"));
    assert!(node.stop().success());
    // The folder is none the worse for it.
    assert!(SentinelNode::start(&file).stop().success());
}

#[test]
fn a_wrong_cluster_key_is_named_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let port = sentinel_tests::port::free_port;
    let voters = format!(
        "s1 = \"127.0.0.1:{}\"\ns2 = \"127.0.0.1:{}\"",
        port(),
        port()
    );
    let key = "the key of this cluster";
    let s1 = settings(folder.path(), "s1", &voters, Some(key));
    let s2 = settings(folder.path(), "s2", &voters, Some("the key of another one"));
    let (node1, node2) = (SentinelNode::start(&s1), SentinelNode::start(&s2));
    for (node, peer) in [(&node1, "s2"), (&node2, "s1")] {
        let line = node.wait_for_log("cluster key: ");
        assert_eq!(
            line,
            "cluster key: copy the same security.cluster_key_file to both nodes",
            "{}",
            node.log()
        );
        assert!(
            node.log().contains(&format!("peer {peer} at 127.0.0.1")),
            "{}",
            node.log()
        );
        assert!(!node.log().contains("the key of"), "{}", node.log());
        assert!(!node.log().contains("leader changed"), "{}", node.log());
    }
    assert!(node2.stop().success());
    // With the same key, the same folders form a cluster.
    fs::write(s2.with_file_name("key"), key).unwrap();
    let node2 = SentinelNode::start(&s2);
    node1.wait_for_log("leader changed");
    node2.wait_for_log("leader changed");
}
