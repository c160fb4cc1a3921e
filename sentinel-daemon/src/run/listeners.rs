//! Binds every port of a node before anything else is touched, and says where the node can be reached.
//!
//! Port 0 takes any free port; what was taken is what is announced. Accepts nothing itself.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use sentinel_core::id::InstanceId;
use tokio::net::TcpListener;

use crate::settings::{Listen, Settings};

/// The bound ports.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) peer: TcpListener,
    pub(super) resp: TcpListener,
    pub(super) http: TcpListener,
}

/// Why a port cannot be had. The others that were bound are free again.
#[derive(Debug, thiserror::Error)]
#[error("`listen.{field}`: {}", explain(address, source))]
pub struct BindError {
    /// The field that names it.
    pub field: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn explain(address: &SocketAddr, source: &io::Error) -> String {
    let (host, port) = (address.ip(), address.port());
    if source.kind() == ErrorKind::AddrInUse {
        format!(
            "port {port} at {host} is in use: stop the process that has it, or use another port"
        )
    } else if source.kind() == ErrorKind::AddrNotAvailable {
        format!("{host} is no address of this machine: use one of its own, or 0.0.0.0 for all")
    } else if source.kind() == ErrorKind::PermissionDenied {
        format!("port {port} is not allowed for this user: use one above 1023")
    } else {
        format!("{address} cannot be bound: {source}: use another address")
    }
}

impl Listeners {
    /// Binds all of them, or none.
    pub(super) async fn bind(listen: &Listen) -> Result<Self, BindError> {
        Ok(Self {
            peer: bind("peer", listen.peer).await?,
            resp: bind("resp", listen.resp).await?,
            http: bind("http", listen.http).await?,
        })
    }

    /// The addresses that were really bound.
    pub(super) fn addresses(&self) -> io::Result<Listen> {
        Ok(Listen {
            peer: self.peer.local_addr()?,
            resp: self.resp.local_addr()?,
            http: self.http.local_addr()?,
        })
    }
}

async fn bind(field: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError {
            field,
            address,
            source,
        })
}

/// Where clients reach an endpoint: as announced in the settings, else as bound, else, bound on every address, at this
/// node's host in `[voters]`. `None` when none of these is known.
pub(super) fn announced(
    settings: &Settings,
    given: Option<&InstanceId>,
    bound: SocketAddr,
) -> Option<InstanceId> {
    if let Some(given) = given {
        return Some(given.clone());
    }
    if !bound.ip().is_unspecified() {
        return Some(InstanceId::new(bound.ip().to_string(), bound.port()));
    }
    let own = settings.voters.get(&settings.node.name)?;
    Some(InstanceId::new(own.host(), bound.port()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::path::Path;

    use super::*;

    fn listen(http: &str) -> Listen {
        Listen {
            peer: "127.0.0.1:0".parse().unwrap(),
            resp: "127.0.0.1:0".parse().unwrap(),
            http: http.parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn port_zero_takes_a_free_one() {
        let listeners = Listeners::bind(&listen("127.0.0.1:0")).await.unwrap();
        let bound = listeners.addresses().unwrap();
        assert!(bound.peer.port() != 0 && bound.peer != bound.resp && bound.resp != bound.http);
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_field() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listeners::bind(&listen(&address.to_string()))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "`listen.http`: port {} at 127.0.0.1 is in use: stop the process that has it, or use another port",
                address.port()
            )
        );
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = Listeners::bind(&listen("192.0.2.1:1")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`listen.http`: 192.0.2.1 is no address of this machine: use one of its own, or 0.0.0.0 for all"
        );
    }

    #[test]
    fn what_is_bound_everywhere_is_announced_at_the_voters_host() {
        let text = "[node]\ncluster = \"main\"\nname = \"s1\"\ndata_dir = \"d\"\n[voters]\ns1 = \"10.0.0.11:26380\"\n";
        let settings = Settings::parse(Path::new("s.toml"), text).unwrap();
        let everywhere = "0.0.0.0:7".parse().unwrap();
        let loopback = "127.0.0.1:7".parse().unwrap();
        let given = InstanceId::new("public", 9);
        for (given, bound, wanted) in [
            (None, loopback, "127.0.0.1:7"),
            (None, everywhere, "10.0.0.11:7"),
            (Some(&given), everywhere, "public:9"),
        ] {
            let found = announced(&settings, given, bound).unwrap();
            assert_eq!(found.to_string(), wanted);
        }
    }
}
