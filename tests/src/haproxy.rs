//! A real HAProxy with a configuration made for Patroni, of which only addresses and ports differ.
//!
//! Starts it, asks it which servers it holds for up, and ends it when dropped. Knows nothing of who answers its checks.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::port::free_port;
use crate::wait;

/// Where distributions keep it; not on every user's path.
const PROGRAMS: [&str; 3] = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "haproxy"];

/// How both of Patroni's configurations begin. `{…}` are addresses.
const BEGINNING: &str = "\
global
    maxconn 100

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen stats
    mode http
    bind {stats}
    stats enable
    stats uri /
";

/// One server behind it: where clients are sent, and where its health is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The database.
    pub server: SocketAddr,
    /// The agent's HTTP endpoint.
    pub check: SocketAddr,
}

/// Whose configuration. Of the published ones every line is here in its order, and only addresses and ports differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Patroni's sample, `haproxy.cfg`, as in its release 3.0.2: one section, for the primary, which asks for `/`.
    Sample,
    /// Patroni's template, `extras/confd/templates/haproxy.tmpl` of the repository `patroni/patroni`, at its commit
    /// 0f75a1c8: a section for the primary and one for the replicas.
    Template,
    /// The same, asking as often as `docs/operations.md` advises, and as it does.
    Advised,
}

impl Configuration {
    /// The sections: name, and what is asked.
    fn sections(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Without a method and a path HAProxy asks `OPTIONS /`.
            Self::Sample => &[(PRIMARY, "")],
            Self::Template => &[(PRIMARY, " HEAD /primary"), (REPLICAS, " HEAD /replica")],
            Self::Advised => &[
                (PRIMARY, " OPTIONS /primary"),
                (REPLICAS, " OPTIONS /replica"),
            ],
        }
    }

    fn pace(self) -> &'static str {
        match self {
            Self::Sample | Self::Template => "inter 3s fall 3 rise 2",
            Self::Advised => "inter 500ms fastinter 250ms fall 2 rise 2",
        }
    }

    /// The section's name in the file. The sample calls it as its cluster is called.
    fn title(self, section: &'static str) -> &'static str {
        match self {
            Self::Sample => "batman",
            Self::Template | Self::Advised => section,
        }
    }
}

const PRIMARY: &str = "primary";
const REPLICAS: &str = "replicas";

/// A running HAProxy. Dropping it ends it.
#[derive(Debug)]
pub struct Haproxy {
    process: Child,
    folder: TempDir,
    configuration: Configuration,
    /// Its page for people, which has a form for programs.
    stats: SocketAddr,
    servers: Vec<SocketAddr>,
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
    pub fn start(servers: &[Behind], configuration: Configuration) -> Self {
        let program = PROGRAMS.into_iter().find(|program| {
            let version = Command::new(program)
                .arg("-v")
                .stdout(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        });
        let program = program.expect("HAProxy is installed (scripts/install-prerequisites test)");
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let [stats, primary, replicas] =
            [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let file = folder.path().join("haproxy.cfg");
        let mut text = BEGINNING.replace("{stats}", &stats.to_string());
        for (section, check) in configuration.sections() {
            let bind = if *section == PRIMARY {
                primary
            } else {
                replicas
            };
            text += &listen(configuration, (section, bind), check, servers);
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
            configuration,
            stats,
            servers: servers.iter().map(|behind| behind.server).collect(),
            primary,
            replicas,
        };
        let wanted = configuration.sections().len() * servers.len();
        wait::until("HAProxy runs", || {
            let ended = started.process.try_wait().expect("a child can be asked");
            assert_eq!(ended, None, "HAProxy ended: {}\n{text}", started.log());
            (started.rows()?.len() == wanted).then_some(())
        });
        started
    }

    /// The servers that it holds for up in `primary` or `replicas`, by their address.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn up(&self, section: &'static str) -> Vec<SocketAddr> {
        let rows = self.rows().expect("HAProxy answers");
        let title = self.configuration.title(section);
        let is_up = |server: &&SocketAddr| {
            let name = name(**server);
            let mut of = rows
                .iter()
                .filter(|row| row[PROXY] == title && row[SERVER] == name);
            of.any(|row| row[STATUS].starts_with("UP"))
        };
        self.servers.iter().filter(is_up).copied().collect()
    }

    /// The rows of servers on its page; `None` while it does not answer.
    fn rows(&self) -> Option<Vec<Vec<String>>> {
        let mut stream = TcpStream::connect(self.stats).ok()?;
        stream.write_all(b"GET /;csv HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let rows = text.lines();
        let rows = rows.map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let servers = rows.filter(|row| row.len() > KIND && row[KIND] == "2");
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
    pub fn wait_for_up(&self, section: &'static str, servers: &[SocketAddr]) {
        let what = format!("HAProxy holds {servers:?} for up in {section}");
        wait::until(&what, || (self.up(section) == servers).then_some(()));
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

// Columns of the page for programs, which are only ever added to at the end.
const PROXY: usize = 0;
const SERVER: usize = 1;
const STATUS: usize = 17;
const KIND: usize = 32;

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// As the sample names its servers; the template takes the names of Patroni's members.
fn name(server: SocketAddr) -> String {
    format!("postgresql_{}_{}", server.ip(), server.port())
}

fn listen(
    configuration: Configuration,
    (section, bind): (&'static str, SocketAddr),
    check: &str,
    servers: &[Behind],
) -> String {
    let (title, pace) = (configuration.title(section), configuration.pace());
    let mut text = format!(
        "\nlisten {title}\n    bind {bind}\n    option httpchk{check}\n    http-check expect status 200\n    \
         default-server {pace} on-marked-down shutdown-sessions\n"
    );
    for Behind { server, check } in servers {
        // All is on one host, so each agent has a port of its own where Patroni's is 8008 everywhere.
        let (name, port) = (name(*server), check.port());
        let line = format!("    server {name} {server} maxconn 100 check port {port}\n");
        text.push_str(&line);
    }
    text
}
