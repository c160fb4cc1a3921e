//! A real PostgreSQL server on a free loopback port in a temporary folder of its own.
//!
//! Makes primaries and standbys, starts, kills, stops, pauses and restarts them, and cleans up when dropped, also when the
//! test fails. When the test process itself is killed, a small guard process ends the server and removes the folder.
//! Knows nothing of the adapter or of the agent; a server that an agent started is killed, paused and ended like one that
//! was started here, because its processes are found by its folder (`control.rs`).
//!
//! Every primary is made by `initdb`, a quarter of a second, and so has a system identifier of its own. Rejected: copying
//! one made before, because two services of a test would then pass for one.

pub mod account;
mod control;
mod making;
mod processes;
mod roles;
mod small_disk;
mod sql;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use sentinel_core::id::InstanceId;
use tempfile::TempDir;

use crate::port::free_port;
use crate::wait;
pub use control::{Paused, StopMode};
use processes::Guard;
pub use roles::{PASSWORD, Role};
pub use small_disk::fill;
pub use sql::Rows;
pub use version::{PostgresVersion, reachable};

/// How a server is made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    lines: Vec<String>,
    replication_role: Role,
    first_start: FirstStart,
}

/// Whether making a server starts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FirstStart {
    /// It does.
    #[default]
    Now,
    /// Somebody else will start it, or [`PostgresServer::start`].
    Later,
}

impl Options {
    /// Adds one line of configuration; it wins over the defaults.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// The role with which a standby connects to its upstream.
    #[must_use]
    pub fn replication_role(mut self, role: Role) -> Self {
        self.replication_role = role;
        self
    }

    /// Started now or later.
    #[must_use]
    pub fn first_start(mut self, first_start: FirstStart) -> Self {
        self.first_start = first_start;
        self
    }
}

/// One server and its folder. Dropping it ends its processes, whoever started them, and removes the folder.
#[derive(Debug)]
pub struct PostgresServer {
    postmaster: Option<Child>,
    version: PostgresVersion,
    options: Options,
    port: u16,
    // Called off first: the server is ended and the folder removed here.
    guard: Option<Guard>,
    folder: TempDir,
}

impl PostgresServer {
    /// A primary that runs and answers.
    ///
    /// # Panics
    /// When it cannot be made or does not start.
    pub fn primary(version: &PostgresVersion) -> Self {
        Self::primary_with(version, Options::default())
    }

    /// The same with options.
    ///
    /// # Panics
    /// When it cannot be made or does not start.
    pub fn primary_with(version: &PostgresVersion, options: Options) -> Self {
        let mut server = Self::without_data(version, options);
        server.make_cluster();
        server.write_settings();
        server.start_first();
        server
    }

    /// A standby, made by `pg_basebackup`, that answers; it may not yet stream when this returns. The upstream may be a
    /// standby itself.
    ///
    /// # Panics
    /// When it cannot be made or does not start.
    pub fn standby_of(upstream: &Self) -> Self {
        Self::standby_with(upstream, Options::default())
    }

    /// The same with options. The upstream's own lines of configuration are not taken over.
    ///
    /// # Panics
    /// When it cannot be made or does not start.
    pub fn standby_with(upstream: &Self, options: Options) -> Self {
        let mut server = Self::without_data(&upstream.version, options);
        server.copy_cluster(upstream);
        server.write_settings();
        server.follow(upstream);
        server.start_first();
        server
    }

    /// A port and a folder without a data folder in it, for somebody who makes that himself.
    ///
    /// # Panics
    /// When there is no temporary folder that the server's account can use.
    pub fn without_data(version: &PostgresVersion, options: Options) -> Self {
        let folder = account::temporary_folder("postgres-test-")
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let guard = Guard::of(folder.path()).expect("sh exists");
        for name in ["socket", "log"] {
            account::make_folder(&folder.path().join(name), 0o755).expect("our folder is writable");
        }
        Self {
            postmaster: None,
            version: version.clone(),
            options,
            port: free_port(),
            guard: Some(guard),
            folder,
        }
    }

    /// Its version.
    pub fn version(&self) -> &PostgresVersion {
        &self.version
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as the core names it and as its `application_name` says.
    pub fn instance(&self) -> InstanceId {
        InstanceId::new("127.0.0.1", self.port)
    }

    /// Everything that is its own: `data`, `log` and `socket`. Its account may make more in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// The folder of its Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.folder().join("socket")
    }

    /// The folder of its programs.
    pub fn bin_dir(&self) -> PathBuf {
        self.version.bin_dir()
    }

    /// One of its programs, to be run under its account.
    pub fn command(&self, program: &str) -> Command {
        let mut command = account::command(&self.bin_dir().join(program));
        command.current_dir(self.folder());
        command
    }

    /// What it printed and logged.
    pub fn log_text(&self) -> String {
        let log = self.folder().join("log");
        // Startup errors come before the log collector.
        ["printed", "postgresql.log"]
            .map(|name| fs::read(log.join(name)).unwrap_or_default())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat()
    }

    /// Waits until it has logged this; its log collector writes a moment after it happens.
    ///
    /// # Panics
    /// When it does not come within [`wait::BOUND`].
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let what = format!("{text:?} in the log of the server at port {}", self.port);
        wait::until(&what, || self.log_text().contains(text).then_some(()));
    }

    /// A connection string for this role, for libpq and tokio-postgres.
    pub fn conninfo(&self, role: Role) -> String {
        format!(
            "host=127.0.0.1 port={} dbname=postgres connect_timeout=10 {}",
            self.port,
            role.credentials()
        )
    }

    /// Runs SQL as the superuser and returns the rows.
    ///
    /// # Panics
    /// When the server does not answer within ten seconds, or answers with an error; the text holds it.
    #[track_caller]
    pub fn query(&self, sql: &str) -> Rows {
        match self.try_query(Role::Superuser, sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{sql} at port {}: {error}", self.port),
        }
    }

    /// The same for one value: the first column of the first row.
    ///
    /// # Panics
    /// As [`Self::query`], and when there is none.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        let first = self.query(sql).into_iter().flatten().next();
        first.unwrap_or_else(|| panic!("{sql} at port {}: no row", self.port))
    }

    /// The same for SQL without a result.
    ///
    /// # Panics
    /// As [`Self::query`].
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.query(sql);
    }

    /// Runs SQL as this role, with the server's error as a result.
    ///
    /// # Errors
    /// When the server does not answer within ten seconds, or answers with an error.
    pub fn try_query(&self, role: Role, sql: &str) -> Result<Rows, String> {
        sql::run(&self.conninfo(role), sql)
    }

    /// Waits until a query's first value is this one.
    ///
    /// # Panics
    /// When it does not come within [`wait::BOUND`].
    #[track_caller]
    pub fn wait_for(&self, sql: &str, value: &str) {
        let what = format!("{value} from {sql} at port {}", self.port);
        wait::until(&what, || {
            let rows = self.try_query(Role::Superuser, sql).ok()?;
            (rows.first()?.first()? == value).then_some(())
        });
    }

    /// Waits until this standby streams to here and has replayed everything that is written here at this moment.
    ///
    /// # Panics
    /// When that does not happen within [`wait::BOUND`].
    #[track_caller]
    pub fn wait_for_standby(&self, standby: &Self) {
        let end = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END";
        let end = self.value(&format!("SELECT {end}"));
        let caught_up = format!(
            "SELECT state = 'streaming' AND replay_lsn >= '{end}' FROM pg_stat_replication \
             WHERE application_name = '{}'",
            standby.instance()
        );
        self.wait_for(&caught_up, "t");
    }

    /// Writes, and removes its log, until it no longer has the segment that a standby which is not connected needs next.
    /// `keep` are standbys that stream, and go on to.
    ///
    /// # Panics
    /// When it keeps the segment.
    pub fn remove_log_needed_from(&self, position: &str, keep: &[&Self]) {
        let file = self.value(&format!("SELECT pg_walfile_name('{position}'::pg_lsn + 1)"));
        let kept = format!(
            "SELECT count(*) FROM pg_ls_waldir() WHERE name <= '{file}' AND name ~ '^[0-9A-F]{{24}}$'"
        );
        for _ in 0..20 {
            self.execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 400000))");
            self.execute("SELECT pg_switch_wal()");
            for standby in keep {
                self.wait_for_standby(standby);
            }
            self.execute("CHECKPOINT");
            if self.value(&kept) == "0" {
                return;
            }
        }
        panic!(
            "{} keeps {file}: {}",
            self.instance(),
            self.value(
                "SELECT string_agg(slot_name || ' ' || wal_status, ', ') FROM pg_replication_slots"
            )
        );
    }

    /// Removes the data of a stopped server, as a replaced disk does.
    ///
    /// # Panics
    /// When it runs.
    pub fn remove_data(&self) {
        assert!(
            self.pid().is_none(),
            "the server at port {} runs",
            self.port
        );
        fs::remove_dir_all(self.data_dir()).expect("our folder is writable");
    }
}
