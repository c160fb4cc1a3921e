//! What the settings refuse of PostgreSQL and its agents, and how they say it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::time::Duration;

use sentinel_core::id::{InstanceId, ServiceName};

use super::agent::RunSettings;
use super::load::Settings;
use super::service::PasswordSource;

/// The last line of `[[service]]` is line 10, and `[agent]` is line 11.
const MINIMAL: &str = r#"
[node]
cluster = "main"
name = "s1"
data_dir = "/var/lib/sentinel"
[voters]
s1 = "127.0.0.1:26380"
[[service]]
name = "ledger"
engine = "postgres"
instances = ["10.0.0.31:5432", "10.0.0.32:5432"]
[agent]
service = "ledger"
instance = "10.0.0.31:5432"
data_dir = "/srv/pg"
"#;

fn parse(text: &str) -> Settings {
    Settings::parse(Path::new("/etc/sentinel/s.toml"), text).unwrap()
}

fn refusal(text: &str) -> String {
    match Settings::parse(Path::new("s.toml"), text) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(failure) => failure.to_string(),
    }
}

#[test]
fn a_minimal_agent_has_the_defaults() {
    let settings = parse(MINIMAL);
    let [agent] = &settings.agents[..] else {
        panic!("{:?}", settings.agents)
    };
    let subject = (
        ServiceName::new("ledger"),
        InstanceId::new("10.0.0.31", 5432),
    );
    assert!(settings.node.agent_of.contains(&subject));
    assert_eq!(agent.run, RunSettings::Command);
    assert_eq!(agent.restart_after, Duration::from_secs(1));
    assert_eq!(agent.limits.smart, Duration::ZERO);
    assert_eq!(agent.diverged_dir, None);
}

#[test]
fn paths_count_from_the_folder_of_the_file() {
    let text =
        MINIMAL.replace("/srv/pg", "pg") + "diverged_dir = \"kept\"\nbin_dir = \"/opt/bin\"\n";
    let agent = &parse(&text).agents[0];
    assert_eq!(agent.data_dir, Path::new("/etc/sentinel/pg"));
    assert_eq!(
        agent.diverged_dir.as_deref(),
        Some(Path::new("/etc/sentinel/kept"))
    );
    assert_eq!(agent.bin_dir.as_deref(), Some(Path::new("/opt/bin")));
}

#[test]
fn several_servers_of_one_host_are_several_agents() {
    let second = "[[agent]]\nservice = \"ledger\"\ninstance = \"10.0.0.32:5432\"\ndata_dir = \"/srv/pg2\"\n\
                  run_by = \"pg_ctlcluster\"\ncluster = \"15/main\"\n";
    let settings = parse(&(MINIMAL.replace("[agent]", "[[agent]]") + second));
    assert_eq!(settings.node.agent_of.len(), 2);
    let (version, name) = ("15".to_owned(), "main".to_owned());
    assert_eq!(
        settings.agents[1].run,
        RunSettings::PgCtlCluster { version, name }
    );
}

#[test]
fn replicas_may_log_in_as_somebody_else() {
    let login = "engine = \"postgres\"\nusername = \"sentinel\"\nreplication_username = \"copy\"\n\
                 replication_password_file = \"copy.password\"\nreplication_options = { sslmode = \"require\" }";
    let settings = parse(&MINIMAL.replace("engine = \"postgres\"", login));
    let service = &settings.services[0];
    assert_eq!(
        (service.username.as_deref(), &service.password),
        (Some("sentinel"), &None)
    );
    let replication = &service.replication;
    assert_eq!(replication.username.as_deref(), Some("copy"));
    let file = PasswordSource::File("/etc/sentinel/copy.password".into());
    assert_eq!(replication.password, Some(file));
    assert_eq!(replication.options["sslmode"], "require");
}

const ENGINE: &str = "engine = \"postgres\"";
const DATA_DIR: &str = "data_dir = \"/srv/pg\"";

/// A part of [`MINIMAL`], what stands there instead, and the whole error.
const REFUSALS: [(&str, &str, &str); 18] = [
    (
        ENGINE,
        "engine = \"postgres\"\nrestart_delay = \"2s\"",
        "s.toml:11: `restart_delay` of service `ledger` means nothing to engine `postgres`, which never copies over another data set by itself: take it out",
    ),
    (
        ENGINE,
        "engine = \"postgres\"\nack_lag_max = \"2s\"",
        "s.toml:11: `ack_lag_max` of service `ledger` means nothing to engine `postgres`, which counts a replica by what it has flushed, whatever its age: take it out",
    ),
    (
        ENGINE,
        "engine = \"redis\"\ndatabase = \"postgres\"",
        "s.toml:11: `database` of service `ledger` means nothing to engine `redis`, which has numbered databases that follow the primary together: take it out",
    ),
    (
        ENGINE,
        "engine = \"redis\"\nreplication_username = \"copy\"",
        "s.toml:11: `replication_username` of service `ledger` means nothing to engine `redis`, which keeps the user of its replicas in masteruser and masterauth of each server: take it out",
    ),
    (
        ENGINE,
        "engine = \"postgres\"\nreplication_password_env = \"A\"",
        "s.toml:11: `replication_password_env` of service `ledger` stands without replication_username, and replicas then log in as the coordinator does: add replication_username, or take it out",
    ),
    (
        ENGINE,
        "engine = \"postgres\"\nreplication_username = \"copy\"\nreplication_password_env = \"A\"\nreplication_password_file = \"b\"",
        "s.toml:12: service `ledger` has both `replication_password_file` and `replication_password_env`: keep one of them",
    ),
    (
        "\"10.0.0.32:5432\"",
        "\"a-host-with-a-name-that-is-rather-long.in-a-zone.of.example.com:5432\"",
        "s.toml:11: `instances` of service `ledger` names a-host-with-a-name-that-is-rather-long.in-a-zone.of.example.com:5432, which has 68 bytes, and engine `postgres` cuts a replica's name off after 63: use a shorter host name, or its IP address",
    ),
    (
        "service = \"ledger\"",
        "service = \"orders\"",
        "s.toml:13: `agent.service` is `orders`, and no [[service]] has that name: add it, or correct the name",
    ),
    (
        ENGINE,
        "engine = \"redis\"",
        "s.toml:13: `agent.service` is `ledger`, whose engine `redis` has no agent: take the agent out; this engine needs none",
    ),
    (
        "instance = \"10.0.0.31:5432\"",
        "instance = \"10.0.0.33:5432\"",
        "s.toml:14: `agent.instance` is 10.0.0.33:5432, which `instances` of service `ledger` does not name: use one of 10.0.0.31:5432, 10.0.0.32:5432",
    ),
    (
        "[agent]",
        "[[agent]]\nservice = \"ledger\"\ninstance = \"10.0.0.31:5432\"\ndata_dir = \"/srv/b\"\n[[agent]]",
        "s.toml:18: two agents have the same `instance`, 10.0.0.31:5432: take one of them out",
    ),
    (
        "[agent]",
        "[[agent]]\nservice = \"ledger\"\ninstance = \"10.0.0.32:5432\"\ndata_dir = \"/srv/pg\"\n[[agent]]",
        "s.toml:19: two agents have the same `data_dir`, /srv/pg: take one of them out",
    ),
    (
        DATA_DIR,
        "data_dir = \"/srv/pg\"\nrun_by = \"systemd\"",
        "s.toml:12: `agent.run_by` is \"systemd\", and `agent.unit` is missing: add it, for example unit = \"postgresql@15-main.service\"",
    ),
    (
        DATA_DIR,
        "data_dir = \"/srv/pg\"\ncluster = \"15/main\"",
        "s.toml:16: `agent.cluster` belongs to run_by = \"pg_ctlcluster\": set that, or take it out",
    ),
    (
        DATA_DIR,
        "data_dir = \"/srv/pg\"\nrun_by = \"pg_ctlcluster\"\ncluster = \"main\"",
        "s.toml:17: `agent.cluster` is `main`: write version and name as pg_lsclusters shows them, for example 15/main",
    ),
    (
        DATA_DIR,
        "data_dir = \"/var/lib\"",
        "s.toml:15: `node.data_dir` is /var/lib/sentinel, inside the server's data folder /var/lib, which a rebuild replaces: put it elsewhere",
    ),
    (
        DATA_DIR,
        "data_dir = \"/srv/pg\"\ndiverged_dir = \"/srv/pg/kept\"",
        "s.toml:16: `agent.diverged_dir` is /srv/pg/kept, inside the server's data folder /srv/pg, which a rebuild replaces: put it elsewhere",
    ),
    (
        DATA_DIR,
        "data_dri = \"/srv/pg\"",
        "s.toml:15: unknown key `data_dri` in [agent]: did you mean `data_dir`?",
    ),
];

#[test]
fn each_error_names_line_field_and_remedy() {
    for (part, replacement, wanted) in REFUSALS {
        assert!(MINIMAL.contains(part), "{part}");
        let text = MINIMAL.replacen(part, replacement, 1);
        assert_eq!(refusal(&text), wanted, "{text}");
    }
}

#[test]
fn an_error_inside_an_array_of_agents_keeps_its_line() {
    let text = MINIMAL.replace("[agent]", "[[agent]]");
    assert_eq!(
        refusal(&(text.clone() + "restart_after = \"soon\"\n")),
        "s.toml:16: `agent.restart_after`: `soon` is no duration; write a number with its unit, for example 2s, 100ms or 1m30s"
    );
    assert_eq!(
        refusal(&(text + "[[agent]]\nservice = \"ledger\"\n")),
        "s.toml:16: `instance` is missing in [[agent]]: add it"
    );
}
