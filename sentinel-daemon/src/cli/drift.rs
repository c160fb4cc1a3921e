//! Where the `[[service]]` tables of a settings file differ from what is committed.
//!
//! They seed an empty data folder only, so that a later edit does nothing; whoever made it should hear so. Knows the
//! file and the answer of one node. A difference is a warning, never an error.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::{ServiceJson, SettingsJson, StatusJson};
use crate::settings::{GuardedService, Settings};

/// One warning for each difference. `only` is the service to which the answer is limited.
pub(super) fn warnings(
    file: &Settings,
    only: Option<&str>,
    status: &StatusJson,
    services: &[ServiceJson],
) -> Vec<String> {
    let path = file.file.display();
    if file.node.cluster != status.cluster {
        return vec![format!(
            "{path} is of cluster {}, and node {} of cluster {}: name a node of the same cluster",
            file.node.cluster, status.node, status.cluster
        )];
    }
    // Without a leader the committed table may not be there yet, or not be the newest.
    if status.freshness.stale {
        return Vec::new();
    }
    let seeds: BTreeMap<&str, &GuardedService> = file
        .services
        .iter()
        .map(|seed| (seed.settings.name.as_str(), seed))
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .collect();
    let committed: BTreeMap<&str, &ServiceJson> = services
        .iter()
        .map(|service| (service.service.as_str(), service))
        .collect();
    let mut warnings = Vec::new();
    for (name, seed) in &seeds {
        match committed.get(name) {
            Some(service) => warnings.extend(
                differences(seed, service)
                    .iter()
                    .map(|difference| format!("service `{name}`: {difference} in {path}")),
            ),
            None => warnings.push(format!(
                "service `{name}` of {path} is not guarded: services are taken from the settings when the cluster begins, and never later"
            )),
        }
    }
    let unnamed = committed.keys().filter(|name| !seeds.contains_key(*name));
    warnings.extend(unnamed.map(|name| {
        format!("service `{name}` is guarded and not in {path}: a node that is started with it has no password for the service")
    }));
    warnings
}

/// What is committed, and what the file says.
fn differences(seed: &GuardedService, service: &ServiceJson) -> Vec<String> {
    let given = &seed.settings;
    let stands = |name: &str, committed: &str, given: &str| {
        (committed != given).then(|| format!("{name} stays {committed}, and is {given}"))
    };
    let engine = stands("engine", service.engine.as_str(), given.engine.as_str());
    let mut differences: Vec<String> = engine.into_iter().collect();
    // A node of an older version says nothing of its settings.
    let Some(committed) = &service.settings else {
        return differences;
    };
    let given = SettingsJson::from(given);
    let pairs = replicated(committed).into_iter().zip(replicated(&given));
    differences.extend(
        pairs.filter_map(|((name, committed), (_, given))| stands(name, &committed, &given)),
    );
    let pairs = own(committed).into_iter().zip(own(&given));
    differences.extend(
        pairs
            .filter(|((_, committed), (_, given))| committed != given)
            .map(|((name, committed), (_, given))| {
                format!("{name} began as {committed}, each leader sets that of its own file, and it is {given}")
            }),
    );
    differences
}

/// What all nodes take from the committed table.
fn replicated(settings: &SettingsJson) -> [(&'static str, String); 11] {
    let list = |items: Vec<String>| {
        if items.is_empty() {
            return "none".to_owned();
        }
        items.join(", ")
    };
    let instances = settings.instances.iter().map(ToString::to_string);
    let priorities = settings.priorities.iter();
    [
        ("instances", list(instances.collect())),
        ("probe_every", span(settings.probe_every_ms)),
        ("down_after", span(settings.down_after_ms)),
        ("refused_after", span(settings.refused_after_ms)),
        ("action_deadline", span(settings.action_deadline_ms)),
        ("freeze_wait", span(settings.freeze_wait_ms)),
        ("exclude_after", span(settings.exclude_after_ms)),
        (
            "quorum",
            settings
                .quorum
                .map_or("the majority".to_owned(), |quorum| quorum.to_string()),
        ),
        ("min_replicas", settings.min_replicas.to_string()),
        ("parallel_syncs", settings.parallel_syncs.to_string()),
        (
            "priorities",
            list(
                priorities
                    .map(|(instance, priority)| format!("{instance} = {priority}"))
                    .collect(),
            ),
        ),
    ]
}

/// What an adapter takes from the file of the node on which it runs.
fn own(settings: &SettingsJson) -> [(&'static str, String); 2] {
    [
        ("ack_lag_max", span(settings.ack_lag_max_ms)),
        ("restart_delay", span(settings.restart_delay_ms)),
    ]
}

/// As the settings file writes it.
fn span(milliseconds: u64) -> String {
    humantime::format_duration(Duration::from_millis(milliseconds)).to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn file(services: &str) -> Settings {
        let text = format!(
            "[node]\ncluster = \"main\"\nname = \"s1\"\ndata_dir = \"d\"\n[voters]\ns1 = \"127.0.0.1:26380\"\n{services}"
        );
        Settings::parse(Path::new("s.toml"), &text).unwrap()
    }

    const ORDERS: &str =
        "[[service]]\nname = \"orders\"\nengine = \"redis\"\ninstances = [\"10.0.0.21:6379\"]\n";

    fn status(cluster: &str, stale: bool) -> StatusJson {
        serde_json::from_value(json!({
            "schema": 1, "version": "0.1.0", "cluster": cluster, "node": "s1", "myid": "", "role": "voter",
            "leader": "s1", "leader_http": null, "term": 1, "majority": 1, "voters": {},
            "stale": stale, "as_of_ms": 0,
        }))
        .unwrap()
    }

    /// The committed service of a file with this `[[service]]`.
    fn committed(service: &str) -> ServiceJson {
        let settings = &file(service).services[0].settings;
        serde_json::from_value(json!({
            "schema": 1, "service": settings.name, "engine": settings.engine, "stage": "steady", "target": null,
            "primary": null, "epoch": 1, "token_epoch": 1, "token_step": 1, "min_replicas": 1, "write_quorum": [],
            "witnesses": [], "quorum": 1, "instances": [], "settings": SettingsJson::from(settings),
            "blockers": [], "stale": false, "as_of_ms": 0,
        }))
        .unwrap()
    }

    fn warned(services: &str, status: &StatusJson) -> Vec<String> {
        warnings(&file(services), None, status, &[committed(ORDERS)])
    }

    #[test]
    fn every_setting_that_differs_is_named() {
        let fresh = status("main", false);
        assert_eq!(warned(ORDERS, &fresh), Vec::<String>::new());
        for (line, difference) in [
            (
                "probe_every = \"50ms\"",
                "probe_every stays 100ms, and is 50ms",
            ),
            (
                "down_after = \"1500ms\"",
                "down_after stays 2s, and is 1s 500ms",
            ),
            (
                "refused_after = \"50ms\"",
                "refused_after stays 100ms, and is 50ms",
            ),
            (
                "action_deadline = \"1s\"",
                "action_deadline stays 300ms, and is 1s",
            ),
            (
                "freeze_wait = \"100ms\"",
                "freeze_wait stays 300ms, and is 100ms",
            ),
            (
                "exclude_after = \"20s\"",
                "exclude_after stays 10s, and is 20s",
            ),
            ("quorum = 1", "quorum stays the majority, and is 1"),
            ("min_replicas = 2", "min_replicas stays 1, and is 2"),
            ("parallel_syncs = 2", "parallel_syncs stays 1, and is 2"),
            (
                "priorities = { \"10.0.0.22:6379\" = 0 }",
                "priorities stays none, and is 10.0.0.22:6379 = 0",
            ),
            (
                "ack_lag_max = \"5s\"",
                "ack_lag_max began as 10s, each leader sets that of its own file, and it is 5s",
            ),
            (
                "restart_delay = \"5s\"",
                "restart_delay began as 2s, each leader sets that of its own file, and it is 5s",
            ),
        ] {
            assert_eq!(
                warned(&format!("{ORDERS}{line}\n"), &fresh),
                [format!("service `orders`: {difference} in s.toml")]
            );
        }
        let moved = ORDERS.replace(".21", ".29");
        assert_eq!(
            warned(&moved, &fresh),
            ["service `orders`: instances stays 10.0.0.21:6379, and is 10.0.0.29:6379 in s.toml"]
        );
    }

    #[test]
    fn services_on_one_side_only_are_named() {
        let fresh = status("main", false);
        let others = ORDERS.replace("orders", "users");
        assert_eq!(
            warned(&others, &fresh),
            [
                "service `users` of s.toml is not guarded: services are taken from the settings when the cluster begins, and never later",
                "service `orders` is guarded and not in s.toml: a node that is started with it has no password for the service",
            ]
        );
        let two = ORDERS.to_owned() + &others.replace(".21", ".29");
        let one = [committed(ORDERS)];
        assert!(warnings(&file(&two), Some("orders"), &fresh, &one).is_empty());
    }

    #[test]
    fn nothing_is_compared_with_a_table_that_may_be_old_or_foreign() {
        let other = ORDERS.replace("orders", "users");
        assert!(warned(&other, &status("main", true)).is_empty());
        assert_eq!(
            warned(&other, &status("test", false)),
            [
                "s.toml is of cluster main, and node s1 of cluster test: name a node of the same cluster"
            ]
        );
    }

    #[test]
    fn an_older_node_is_compared_as_far_as_it_tells() {
        let mut service = committed(ORDERS);
        service.settings = None;
        let file = file(&format!("{ORDERS}min_replicas = 2\n"));
        assert!(warnings(&file, None, &status("main", false), &[service]).is_empty());
    }
}
