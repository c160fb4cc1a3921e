//! A voter without its quorum: what `status` says first, and what it names.

use std::fs;
use std::path::Path;

use sentinel_tests::port::free_port;
use sentinel_tests::sentinel_node::SentinelNode;

use crate::sentinel;

fn first_line_and_code(folder: &Path, node: &SentinelNode) -> (String, Option<i32>) {
    let url = format!("http://{}", node.address("http"));
    let output = sentinel(folder, &["status", "--node", &url]);
    let text = String::from_utf8(output.stdout).unwrap();
    let first = text.lines().next().unwrap_or_default().to_owned();
    (first, output.status.code())
}

#[test]
fn an_unreachable_quorum_is_named_with_the_missing_voters() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("s1.toml");
    let voters = ["s1", "s2", "s3"]
        .map(|name| format!("{name} = \"127.0.0.1:{}\"\n", free_port()))
        .concat();
    let text = format!(
        "[node]\ncluster = \"main\"\nname = \"s1\"\ndata_dir = \"data\"\n\
         [listen]\npeer = \"127.0.0.1:0\"\nresp = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n[voters]\n{voters}"
    );
    fs::write(&settings, text).unwrap();
    let wanted = (
        "no quorum: s1 has heard no leader since it started: start or reconnect s2, s3; what follows may be out of date"
            .to_owned(),
        Some(3),
    );
    let node = SentinelNode::start(&settings);
    assert_eq!(first_line_and_code(folder.path(), &node), wanted);
    assert!(node.stop().success());
    // The same data folder starts again, and says the same.
    let node = SentinelNode::start(&settings);
    assert_eq!(first_line_and_code(folder.path(), &node), wanted);
}
