//! Which ports and files the processes have, and what their settings say.
//!
//! Pure text, except that free ports are looked for. Starts nothing.

use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::Rng as _;
use sentinel_core::id::InstanceId;

/// Name of the guarded service.
pub(super) const SERVICE: &str = "demo";

/// Servers: a primary and two replicas.
pub(super) const SERVERS: usize = 3;

/// Voters.
pub(super) const VOTERS: usize = 3;

/// From where the replica connects that is cut off together with the primary; all of 127.0.0.0/8 is this machine.
pub(super) const COMPANION_ADDRESS: &str = "127.0.0.2";

/// Below the range from which the kernel draws the ports of outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// One database server.
#[derive(Clone, Debug)]
pub(super) struct ServerPlan {
    /// For messages and file names.
    pub(super) name: String,
    /// Where it listens.
    pub(super) direct: InstanceId,
    /// Where everybody is told that it is: itself, or a proxy in front of it.
    pub(super) address: InstanceId,
    /// Whom it follows at first, and from which address.
    follows: Option<(InstanceId, Option<&'static str>)>,
}

/// One voter.
#[derive(Clone, Debug)]
pub(super) struct VoterPlan {
    /// Its name in the cluster.
    pub(super) name: String,
    peer: InstanceId,
    pub(super) resp: InstanceId,
    pub(super) http: InstanceId,
}

/// Everything that is going to run.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// The primary first, then the replica that is cut off together with it.
    pub(super) servers: Vec<ServerPlan>,
    pub(super) voters: Vec<VoterPlan>,
    wiring: Wiring,
    down_after: Duration,
}

/// Whether proxies stand in front of the primary and one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// Everybody connects directly.
    Direct,
    /// They can be cut off.
    Separable,
}

impl Layout {
    /// Finds free ports for everything.
    pub(super) fn new(folder: &Path, wiring: Wiring, down_after: Duration) -> io::Result<Self> {
        let mut ports = free_ports(2 * SERVERS + 3 * VOTERS)?.into_iter();
        let mut loopback = || InstanceId::new("127.0.0.1", ports.next().unwrap_or_default());
        let servers = (0..SERVERS).fold(Vec::<ServerPlan>::new(), |mut servers, index| {
            let (direct, proxy) = (loopback(), loopback());
            let separable = wiring == Wiring::Separable && index < 2;
            let source = (separable && index == 1).then_some(COMPANION_ADDRESS);
            servers.push(ServerPlan {
                name: format!("redis-{}", index + 1),
                address: if separable { proxy } else { direct.clone() },
                direct,
                follows: servers
                    .first()
                    .map(|primary| (primary.address.clone(), source)),
            });
            servers
        });
        let voters = (1..=VOTERS)
            .map(|number| VoterPlan {
                name: format!("s{number}"),
                peer: loopback(),
                resp: loopback(),
                http: loopback(),
            })
            .collect();
        Ok(Self {
            folder: folder.to_owned(),
            servers,
            voters,
            wiring,
            down_after,
        })
    }

    /// The folder of one process, with its settings and its log.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The settings file of one process.
    pub(super) fn settings(&self, name: &str) -> PathBuf {
        self.folder(name).join("settings.conf")
    }

    /// The log of one process.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder(name).join("log")
    }

    /// The file with the acknowledged keys.
    pub(super) fn acknowledged(&self) -> PathBuf {
        self.folder.join("acknowledged.txt")
    }

    /// What a server's configuration file says: small, and nothing on the disk but itself.
    pub(super) fn server_settings(&self, server: &ServerPlan) -> String {
        let mut text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nlogfile log\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n",
            server.direct.port(),
            self.folder(&server.name).display(),
        );
        if server.address != server.direct {
            let (host, port) = (server.address.host(), server.address.port());
            push(&mut text, format_args!("replica-announce-ip {host}\n"));
            push(&mut text, format_args!("replica-announce-port {port}\n"));
        }
        if self.wiring == Wiring::Separable {
            // It turns away whoever comes from another address than 127.0.0.1, as the companion does.
            text.push_str("protected-mode no\n");
        }
        if let Some((primary, source)) = &server.follows {
            let (host, port) = (primary.host(), primary.port());
            push(&mut text, format_args!("replicaof {host} {port}\n"));
            if let Some(source) = source {
                push(&mut text, format_args!("bind-source-addr {source}\n"));
            }
        }
        text
    }

    /// What a voter's settings file says.
    pub(super) fn voter_settings(&self, voter: &VoterPlan) -> String {
        let primary = self.servers.first().map(|server| &server.address);
        let mut text = format!(
            "[node]\ncluster = \"demo\"\nname = \"{}\"\ndata_dir = \"data\"\n\n\
             [listen]\npeer = \"{}\"\nresp = \"{}\"\nhttp = \"{}\"\n\n[voters]\n",
            voter.name, voter.peer, voter.resp, voter.http
        );
        for voter in &self.voters {
            push(
                &mut text,
                format_args!("{} = \"{}\"\n", voter.name, voter.peer),
            );
        }
        push(
            &mut text,
            format_args!("\n[[service]]\nname = \"{SERVICE}\"\nengine = \"redis\"\n"),
        );
        if let Some(primary) = primary {
            push(&mut text, format_args!("instances = [\"{primary}\"]\n"));
        }
        let down_after = humantime::format_duration(self.down_after);
        push(&mut text, format_args!("down_after = \"{down_after}\"\n"));
        text
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .expect("writing to a String cannot fail");
}

/// Different ports that nobody listens at. Somebody may take one before it is used; the start is then repeated.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::with_capacity(count);
    let mut attempts = 0;
    while held.len() < count {
        let port = rand::rng().random_range(PORTS);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => held.push((port, listener)),
            Err(error) if attempts == 1000 => return Err(error),
            Err(_) => attempts += 1,
        }
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}
