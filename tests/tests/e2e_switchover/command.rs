//! On the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use sentinel_daemon::api::SwitchoverJson;
use sentinel_tests::cluster::{Cluster, SERVICE, Source, Writers};

use crate::other_than;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ended(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

/// Whichever node is asked, the leader is found.
#[test]
fn any_node_is_asked_and_the_leader_does_it() {
    let mut cluster = Cluster::start(2);
    let observer = cluster.add_observer();
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let file = cluster.token_file();
    let target = other_than(&cluster, before);
    let instance = cluster.servers[target].instance().to_string();
    let old = cluster.servers[before.primary].instance().to_string();
    let arguments = [
        "switchover",
        SERVICE,
        "--token-file",
        file.to_str().unwrap(),
    ];

    let named = [&arguments[..], &["--to", &instance]].concat();
    let output = cluster.cli(observer, &named);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let line = text(&output.stdout);
    let wanted = format!("{SERVICE}: {instance} is primary (was {old}), epoch ");
    assert!(line.starts_with(&wanted), "{line}");
    let between = cluster.wait_whole_after(before);
    assert_eq!(between.primary, target);

    let json = [&arguments[..], &["--json"]].concat();
    let output = cluster.cli(cluster.follower(), &json);
    let answer: SwitchoverJson = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {:?}", ended(&output)));
    assert_eq!(answer.from.map(|from| from.to_string()), Some(instance));
    let after = cluster.wait_whole_after(between);
    assert_eq!(cluster.servers[after.primary].instance(), answer.to);
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, after);
}

#[test]
fn each_failure_has_its_exit_code_and_a_hint() {
    let mut cluster = Cluster::start(1);
    let before = cluster.wait_whole();
    let file = cluster.token_file();
    let file = file.to_str().unwrap();
    let wrong = cluster.token_file().with_extension("wrong");
    fs::write(&wrong, "another token").unwrap();
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
    let primary = cluster.servers[before.primary].instance().to_string();
    let cases = [
        (vec![], 2, "error: an order needs the admin token: "),
        (
            vec!["--token-file", wrong.to_str().unwrap()],
            2,
            "error: the token is wrong",
        ),
        (
            vec!["--token-file", "absent.token"],
            2,
            "error: --token-file: cannot read absent.token",
        ),
        (
            vec!["--token-file", file, "--to", &primary],
            1,
            "is the primary already",
        ),
    ];
    for (arguments, code, part) in cases {
        let arguments = [&["switchover", SERVICE][..], &arguments].concat();
        let (got, errors) = ended(&cluster.cli(cluster.leader(), &arguments));
        assert_eq!(got, Some(code), "{errors}");
        assert!(errors.contains(part), "{errors}");
        assert!(errors.contains("\nhint: "), "{errors}");
    }

    // Its only replica gone, nobody could take over.
    let replica = other_than(&cluster, before);
    cluster.servers[replica].kill9();
    let arguments = ["switchover", SERVICE, "--token-file", file];
    let (got, errors) = cluster.until("nobody is fit", || {
        let (code, errors) = ended(&cluster.cli(cluster.leader(), &arguments));
        (code != Some(0)).then_some((code, errors))
    });
    assert_eq!(got, Some(4), "{errors}");
    cluster.servers[replica].restart();
    cluster.wait_whole();

    let survivor = cluster.leader();
    for index in 0..cluster.nodes.len() {
        if index != survivor {
            cluster.nodes[index].kill9();
        }
    }
    // Until it has noticed, it answers as the leader that it was.
    cluster.until("no quorum", || {
        let (code, errors) = ended(&cluster.cli(survivor, &arguments));
        assert_ne!(code, Some(0), "{errors}");
        (code == Some(3)).then_some(())
    });
}
