//! The settings of one node that is voter and agent of one server.
//!
//! Shorter times than the defaults where that makes a test faster; the rest as shipped. Decides nothing else.

use super::{SERVICE, Shape};
use crate::cluster::Role;
use crate::cluster::node::Plan;
use crate::postgres_server::PostgresServer;

pub(super) fn text(
    plan: &Plan,
    voters: &[Plan],
    servers: &[PostgresServer],
    own: &PostgresServer,
    shape: &Shape,
) -> String {
    let instances: Vec<String> = servers
        .iter()
        .map(PostgresServer::instance)
        .chain(shape.strangers.iter().cloned())
        .map(|instance| format!("\"{instance}\""))
        .collect();
    let user = match rustix::process::geteuid().is_root() {
        true => "user = \"nobody\"\n",
        false => "",
    };
    format!(
        r#"{place}[[service]]
name = "{SERVICE}"
engine = "postgres"
instances = [{instances}]
durability = "quorum"
min_replicas = {min_replicas}
down_after = "{down_after}"
{service_lines}
[[agent]]
service = "{SERVICE}"
instance = "{instance}"
data_dir = "{data_dir}"
bin_dir = "{bin_dir}"
restart_after = "{restart_after}"
fast_limit = "10s"
immediate_limit = "2s"
{user}{agent_lines}
"#,
        place = plan.place(voters, Role::Voter),
        instances = instances.join(", "),
        min_replicas = shape.min_replicas,
        down_after = shape.down_after,
        service_lines = shape.service_lines.join("\n"),
        instance = own.instance(),
        data_dir = own.data_dir().display(),
        bin_dir = own.bin_dir().display(),
        restart_after = shape.restart_after,
        agent_lines = shape.agent_lines.join("\n"),
    )
}
