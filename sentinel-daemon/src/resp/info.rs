//! Renders `INFO`: the sections that a Sentinel has, with the fields that clients and dashboards read.
//!
//! Fields of Redis that would only ever hold a zero here are left out. What Redis does not have is named
//! `sentinel_…` and stands before the lines of the services, where readers of `master0:` do not look.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use sentinel_core::config::NodeRole;
use sentinel_core::discovery::Freshness;

use crate::resp::request::Args;
use crate::resp::rows;
use crate::resp::sentinel::answerable;
use crate::resp::session::Endpoint;
use crate::source::Moment;

/// The version whose answers these are.
pub const REDIS_VERSION: &str = "7.0.15";

type Section = fn(&Moment, &Endpoint) -> Vec<(&'static str, String)>;

const SECTIONS: [(&str, &str, Section); 3] = [
    ("server", "# Server", server),
    ("clients", "# Clients", clients),
    ("stats", "# Stats", stats),
];

/// The wanted sections, or all; unknown ones are passed over.
pub fn render(moment: &Moment, endpoint: &Endpoint, args: Args<'_>) -> String {
    let wanted = |section: &str| {
        let asks_for = |word: &[u8]| {
            [section, "all", "default", "everything"]
                .iter()
                .any(|name| name.as_bytes().eq_ignore_ascii_case(word))
        };
        args.len() == 1 || args.from(1).any(asks_for)
    };
    let mut text = String::new();
    for (name, title, fields) in SECTIONS {
        if wanted(name) {
            section(&mut text, title, &fields(moment, endpoint));
        }
    }
    if wanted("sentinel") {
        section(&mut text, "# Sentinel", &sentinel(moment));
        services(moment, &mut text);
        text.push_str("\r\n");
    }
    text
}

fn section(text: &mut String, title: &str, fields: &[(&'static str, String)]) {
    text.push_str(title);
    text.push_str("\r\n");
    for (name, value) in fields {
        line(text, format_args!("{name}:{value}"));
    }
    if title != "# Sentinel" {
        text.push_str("\r\n");
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    write!(text, "{line}\r\n").expect("writing to a string cannot fail");
}

fn server(moment: &Moment, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let uptime = moment.now.since(endpoint.started).as_secs();
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    vec![
        ("redis_version", REDIS_VERSION.to_owned()),
        ("redis_mode", "sentinel".to_owned()),
        ("os", std::env::consts::OS.to_owned()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("run_id", moment.myid.to_string()),
        ("tcp_port", endpoint.port.to_string()),
        ("server_time_usec", wall.as_micros().to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
        (
            "sentinel_daemon_version",
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
    ]
}

fn clients(_: &Moment, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let clients = &endpoint.clients;
    vec![
        ("connected_clients", clients.count().to_string()),
        ("cluster_connections", "0".to_owned()),
        ("maxclients", clients.connections_max().to_string()),
        ("blocked_clients", "0".to_owned()),
        ("tracking_clients", "0".to_owned()),
        ("clients_in_timeout_table", "0".to_owned()),
    ]
}

fn stats(_: &Moment, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let clients = &endpoint.clients;
    let (channels, patterns) = clients.subscriptions();
    vec![
        ("total_connections_received", clients.total().to_string()),
        (
            "total_commands_processed",
            clients.requests.load(Relaxed).to_string(),
        ),
        (
            "rejected_connections",
            clients.rejected.load(Relaxed).to_string(),
        ),
        ("pubsub_channels", channels.to_string()),
        ("pubsub_patterns", patterns.to_string()),
    ]
}

fn sentinel(moment: &Moment) -> Vec<(&'static str, String)> {
    let view = &moment.view;
    let stale = moment.freshness() != Freshness::Fresh;
    let as_of = moment
        .as_of_ms()
        .map_or_else(|| "-1".to_owned(), |ms| ms.to_string());
    let role = match view.role {
        NodeRole::Voter => "voter",
        NodeRole::Observer => "observer",
    };
    vec![
        ("sentinel_masters", answerable(moment).count().to_string()),
        ("sentinel_tilt", "0".to_owned()),
        ("sentinel_tilt_since_seconds", "-1".to_owned()),
        ("sentinel_running_scripts", "0".to_owned()),
        ("sentinel_scripts_queue_length", "0".to_owned()),
        ("sentinel_simulate_failure_flags", "0".to_owned()),
        ("sentinel_stale", u8::from(stale).to_string()),
        ("sentinel_as_of_ms", as_of),
        ("sentinel_cluster", view.cluster.to_string()),
        ("sentinel_node", view.node.to_string()),
        ("sentinel_role", role.to_owned()),
        (
            "sentinel_leader",
            view.leader
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("sentinel_term", view.term.to_string()),
        ("sentinel_services", view.services.len().to_string()),
    ]
}

/// `master0:name=…,status=…,address=…,slaves=…,sentinels=…`, this node counted among the sentinels.
fn services(moment: &Moment, text: &mut String) {
    for (index, (service, primary)) in answerable(moment).enumerate() {
        let down = service
            .instances
            .get(primary)
            .is_some_and(rows::subjectively_down);
        let status = if rows::objectively_down(service) {
            "odown"
        } else if down {
            "sdown"
        } else {
            "ok"
        };
        let replicas = service.instances.keys().filter(|id| *id != primary).count();
        line(
            text,
            format_args!(
                "master{index}:name={},status={status},address={primary},slaves={replicas},sentinels={}",
                service.settings.name,
                moment.view.voters.len()
            ),
        );
    }
}
