//! Where the Redis servers listen, and what their configuration files say.
//!
//! Pure text. Starts nothing.

use std::fmt::Write as _;
use std::path::Path;

use sentinel_core::id::InstanceId;

use crate::demo::engines::SERVERS;
use crate::demo::plan::ServicePlan;
use crate::demo::site::Site;

/// From where the replica connects that is cut off together with the primary; all of 127.0.0.0/8 is this machine.
pub(super) const COMPANION_ADDRESS: &str = "127.0.0.2";

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

/// Whether proxies stand in front of the primary and one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wiring {
    /// Everybody connects directly.
    Direct,
    /// They can be cut off.
    Separable,
}

/// The primary first, then the replica that is cut off together with it.
pub(super) fn servers(site: &mut Site, wiring: Wiring) -> Vec<ServerPlan> {
    (0..SERVERS).fold(Vec::<ServerPlan>::new(), |mut servers, index| {
        let direct = site.loopback();
        let separable = wiring == Wiring::Separable && index < 2;
        let source = (separable && index == 1).then_some(COMPANION_ADDRESS);
        servers.push(ServerPlan {
            name: format!("redis-{}", index + 1),
            address: if separable {
                site.loopback()
            } else {
                direct.clone()
            },
            direct,
            follows: servers
                .first()
                .map(|primary| (primary.address.clone(), source)),
        });
        servers
    })
}

impl ServerPlan {
    /// What its configuration file says: small, and nothing on the disk but itself.
    pub(super) fn settings(&self, folder: &Path, wiring: Wiring) -> String {
        let mut text = format!(
            "bind 127.0.0.1\nport {}\ndir {}\nlogfile log\nsave \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n",
            self.direct.port(),
            folder.display(),
        );
        if self.address != self.direct {
            let (host, port) = (self.address.host(), self.address.port());
            push(&mut text, format_args!("replica-announce-ip {host}\n"));
            push(&mut text, format_args!("replica-announce-port {port}\n"));
        }
        if wiring == Wiring::Separable {
            // It turns away whoever comes from another address than 127.0.0.1, as the companion does.
            text.push_str("protected-mode no\n");
        }
        if let Some((primary, source)) = &self.follows {
            let (host, port) = (primary.host(), primary.port());
            push(&mut text, format_args!("replicaof {host} {port}\n"));
            if let Some(source) = source {
                push(&mut text, format_args!("bind-source-addr {source}\n"));
            }
        }
        text
    }
}

/// What the nodes are told about the service.
pub(super) fn of_nodes(plan: &ServicePlan, primary: &InstanceId) -> String {
    let down_after = humantime::format_duration(plan.down_after);
    format!(
        "\n[[service]]\nname = \"{}\"\nengine = \"redis\"\ninstances = [\"{primary}\"]\ndown_after = \"{down_after}\"\n",
        plan.name
    )
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .expect("writing to a String cannot fail");
}
