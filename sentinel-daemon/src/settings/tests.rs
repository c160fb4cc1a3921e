//! What the settings refuse and how they say it, and that the documents list what the parser knows.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::fields;
use super::load::Settings;

const MINIMAL: &str = r#"
[node]
cluster = "main"
name = "s1"
data_dir = "data"
[voters]
s1 = "127.0.0.1:26380"
[[service]]
name = "orders"
engine = "redis"
instances = ["10.0.0.21:6379"]
"#;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(relative: &str) -> String {
    std::fs::read_to_string(root().join(relative)).unwrap()
}

const ENGINE: &str = "engine = \"redis\"";

/// The error of a text, or what stands in its place.
fn refusal(text: &str) -> String {
    match Settings::parse(Path::new("s.toml"), text) {
        Ok(settings) => panic!("accepted: {settings:?}"),
        Err(failure) => failure.to_string(),
    }
}

/// `MINIMAL` with one line replaced.
fn with(line: &str, replacement: &str) -> String {
    assert!(MINIMAL.contains(line), "{line}");
    MINIMAL.replace(line, replacement)
}

#[test]
fn a_minimal_file_has_the_defaults() {
    let settings = Settings::parse(Path::new("/etc/sentinel/s.toml"), MINIMAL).unwrap();
    assert_eq!(settings.data_dir, Path::new("/etc/sentinel/data"));
    assert_eq!(settings.listen.http.to_string(), "127.0.0.1:26381");
    let service = &settings.services[0].settings;
    assert_eq!(service.min_replicas, 1);
    assert_eq!(service.down_after.as_secs(), 2);
}

/// A line of [`MINIMAL`], what stands there instead, and the whole error.
const REFUSALS: [(&str, &str, &str); 25] = [
    (
        "data_dir",
        "data_dri",
        "s.toml:5: unknown key `data_dri` in [node]: did you mean `data_dir`?",
    ),
    (
        "[voters]",
        "[votesr]",
        "s.toml:6: unknown key `votesr` in the top level: did you mean `voters`?",
    ),
    (
        ENGINE,
        "down_afer = \"2s\"",
        "s.toml:10: unknown key `down_afer` in [[service]]: did you mean `down_after`?",
    ),
    (
        "cluster = \"main\"\n",
        "",
        "s.toml:2: `cluster` is missing in [node]: add it",
    ),
    (
        "cluster = \"main\"",
        "cluster = main",
        "s.toml:3: not valid TOML: string values must be quoted, expected literal string: correct the line",
    ),
    (
        ENGINE,
        "engine = \"redis\"\ndown_after = 2",
        "s.toml:11: `down_after`: invalid type: integer `2`, expected a duration in quotes with its unit, such as \"2s\" or \"100ms\"",
    ),
    (
        ENGINE,
        "engine = \"redis\"\ndown_after = \"2\"",
        "s.toml:11: `down_after`: `2` is no duration; write a number with its unit, for example 2s, 100ms or 1m30s",
    ),
    (
        "10.0.0.21:6379",
        "10.0.0.21",
        "s.toml:11: `instances`: `10.0.0.21` has no port; write host:port, for example 10.0.0.21:6379",
    ),
    (
        "127.0.0.1:26380",
        "127.0.0.1:0",
        "s.toml:7: `voters.s1`: `127.0.0.1:0` has a bad port; a port is a number from 1 to 65535",
    ),
    (
        "\"orders\"",
        "\"Orders\"",
        "s.toml:9: `name`: `Orders` is no name; use 1 to 64 of the characters a-z 0-9 - _ .",
    ),
    (
        "name = \"s1\"",
        "name = \"s2\"",
        "s.toml:4: `node.name` `s2` is no voter: list it in [voters], or set role = \"observer\"",
    ),
    (
        "name = \"s1\"",
        "name = \"s1\"\nrole = \"boss\"",
        "s.toml:5: `node.role`: unknown variant `boss`, expected `voter` or `observer`",
    ),
    (
        ENGINE,
        "engine = \"redis\"\ndown_after = \"100ms\"",
        "s.toml:11: service `orders`: `down_after` is 100 ms, shorter than two probes of 100 ms: raise down_after or lower probe_every",
    ),
    (
        ENGINE,
        "engine = \"redis\"\nquorum = 2",
        "s.toml:11: service `orders`: `quorum` is 2 with 1 voters: use 1 to the number of voters",
    ),
    (
        ENGINE,
        "engine = \"mysql\"",
        "s.toml:10: `engine` of service `orders` is `mysql`, which this build does not know: use \"redis\", \"postgres\"",
    ),
    (
        ENGINE,
        "engine = \"redis\"\ndurability = \"async\"",
        "s.toml:11: `durability` of service `orders` is \"async\", which this version does not have yet: use \"quorum\"",
    ),
    (
        ENGINE,
        "engine = \"redis\"\npassword = \"a\"\npassword_env = \"B\"",
        "s.toml:11: service `orders` has both `password_env` and `password`: keep one of them",
    ),
    (
        ENGINE,
        "engine = \"redis\"\nexclude_after = \"1s\"",
        "s.toml:11: `exclude_after` is 1s: use down_after or more, or a replica leaves the write quorum before it counts as down",
    ),
    (
        "[voters]",
        "[listen]\nresp = \"0.0.0.0:26380\"\n[voters]",
        "s.toml:7: `listen.resp` is 0.0.0.0:26380, the same port as `listen.peer`: use another port",
    ),
    (
        "[voters]",
        "[listen]\npeer = \"0.0.0.0:26380\"\n[voters]",
        "s.toml:7: `listen.peer` is 0.0.0.0:26380, and without a cluster key only loopback is allowed: set security.cluster_key_file, or listen on 127.0.0.1",
    ),
    (
        "s1 = \"127.0.0.1:26380\"",
        "s1 = \"h:1\"\ns2 = \"h:1\"",
        "s.toml:8: `voters` gives `s1` and `s2` the same address h:1: correct one",
    ),
    (
        "[[service]]",
        "[[service]]\nname = \"orders\"\nengine = \"redis\"\ninstances = [\"h:2\"]\n[[service]]",
        "s.toml:13: service `orders` is defined twice, first in line 9: rename one of them",
    ),
    (
        "[[service]]",
        "[[service]]\nname = \"b\"\nengine = \"redis\"\ninstances = [\"10.0.0.21:6379\"]\n[[service]]",
        "s.toml:15: `instances` of service `orders` names 10.0.0.21:6379, which service `b` names too: take it off one of them",
    ),
    (
        "[voters]",
        "[timing]\nelection_ticks_min = 2\n[voters]",
        "s.toml:6: `timing` election timeouts do not exceed the heartbeat: use heartbeat < shortest < longest election timeout",
    ),
    (
        "name = \"s1\"",
        "name = \"s1\"\nstale_after = \"100ms\"",
        "s.toml:5: `node.stale_after` is 100ms: use at least two heartbeats, or an answer is stale between one and the next",
    ),
];

#[test]
fn each_error_names_line_field_and_remedy() {
    for (line, replacement, wanted) in REFUSALS {
        let text = with(line, replacement);
        assert_eq!(refusal(&text), wanted, "{text}");
    }
}

#[test]
fn the_offending_line_is_shown_and_a_password_is_not() {
    let line = |text: &str| {
        Settings::parse(Path::new("s.toml"), text)
            .unwrap_err()
            .line
            .unwrap()
            .text
    };
    assert_eq!(line(&with("data_dir", "data_dri")), "data_dri = \"data\"");
    for bad in [
        "password = \"hunter2\"\npassword_env = \"B\"",
        "passwort = \"hunter2\"",
        "password = \"hunter2",
        "password = hunter2",
        "cluster_key = \"hunter2\"",
    ] {
        let text = with("engine = \"redis\"", &format!("engine = \"redis\"\n{bad}"));
        let failure = Settings::parse(Path::new("s.toml"), &text).unwrap_err();
        let shown = format!("{failure} {:?} {failure:?}", failure.line);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let text = with(ENGINE, "engine = \"redis\"\npassword = \"hunter2\"");
    let settings = Settings::parse(Path::new("s.toml"), &text).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
}

/// The example with every optional field switched on, except all but one of the three passwords, and with the way to
/// run a server that has a key of its own.
fn example_in_full() -> String {
    let optional = |line: &str| {
        let Some(rest) = line.strip_prefix('#') else {
            return false;
        };
        let is_key = |(key, _): (&str, &str)| {
            key.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        rest.starts_with('[') || rest.split_once(" = ").is_some_and(is_key)
    };
    let alternatives = [
        "#password_file",
        "#password ",
        "#replication_password_file",
        "#replication_password ",
        "#unit",
    ];
    read("sentinel.example.toml")
        .lines()
        .map(|line| match line {
            line if alternatives.iter().any(|key| line.starts_with(key)) => "",
            "#run_by = \"command\"" => "run_by = \"pg_ctlcluster\"",
            line if optional(line) => &line[1..],
            line => line,
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_example_loads_as_it_is_and_in_full() {
    let path = root().join("sentinel.example.toml");
    let example = Settings::load(&path).unwrap();
    assert_eq!(example.warnings, Vec::<String>::new());
    let full = Settings::parse(&path, &example_in_full()).unwrap();
    // What it shows as defaults are the defaults; the rest of the fields has none.
    assert_eq!(full.node.timing, example.node.timing);
    let looked_after = |settings: &Settings| settings.node.agent_of.len();
    assert_eq!((looked_after(&example), looked_after(&full)), (0, 1));
    assert_eq!((example.services.len(), full.services.len()), (1, 2));
    assert_eq!(full.listen, example.listen);
    assert_eq!(full.stale_answers, example.stale_answers);
    let mut service = full.services[0].settings.clone();
    assert_eq!(service.quorum.take(), Some(2));
    assert_eq!(service, example.services[0].settings);
}

/// The keys that the parser knows, by table, as it lists them when it meets an unknown one.
fn known_keys() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for table in ["node", "listen", "security", "timing", "service", "agent"] {
        let header = if table == "service" {
            "[[service]]"
        } else {
            &format!("[{table}]")
        };
        // An unknown key is met while the table is read, before the absence of others is judged.
        let text = format!("{header}\nunheard_of = 1\n");
        let error = toml::from_str::<super::shape::FileShape>(&text).unwrap_err();
        let named = error.message().split('`').skip(1).step_by(2).skip(1);
        known.extend(named.map(|key| format!("{table}.{key}")));
    }
    known
}

#[test]
fn the_fields_are_those_that_the_parser_knows() {
    let listed: BTreeSet<String> = fields().iter().map(|field| field.path.to_owned()).collect();
    assert_eq!(listed.len(), fields().len());
    assert_eq!(listed, known_keys());
}

#[test]
fn the_example_shows_every_field() {
    let mut shown = BTreeSet::new();
    let mut table = String::new();
    for line in read("sentinel.example.toml").lines() {
        if line.trim_start_matches('#').starts_with('[') {
            table = line.trim_matches(['#', '[', ']']).to_owned();
        }
        if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") {
            shown.insert(format!("{table}.{key}"));
        }
    }
    for field in fields() {
        assert!(
            shown.contains(field.path),
            "{} is not in the example",
            field.path
        );
    }
}

#[test]
fn the_table_of_the_documentation_has_every_field_with_its_default() {
    let mut rows = BTreeMap::new();
    for line in read("docs/configuration.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let [_, field, default, _, _] = cells[..]
            && let Some(field) = field
                .strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
        {
            let default = default.trim_matches('`').to_owned();
            assert_eq!(
                rows.insert(field.to_owned(), default),
                None,
                "{field} twice"
            );
        }
    }
    let wanted: BTreeMap<String, String> = fields()
        .into_iter()
        .map(|field| (field.path.to_owned(), field.default))
        .collect();
    assert_eq!(rows, wanted);
}
