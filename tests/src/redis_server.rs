//! A real redis-server on a free loopback port in a temporary folder of its own.
//!
//! Starts, kills, stops, continues and restarts it, and cleans up when dropped, also when the test
//! fails. When the test process itself is killed, a small guard process kills the server and removes
//! the folder. Knows nothing of replication topologies or of the adapter.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sentinel_core::id::InstanceId;
use tempfile::TempDir;

use crate::port::free_port;
use crate::wait;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    lines: Vec<String>,
    password: Option<String>,
    config_file: ConfigFile,
}

/// Whether the server has a configuration file, into which `CONFIG REWRITE` can write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigFile {
    /// It has.
    #[default]
    Written,
    /// It gets the same settings on its command line.
    Absent,
}

impl Options {
    /// Adds one line of configuration; it wins over the defaults.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Receives from this server from the start.
    #[must_use]
    pub fn replica_of(self, primary: &RedisServer) -> Self {
        let line = format!("replicaof 127.0.0.1 {}", primary.port());
        match primary.password() {
            Some(password) => self.line(line).line(format!("masterauth {password}")),
            None => self.line(line),
        }
    }

    /// Asks every client for this password (`requirepass`), and gives it to its own upstream.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.line(format!("requirepass {password}"))
            .line(format!("masterauth {password}"))
    }

    /// With or without a configuration file.
    #[must_use]
    pub fn config_file(mut self, config_file: ConfigFile) -> Self {
        self.config_file = config_file;
        self
    }
}

/// One server and its folder. Dropping it kills the server and removes the folder.
#[derive(Debug)]
pub struct RedisServer {
    // Declared before the folder, so that it is dropped first.
    running: Option<Running>,
    dir: TempDir,
    port: u16,
    options: Options,
}

impl RedisServer {
    /// A server with the defaults: no persistence, bound to 127.0.0.1, with a configuration file.
    ///
    /// # Panics
    /// When redis-server is not installed or does not start.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A server that receives from `primary`; it may not yet do so when this returns.
    pub fn replica_of(primary: &Self) -> Self {
        Self::with(Options::default().replica_of(primary))
    }

    /// A server with these options.
    ///
    /// # Panics
    /// When redis-server is not installed or does not start.
    pub fn with(options: Options) -> Self {
        let mut server = Self {
            running: None,
            dir: TempDir::with_prefix("redis-test-").expect("a temporary folder can be made"),
            port: free_port(),
            options,
        };
        for _ in 0..20 {
            server.write_config();
            match server.try_run() {
                Ok(()) => return server,
                // Somebody else took the port between the look and the start.
                Err(log) if log.contains("Address already in use") => server.port = free_port(),
                Err(log) => panic!("redis-server did not start:\n{log}"),
            }
        }
        panic!("no free port found in 20 attempts")
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as the core names it.
    pub fn instance(&self) -> InstanceId {
        InstanceId::new("127.0.0.1", self.port)
    }

    /// The password that it asks for.
    pub fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// Its process, as long as it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.server.id())
    }

    /// Its folder: configuration, log and data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The text of its configuration file, as `CONFIG REWRITE` left it.
    pub fn config(&self) -> String {
        fs::read_to_string(self.config_path()).expect("the server has a configuration file")
    }

    /// The text of its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir().join("log")).unwrap_or_default()
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill9(&mut self) {
        self.running = None;
    }

    /// Stops it (SIGSTOP): it keeps its port and connections and does not answer.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues it (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it if it runs, and starts it again with its data and its configuration, on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.kill9();
        if let Err(log) = self.try_run() {
            panic!("redis-server did not start again:\n{log}");
        }
    }

    /// The same, with its data removed: the configuration stays.
    ///
    /// # Panics
    /// When its folder cannot be read or it does not start.
    pub fn restart_empty(&mut self) {
        self.kill9();
        self.remove_data();
        self.restart();
    }

    /// Runs one command on a connection of its own and returns the reply.
    ///
    /// # Panics
    /// When the server does not answer or answers with an error; the text holds it.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> redis::Value {
        match self.try_cli(arguments) {
            Ok(value) => value,
            Err(error) => panic!("{arguments:?} at port {}: {error}", self.port),
        }
    }

    /// The same, with the server's error as a result.
    ///
    /// # Errors
    /// When the server does not answer within ten seconds, or answers with an error.
    pub fn try_cli(&self, arguments: &[&str]) -> redis::RedisResult<redis::Value> {
        let (name, rest) = arguments
            .split_first()
            .expect("a command has at least its name");
        redis::cmd(name).arg(rest).query(&mut self.connect()?)
    }

    /// A blocking client connection, with the password if there is one.
    ///
    /// # Errors
    /// When the server does not accept it.
    pub fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        let timeout = Duration::from_secs(10);
        let mut connection = client.get_connection_with_timeout(timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(timeout))?;
        if let Some(password) = self.password() {
            redis::cmd("AUTH").arg(password).exec(&mut connection)?;
        }
        Ok(connection)
    }

    /// One field of `INFO`; `None` where it does not exist or the server does not answer.
    pub fn info(&self, field: &str) -> Option<String> {
        self.all_info()?.remove(field)
    }

    /// Every field of `INFO`; `None` where the server does not answer.
    pub fn all_info(&self) -> Option<BTreeMap<String, String>> {
        let mut connection = self.connect().ok()?;
        let text: String = redis::cmd("INFO")
            .arg("everything")
            .query(&mut connection)
            .ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Some(
            fields
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    /// Waits until a field of `INFO` has a value.
    ///
    /// # Panics
    /// When it does not come within [`wait::BOUND`].
    #[track_caller]
    pub fn wait_for_info(&self, field: &str, value: &str) {
        let what = format!("{field}:{value} at port {}", self.port);
        wait::until(&what, || (self.info(field)? == value).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("the server runs");
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process id is not zero");
        kill_process(pid, signal).expect("our own child can be signalled");
    }

    fn config_path(&self) -> PathBuf {
        self.dir().join("redis.conf")
    }

    fn settings(&self) -> Vec<String> {
        let mut settings = vec![
            format!("port {}", self.port),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", self.dir().display()),
            format!("logfile {}", self.dir().join("log").display()),
            "save \"\"".to_owned(),
            "appendonly no".to_owned(),
            "loglevel notice".to_owned(),
            // The first sync of a test's replicas need not wait five seconds; the adapter sets its own delay.
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        settings.extend(self.options.lines.iter().cloned());
        settings
    }

    fn write_config(&self) {
        fs::write(self.config_path(), self.settings().join("\n") + "\n")
            .expect("the temporary folder is writable");
    }

    fn command(&self) -> Command {
        let mut command = Command::new("redis-server");
        match self.options.config_file {
            ConfigFile::Written => {
                command.arg(self.config_path());
            }
            ConfigFile::Absent => {
                for line in self.settings() {
                    let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
                    command.arg(format!("--{name}"));
                    command.args(value.split(' ').map(|word| word.trim_matches('"')));
                }
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// The error is the server's log.
    fn try_run(&mut self) -> Result<(), String> {
        let _ = fs::remove_file(self.dir().join("log"));
        let server = self
            .command()
            .spawn()
            .expect("redis-server is installed (apt-get install redis-server)");
        let mut running = Running::guarded(server, self.dir()).expect("sh exists");
        let answers = wait::until("redis-server answers or ends", || {
            if running.has_ended() {
                return Some(false);
            }
            let pong = self.try_cli(&["PING"]).ok()?;
            (pong == redis::Value::SimpleString("PONG".into())).then_some(true)
        });
        // A PONG of somebody else on the port is not ours: our process then ends.
        if !answers || running.has_ended() {
            return Err(self.log());
        }
        self.running = Some(running);
        Ok(())
    }

    fn remove_data(&self) {
        for entry in fs::read_dir(self.dir()).expect("the folder exists") {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() {
                fs::remove_dir_all(&path).expect("the folder is writable");
            } else if path
                .extension()
                .is_some_and(|kind| kind == "rdb" || kind == "aof")
            {
                fs::remove_file(&path).expect("the folder is writable");
            }
        }
    }
}

/// A server's process, and the guard that outlives the test process by the moment that it takes to
/// kill the server. The kernel's "death signal" would fire when the starting *thread* ends.
#[derive(Debug)]
pub(crate) struct Running {
    server: Child,
    guard: Child,
}

impl Running {
    pub(crate) fn guarded(server: Child, dir: &Path) -> io::Result<Self> {
        let guard = Command::new("sh")
            .arg("-c")
            .arg("read _; kill -9 \"$1\"; rm -rf \"$2\"")
            .arg("redis-server-guard")
            .arg(server.id().to_string())
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { server, guard })
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.server.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The guard goes first: it must not kill a later process that got the same id.
        for child in [&mut self.guard, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(server: &RedisServer) -> bool {
        server.try_cli(&["PING"]).is_ok()
    }

    #[test]
    fn restarts_with_and_without_its_data() {
        let mut server = RedisServer::start();
        server.cli(&["SET", "a", "1"]);
        server.cli(&["SAVE"]);
        server.restart();
        assert_eq!(server.cli(&["DBSIZE"]), redis::Value::Int(1));
        server.restart_empty();
        assert_eq!(server.cli(&["DBSIZE"]), redis::Value::Int(0));
    }

    #[test]
    fn is_killed_and_its_folder_removed() {
        let mut server = RedisServer::start();
        server.kill9();
        assert!(!answers(&server));
        let dir = server.dir().to_owned();
        drop(server);
        assert!(!dir.exists());
    }

    #[test]
    fn a_paused_server_can_be_dropped() {
        let server = RedisServer::start();
        server.pause();
        server.resume();
        assert!(answers(&server));
        server.pause();
    }

    #[test]
    fn follows_a_primary_with_a_password() {
        let primary = RedisServer::with(Options::default().password("secret"));
        let replica = RedisServer::with(Options::default().password("secret").replica_of(&primary));
        replica.wait_for_info("master_link_status", "up");
    }

    #[test]
    fn runs_without_a_configuration_file() {
        let server = RedisServer::with(Options::default().config_file(ConfigFile::Absent));
        assert_eq!(server.info("config_file").as_deref(), Some(""));
        assert!(server.try_cli(&["CONFIG", "REWRITE"]).is_err());
    }
}
