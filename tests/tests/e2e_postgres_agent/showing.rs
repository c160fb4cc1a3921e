//! What a node shows of a long job in `sentinel status`, while it works, and of what it kept, also after its own end.

use sentinel_core::id::InstanceId;
use sentinel_tests::postgres_server::{FirstStart, Options, PostgresServer, PostgresVersion, Role};
use sentinel_tests::wait;

use crate::minded::JOB;
use crate::node::AgentNode;
use crate::rejoining::{diverge, fill};
use crate::stalling::Stalling;

/// The tools tell their progress once a second, so a transfer must take some: the way lets so much pass at each look.
const PIECE: u64 = 64 << 10;

/// Every percentage that is shown until the server streams from the primary.
fn percentages(node: &AgentNode, way: &Stalling, doing: &str) -> Vec<u8> {
    let mut shown = Vec::new();
    let begun = wait::within(JOB, || {
        let agent = node.agent()?;
        way.pass_more(PIECE);
        if let Some(percent) = percent(&agent.doing, doing) {
            shown.push(percent);
        }
        shown
            .iter()
            .any(|percent| (1..100).contains(percent))
            .then_some(())
    });
    assert!(
        begun.is_some(),
        "{shown:?} {:?}\n{}",
        node.agent(),
        node.log()
    );
    shown
}

/// The number in `…: copying, 40 %`.
fn percent(text: &str, doing: &str) -> Option<u8> {
    let (before, _) = text.split_once(" %")?;
    let (before, number) = before.rsplit_once(", ")?;
    before.contains(doing).then(|| number.parse().unwrap())
}

fn wait_until_it_streams(primary: &PostgresServer, standby: &PostgresServer, node: &AgentNode) {
    let streaming = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'",
        standby.instance()
    );
    let done = wait::within(JOB, || (primary.value(&streaming) == "1").then_some(()));
    assert!(done.is_some(), "{:?}\n{}", node.agent(), node.log());
    primary.wait_for_standby(standby);
}

/// A standby that acknowledges what the primary writes, and reaches it by the same way: the node would find out the other.
fn standby_by(way: &Stalling, primary: &PostgresServer) -> PostgresServer {
    let standby = PostgresServer::standby_of(primary);
    standby.execute(&format!(
        "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={} user={} application_name={}'",
        way.instance().port(),
        Role::Sentinel.name(),
        standby.instance()
    ));
    standby.execute("SELECT pg_reload_conf()");
    let port = "SELECT sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    standby.wait_for(port, &way.instance().port().to_string());
    standby
}

fn bulk(server: &PostgresServer) {
    server.execute("CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, 40000) n");
}

#[test]
fn the_progress_of_a_copy_is_shown() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    bulk(&primary);
    let options = Options::default().first_start(FirstStart::Later);
    let standby = PostgresServer::without_data(primary.version(), options);
    let way = Stalling::before(&primary);
    let other = standby_by(&way, &primary);
    way.stall_after(2 << 20);
    let lines = format!(
        "first_settings = {{ unix_socket_directories = \"{}\" }}",
        standby.socket_dir().display()
    );
    let mut node = AgentNode::of(&standby, &[way.instance(), other.instance()], &lines);
    node.start();
    let shown = percentages(&node, &way, "making a copy of");
    assert!(shown.is_sorted(), "{shown:?}");
    let text = node.status_text();
    assert!(percent(&text, "making a copy of").is_some(), "{text}");
    way.pass_everything();
    wait_until_it_streams(&primary, &standby, &node);
    let bulk = "SELECT count(*) FROM bulk";
    assert_eq!(standby.value(bulk), "40000");
    wait::until("it is not at work any longer", || {
        let text = node.status_text();
        percent(&text, "making a copy of").is_none().then_some(())
    });
}

/// A primary that diverged by pages that have all to be copied back; it is dead.
fn diverged() -> (PostgresServer, PostgresServer) {
    let mut old = PostgresServer::primary(&PostgresVersion::any());
    fill(&old);
    bulk(&old);
    let new = PostgresServer::standby_of(&old);
    old.wait_for_standby(&new);
    diverge(&old, &new, 10);
    old.execute("UPDATE bulk SET text = md5(text) || md5(n::text)");
    old.kill_everything();
    (old, new)
}

#[test]
fn the_progress_of_a_rewind_is_shown_and_what_was_kept_also_after_a_restart() {
    let (old, new) = diverged();
    let way = Stalling::before(&new);
    let third = standby_by(&way, &new);
    way.stall_after(2 << 20);
    let others: [InstanceId; 2] = [way.instance(), third.instance()];
    let mut node = AgentNode::of(&old, &others, "");
    node.start();
    let shown = percentages(&node, &way, "rewinding from");
    assert!(shown.is_sorted(), "{shown:?}");
    let text = node.status_text();
    assert!(percent(&text, "rewinding from").is_some(), "{text}");
    way.pass_everything();
    wait_until_it_streams(&new, &old, &node);

    let words = "log that only this server had, from ";
    let kept = wait::until("what was kept is shown", || {
        let doing = node.agent()?.doing;
        (doing.contains(words) && !doing.contains(';')).then_some(doing)
    });
    let (bytes, range) = kept.split_once(" bytes of log").unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 1 << 20, "{kept}");
    let (range, folder) = range.split_once(", are in ").unwrap();
    let (_, range) = range.split_once("from ").unwrap();
    let (from, to) = range.split_once(" to ").unwrap();
    let description = std::fs::read_to_string(format!("{folder}/diverged.json")).unwrap();
    let description: serde_json::Value = serde_json::from_str(&description).unwrap();
    assert_eq!(description["from"], from);
    assert_eq!(description["to"], to);
    let log = node.log();
    let event = log.lines().find(|line| line.contains("diverged_kept"));
    let event = event.unwrap_or_else(|| panic!("no event:\n{log}"));
    assert!(
        event.contains(bytes) && event.contains(from) && event.contains(to),
        "{event}"
    );

    node.kill9();
    node.start();
    let again = wait::until("what was kept is shown again", || {
        let doing = node.agent()?.doing;
        doing.contains(words).then_some(doing)
    });
    assert_eq!(again, kept);
    // It was told once.
    let told = node.log().contains("diverged_kept");
    assert!(!told, "{}", node.log());
}
