//! Which node is asked: `--node`, then `SENTINEL_NODE`, then the HTTP address in `--config`, then the default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sentinel_core::id::InstanceId;

use super::args::SettingsArg;
use super::failure::Failure;
use crate::client::Client;
use crate::exit::ExitCode;
use crate::settings::{self, Settings};

/// The client of the node that the command line means. `node` holds the option or the variable already.
pub(super) fn client(node: Option<&str>, settings: &SettingsArg) -> Result<Client, Failure> {
    match node {
        Some(_) => client_of(node, None),
        None => client_of(None, load(settings)?.as_ref()),
    }
}

/// The settings that `--config` names.
pub(super) fn load(settings: &SettingsArg) -> Result<Option<Settings>, Failure> {
    Ok(settings.config.as_deref().map(Settings::load).transpose()?)
}

/// The same as [`client`], of settings that are loaded already.
pub(super) fn client_of(
    node: Option<&str>,
    settings: Option<&Settings>,
) -> Result<Client, Failure> {
    if let Some(node) = node {
        return Ok(Client::at(node)?);
    }
    let address = match settings {
        Some(settings) => settings.listen.http,
        None => settings::http_default(),
    };
    if address.port() == 0 {
        return Err(Failure::new(
            ExitCode::Usage,
            "`listen.http` has port 0, so its address is not known from the settings: give --node",
            "the node writes its addresses to its log when it is ready",
        ));
    }
    let reachable = reachable(address);
    Ok(Client::new(InstanceId::new(
        reachable.ip().to_string(),
        reachable.port(),
    )))
}

/// A node that listens on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address.ip(),
    };
    SocketAddr::new(ip, address.port())
}

/// The name as it may stand in a path.
pub(super) fn service_name(given: &str) -> Result<&str, Failure> {
    settings::check_name(given)
        .map(|()| given)
        .map_err(|problem| {
            Failure::new(
                ExitCode::Usage,
                format!("SERVICE {problem}"),
                "`sentinel status` lists the services",
            )
        })
}
