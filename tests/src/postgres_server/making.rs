//! Makes the data folder of a test server: a cluster of its own by `initdb`, or a copy of an upstream's by `pg_basebackup`,
//! with the tests' settings and roles.
//!
//! Does not know how a server is started.

use std::fs::{self, File};

use super::{FirstStart, PostgresServer, Role, account, roles};
use crate::port::free_port;

/// Enough for replication tests, and fast: segments of 1 MB, files synced (the coordinator refuses a server that does not
/// sync). Folders are given from the data folder, so the text is right for every server that gets a copy of it.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = '../socket'
max_connections = 60
shared_buffers = '8MB'
dynamic_shared_memory_type = mmap
huge_pages = off
wal_level = replica
wal_log_hints = on
hot_standby = on
max_wal_senders = 20
max_replication_slots = 20
min_wal_size = '2MB'
max_wal_size = '32MB'
wal_keep_size = '16MB'
logging_collector = on
log_directory = '../log'
log_filename = 'postgresql.log'
log_rotation_age = 0
log_rotation_size = 0
log_line_prefix = '%m [%p] %b %q%u %a '
log_replication_commands = on
log_timezone = 'UTC'
timezone = 'UTC'
";

impl PostgresServer {
    /// Makes a stopped server a standby of this upstream: it keeps its data and starts as such.
    ///
    /// # Panics
    /// When its folder is not writable.
    pub fn follow(&self, upstream: &Self) {
        let data = self.data_dir();
        account::write(&data.join("standby.signal"), "").expect("our folder is writable");
        let conninfo = format!(
            "host=127.0.0.1 port={} {} application_name={}",
            upstream.port,
            self.options.replication_role.credentials(),
            self.instance()
        );
        // Where ALTER SYSTEM would write it, so that ALTER SYSTEM replaces it; of two lines the last one counts.
        let path = data.join("postgresql.auto.conf");
        let settings = fs::read_to_string(&path).unwrap_or_default();
        let settings = format!("{settings}primary_conninfo = '{conninfo}'\n");
        account::write(&path, &settings).expect("our folder is writable");
    }

    /// The text of its configuration file: the tests' settings, its port, its own lines.
    pub fn settings(&self) -> String {
        let own = self.options.lines.join("\n");
        format!("{SETTINGS}port = {}\n{own}\n", self.port)
    }

    /// Writes its two configuration files anew.
    ///
    /// # Panics
    /// When it has no data folder.
    pub fn write_settings(&self) {
        let data = self.data_dir();
        account::write(&data.join("postgresql.conf"), &self.settings())
            .expect("there is a data folder");
        account::write(&data.join("pg_hba.conf"), &roles::access())
            .expect("there is a data folder");
    }

    pub(super) fn make_cluster(&self) {
        let made = self
            .command("initdb")
            .arg("-D")
            .arg(self.data_dir())
            .args(["--wal-segsize=1", "--no-sync", "-A", "trust"])
            .args(["-U", Role::Superuser.name(), "--no-locale", "-E", "UTF8"])
            .output();
        must_succeed("initdb", made);
        let statements = self.folder().join("roles.sql");
        account::write(&statements, &roles::sql()).expect("our folder is writable");
        let given = self
            .command("postgres")
            .args(["--single", "-j", "-F", "-D"])
            .arg(self.data_dir())
            .arg("postgres")
            .stdin(File::open(statements).expect("it was just written"))
            .output();
        // Single-user mode goes on after an error and exits with 0.
        let printed = must_succeed("postgres --single", given);
        assert!(!printed.contains("ERROR"), "the roles:\n{printed}");
    }

    pub(super) fn copy_cluster(&self, upstream: &Self) {
        let version = self.version.with_every_program();
        let version = version.expect("some PostgreSQL here is as new and has every program");
        let copied = account::command(&version.bin_dir().join("pg_basebackup"))
            .arg("-D")
            .arg(self.data_dir())
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
            .args(["-d", &upstream.conninfo(self.options.replication_role)])
            .output();
        must_succeed("pg_basebackup", copied);
    }

    pub(super) fn start_first(&mut self) {
        if self.options.first_start == FirstStart::Later {
            return;
        }
        for _ in 0..20 {
            match self.try_start() {
                Ok(()) => return,
                // Somebody else took the port between the look and the start.
                Err(log) if log.contains("Address already in use") => self.move_to_free_port(),
                Err(log) => panic!("PostgreSQL did not start:\n{log}"),
            }
        }
        panic!("no free port found in 20 attempts")
    }

    fn move_to_free_port(&mut self) {
        let old = self.instance();
        self.port = free_port();
        let path = self.data_dir().join("postgresql.auto.conf");
        let settings = fs::read_to_string(&path).expect("initdb made it");
        let settings = settings.replace(&old.to_string(), &self.instance().to_string());
        account::write(&path, &settings).expect("our folder is writable");
        self.write_settings();
        for name in ["printed", "postgresql.log"] {
            let _ = fs::remove_file(self.folder().join("log").join(name));
        }
    }
}

/// What it printed, both streams.
fn must_succeed(what: &str, output: std::io::Result<std::process::Output>) -> String {
    let output = output.expect("setpriv and PostgreSQL are installed");
    let printed = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    assert!(output.status.success(), "{what} failed:\n{printed}");
    printed
}
