//! What the files of the PostgreSQL servers say, and what the nodes are told of them.
//!
//! Pure text. Starts nothing.

use std::path::Path;

use sentinel_core::id::InstanceId;

use super::installation::Installation;
use crate::demo::plan::ServicePlan;

/// The role of the voters and agents, and of the standbys.
pub(super) const COORDINATOR: &str = "sentinel";

/// The role of the clients. It may insert and read, and nothing else.
pub(super) const CLIENT: &str = "demo";

/// The database of all of them.
pub(super) const DATABASE: &str = "postgres";

/// Size of a segment of the log in megabytes: what people have.
pub(super) const SEGMENT_MB: u32 = 16;

/// Synced to the disk like any server, and small otherwise.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = '16MB'
dynamic_shared_memory_type = mmap
huge_pages = off
wal_level = replica
wal_log_hints = on
hot_standby = on
max_wal_senders = 20
max_replication_slots = 20
min_wal_size = '64MB'
max_wal_size = '512MB'
wal_keep_size = '128MB'
log_line_prefix = '%m [%p] %q%u %a '
log_timezone = 'UTC'
timezone = 'UTC'
";

/// The `postgresql.conf` of a server at this address.
pub(super) fn of_server(server: &InstanceId) -> String {
    format!("{SETTINGS}port = {}\n", server.port())
}

/// The `pg_hba.conf`. The coordinator's role can read and change a lot, so it needs its password; other users of this
/// machine can at most insert a row.
pub(super) fn access() -> String {
    format!(
        "host {DATABASE} {CLIENT} 127.0.0.1/32 trust\n\
         host all,replication {COORDINATOR} 127.0.0.1/32 password\n"
    )
}

/// Where `ALTER SYSTEM` would write it, so that `ALTER SYSTEM` replaces it.
pub(super) fn following(standby: &InstanceId, primary: &InstanceId, password: &str) -> String {
    let (host, port) = (primary.host(), primary.port());
    format!(
        "primary_conninfo = 'host={host} port={port} user={COORDINATOR} password={password} application_name={standby}'\n"
    )
}

/// The SQL for a new cluster, for single-user mode: a statement ends with a semicolon and an empty line.
pub(super) fn statements(password: &str) -> String {
    let statements = [
        "CREATE TABLE public.writes (writer integer, number bigint, value text, PRIMARY KEY (writer, number))".to_owned(),
        format!("CREATE ROLE {CLIENT} LOGIN"),
        format!("GRANT INSERT, SELECT ON public.writes TO {CLIENT}"),
        sentinel_postgres::grants(COORDINATOR).trim_end().trim_end_matches(';').to_owned(),
        format!("ALTER ROLE {COORDINATOR} PASSWORD '{password}'"),
    ];
    statements.join(";\n\n") + ";\n\n"
}

/// What a node is told of the service, and of the server on its own host, whose agent it is.
pub(super) fn of_node(
    plan: &ServicePlan,
    servers: &[InstanceId],
    own: (&InstanceId, &Path),
    installation: &Installation,
    password_file: &Path,
) -> String {
    let down_after = humantime::format_duration(plan.down_after);
    let instances: Vec<String> = servers.iter().map(|it| format!("\"{it}\"")).collect();
    let (instance, data) = own;
    format!(
        "\n[[service]]\nname = \"{name}\"\nengine = \"postgres\"\ninstances = [{instances}]\n\
         down_after = \"{down_after}\"\nusername = \"{COORDINATOR}\"\npassword_file = \"{password}\"\n\
         \n[agent]\nservice = \"{name}\"\ninstance = \"{instance}\"\ndata_dir = \"{data}\"\nbin_dir = \"{bin}\"\n",
        name = plan.name,
        instances = instances.join(", "),
        password = password_file.display(),
        data = data.display(),
        bin = installation.bin().display(),
    )
}
