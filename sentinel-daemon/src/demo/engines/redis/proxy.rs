//! A TCP proxy that can fall silent: how the network falls apart on one machine without being root.
//!
//! Knows who connects by the address that the connection comes from. Silence is that of a cut cable: nothing is
//! closed and nothing is answered until it is healed; connections that stood in it are closed then.

use std::io;
use std::net::IpAddr;

use sentinel_core::id::InstanceId;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Whether packets arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cable {
    /// They do.
    Whole,
    /// Only those of the companion do.
    Cut,
}

/// Passes on what arrives until it is dropped. The companion is on the server's side of every cut.
pub(super) async fn serve(
    listener: TcpListener,
    server: InstanceId,
    companion: IpAddr,
    cable: watch::Receiver<Cable>,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (client, from) = listener.accept().await?;
        let (server, cable) = (server.clone(), cable.clone());
        connections.spawn(async move {
            // However it ends, both sides see the connection closed.
            if from.ip() == companion {
                drop(pass(client, &server).await);
            } else {
                through(client, &server, cable).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut client: TcpStream, server: &InstanceId) -> io::Result<(u64, u64)> {
    let mut server = TcpStream::connect((server.host(), server.port())).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await
}

async fn through(client: TcpStream, server: &InstanceId, cable: watch::Receiver<Cable>) {
    let mut passing = std::pin::pin!(pass(client, server));
    tokio::select! {
        // A connection that is made while the cable is cut must not pass a single byte.
        biased;
        () = becomes(cable.clone(), Cable::Cut) => becomes(cable, Cable::Whole).await,
        passed = &mut passing => drop(passed),
    }
}

async fn becomes(mut cable: watch::Receiver<Cable>, wanted: Cable) {
    // An error means that everything ends, this with it.
    drop(cable.wait_for(|cable| *cable == wanted).await);
}
