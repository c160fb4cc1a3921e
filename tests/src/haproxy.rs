//! A real HAProxy with a configuration made for Patroni, of which only addresses and ports differ.
//!
//! Starts it, asks it which servers it holds for up, and ends it when dropped. Knows nothing of who answers its checks.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::port::free_port;
use crate::wait;

/// Where distributions keep it; not on every user's path.
const PROGRAMS: [&str; 3] = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "haproxy"];

/// As in `extras/confd/templates/haproxy.tmpl` of Patroni, with a socket to ask for the state in place of the page for people.
const BEGINNING: &str = "\
global
    maxconn 100
    stats socket {socket} mode 600 level admin

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s
";

/// One server behind it: where clients are sent, and where its health is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The database.
    pub server: SocketAddr,
    /// The agent's HTTP endpoint.
    pub check: SocketAddr,
}

/// How often HAProxy asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As Patroni's documentation has it.
    Documented,
    /// As `docs/operations.md` advises.
    Advised,
}

/// A running HAProxy. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    process: Child,
    folder: TempDir,
    /// Where clients find the primary.
    pub primary: SocketAddr,
    /// Where clients find replicas.
    pub replicas: SocketAddr,
}

impl Haproxy {
    /// Starts it in front of these servers, and waits until it takes clients. Until it has asked a server for the first
    /// time, it holds it for up.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn start(servers: &[Behind], pace: Pace) -> Self {
        let program = PROGRAMS.into_iter().find(|program| {
            let version = Command::new(program)
                .arg("-v")
                .stdout(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        });
        let program = program.expect("HAProxy is installed (scripts/install-prerequisites test)");
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let [primary, replicas] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let file = folder.path().join("haproxy.cfg");
        let mut text = BEGINNING.replace("{socket}", &socket(folder.path()).to_string_lossy());
        for (name, bind, check) in [
            ("primary", primary, "OPTIONS /primary"),
            ("replicas", replicas, "HEAD /replica"),
        ] {
            text += &listen((name, bind), check, pace, servers);
        }
        fs::write(&file, &text).expect("the folder is ours");
        let process = Command::new(program)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log(folder.path())).expect("the folder is ours"))
            .spawn()
            .expect("HAProxy starts");
        let mut started = Self {
            process,
            folder,
            primary,
            replicas,
        };
        wait::until("HAProxy runs", || {
            let ended = started.process.try_wait().expect("a child can be asked");
            assert_eq!(ended, None, "HAProxy ended: {}\n{text}", started.log());
            (started.rows()?.len() == 2 * servers.len()).then_some(())
        });
        started
    }

    /// The servers that it holds for up in `primary` or `replicas`, by their address.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn up(&self, proxy: &str) -> Vec<SocketAddr> {
        let rows = self.rows().expect("HAProxy answers");
        let rows = rows
            .iter()
            .filter(|row| row[PROXY] == proxy && row[STATUS].starts_with("UP"));
        rows.map(|row| row[ADDRESS].parse().expect("an address"))
            .collect()
    }

    /// The rows of servers in `show stat`; `None` while it does not answer.
    fn rows(&self) -> Option<Vec<Vec<String>>> {
        let mut stream = UnixStream::connect(socket(self.folder.path())).ok()?;
        stream.write_all(b"show stat\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let rows = text.lines().filter(|line| !line.starts_with('#'));
        let rows = rows.map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let servers = rows.filter(|row| row.len() > ADDRESS && row[KIND] == "2");
        Some(servers.collect())
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(log(self.folder.path())).unwrap_or_default()
    }

    /// Waits until it holds exactly these servers for up in `primary` or `replicas`.
    ///
    /// # Panics
    /// When that does not happen within [`wait::BOUND`].
    #[track_caller]
    pub fn wait_for_up(&self, proxy: &str, servers: &[SocketAddr]) {
        let what = format!("HAProxy holds {servers:?} for up in {proxy}");
        wait::until(&what, || (self.up(proxy) == servers).then_some(()));
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

// Columns of `show stat`, which are only ever added to at the end.
const PROXY: usize = 0;
const STATUS: usize = 17;
const KIND: usize = 32;
const ADDRESS: usize = 73;

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("stats")
}

fn listen((name, bind): (&str, SocketAddr), check: &str, pace: Pace, servers: &[Behind]) -> String {
    let inter = match pace {
        Pace::Documented => "inter 3s fall 3 rise 2",
        Pace::Advised => "inter 500ms fastinter 250ms fall 2 rise 2",
    };
    let mut text = format!(
        "\nlisten {name}\n    bind {bind}\n    option httpchk {check}\n    http-check expect status 200\n    \
         default-server {inter} on-marked-down shutdown-sessions\n"
    );
    for Behind { server, check } in servers {
        // All is on one host, so each agent has a port of its own where Patroni's is 8008 everywhere.
        let (ip, port) = (server.ip(), server.port());
        let line = format!(
            "    server postgresql_{ip}_{port} {server} maxconn 100 check port {}\n",
            check.port()
        );
        text.write_str(&line)
            .expect("writing to a string cannot fail");
    }
    text
}
