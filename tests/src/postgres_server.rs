//! A real PostgreSQL server on a free loopback port in a temporary folder of its own.
//!
//! Makes primaries and standbys, starts, kills, stops, pauses and restarts them, and cleans up when dropped, also when the
//! test fails. When the test process itself is killed, a small guard process ends the server and removes the folder.
//! Knows nothing of the adapter or of the agent; a server that an agent started is killed, paused and ended like one that
//! was started here, because its processes are found by its folder.
//!
//! Every primary is made by `initdb`, a quarter of a second, and so has a system identifier of its own. Rejected: copying
//! one made before, because two services of a test would then pass for one.

pub mod account;
mod processes;
mod roles;
mod sql;
mod version;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use sentinel_core::id::InstanceId;
use tempfile::TempDir;

use crate::redis_server::free_port;
use crate::wait;
use processes::Guard;
pub use roles::{PASSWORD, Role};
pub use sql::Rows;
pub use version::{PostgresVersion, reachable};

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

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has gone.
    Smart,
    /// Ends its clients, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
}

/// What stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// The postmaster alone: open connections work on, new ones are not answered.
    Postmaster,
    /// All its processes.
    Everything,
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
        let role = server.options.replication_role;
        let copied = server
            .command("pg_basebackup")
            .arg("-D")
            .arg(server.data_dir())
            .args(["--checkpoint=fast", "--no-sync", "--wal-method=stream"])
            .args(["-d", &upstream.conninfo(role)])
            .output();
        must_succeed("pg_basebackup", copied);
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

    /// A connection string for this role, for libpq and tokio-postgres.
    pub fn conninfo(&self, role: Role) -> String {
        format!(
            "host=127.0.0.1 port={} dbname=postgres connect_timeout=10 {}",
            self.port,
            role.credentials()
        )
    }

    /// Its postmaster, as long as it runs, whoever started it.
    pub fn pid(&self) -> Option<u32> {
        let written = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok();
        let written = written.and_then(|text| text.lines().next()?.parse().ok());
        // A killed postmaster leaves its file, and one that has just been started has not written it.
        let started = self.postmaster.as_ref().map(Child::id);
        let alive = self.pids();
        [written, started]
            .into_iter()
            .flatten()
            .find(|pid| alive.contains(pid))
    }

    /// All processes in its folder.
    pub fn pids(&self) -> Vec<u32> {
        processes::of(self.folder())
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

    /// Waits until this standby streams to here and has flushed everything that is written here at this moment.
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

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn start(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("PostgreSQL did not start:\n{log}");
        }
    }

    /// The same, with the log as the error.
    ///
    /// # Errors
    /// When it ends before it answers.
    ///
    /// # Panics
    /// When it runs already, or neither ends nor answers within [`wait::BOUND`].
    pub fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        let answers = wait::until("PostgreSQL answers or ends", || {
            if self.has_ended() {
                return Some(false);
            }
            // Asked too early, it logs an error every time; its file says when it is worth it.
            let file = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
            if !file.lines().nth(7)?.starts_with("ready") {
                return None;
            }
            self.try_query(Role::Superuser, "SELECT 1").ok()?;
            Some(true)
        });
        // An answer of somebody else on the port is not ours: our process then ends.
        if answers && !self.has_ended() {
            return Ok(());
        }
        processes::end_all(self.folder());
        Err(self.log_text())
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self) {
        assert!(
            self.pid().is_none(),
            "the server at port {} runs",
            self.port
        );
        self.collect();
        // Backends end by themselves soon after their postmaster is killed; until then no other can start.
        wait::until("the killed server's processes are gone", || {
            self.pids().is_empty().then_some(())
        });
        let printed = File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("log/printed"))
            .expect("our folder is writable");
        let postmaster = self
            .command("postgres")
            .arg("-D")
            .arg(self.data_dir())
            .stdout(Stdio::null())
            .stderr(printed)
            .spawn()
            .expect("setpriv and PostgreSQL are installed");
        self.postmaster = Some(postmaster);
    }

    /// Kills the postmaster (SIGKILL) and waits until it is gone. Its backends notice and end by themselves.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.signal_postmaster(Signal::KILL);
        self.wait_for_end();
    }

    /// Stops it and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run, or does not stop within [`wait::BOUND`].
    pub fn stop(&mut self, mode: StopMode) {
        self.signal_postmaster(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
        self.wait_for_end();
    }

    /// Stops it fast and starts it again.
    ///
    /// # Panics
    /// When it does not stop or start.
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start();
    }

    /// Lets it stand still (SIGSTOP): it keeps its port and connections.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self, paused: Paused) {
        // First of all, so that it starts no process meanwhile.
        self.signal_postmaster(Signal::STOP);
        match paused {
            Paused::Postmaster => {}
            Paused::Everything => {
                for pid in self.pids() {
                    processes::send(pid, Signal::STOP);
                }
            }
        }
    }

    /// Continues whatever of it stands still (SIGCONT).
    pub fn resume(&self) {
        for pid in self.pids() {
            processes::send(pid, Signal::CONT);
        }
    }

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

    fn make_cluster(&self) {
        let made = self
            .command("initdb")
            .arg("-D")
            .arg(self.data_dir())
            .args(["--wal-segsize=1", "--no-sync", "-A", "trust"])
            .args(["-U", Role::Superuser.name(), "--no-locale", "-E", "UTF8"])
            .output();
        must_succeed("initdb", made);
        let statements = self.folder().join("roles.sql");
        account::write(&statements, &roles::sql(&self.version)).expect("our folder is writable");
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

    fn start_first(&mut self) {
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

    fn signal_postmaster(&self, signal: Signal) {
        let pid = self.pid().expect("the server runs");
        processes::send(pid, signal);
    }

    /// Somebody else's child is collected by its parent, and is gone for us as soon as it has ended.
    fn wait_for_end(&mut self) {
        wait::until("the postmaster has ended", || {
            self.collect();
            self.pid().is_none().then_some(())
        });
    }

    fn has_ended(&mut self) -> bool {
        self.collect();
        self.postmaster.is_none()
    }

    fn collect(&mut self) {
        if let Some(postmaster) = &mut self.postmaster
            && !matches!(postmaster.try_wait(), Ok(None))
        {
            self.postmaster = None;
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // The guard goes first: it must not kill a later process that got the same id.
        self.guard = None;
        processes::end_all(self.folder());
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = postmaster.wait();
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
