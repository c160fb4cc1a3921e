//! Draws ports of 127.0.0.1 for the servers of tests, each for one test process only.
//!
//! A server that was killed gets its port back when it starts again, and the address of one that starts later is known
//! before: until then nobody listens there. So a port is reserved, for as long as the process lives, by a name among the
//! abstract Unix sockets, which the kernel gives to one process and takes back when it ends. Who does not ask here may
//! still take one.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

use rand::Rng as _;

/// Below the range from which the kernel draws ports of outgoing connections: in it, somebody who
/// tries again and again to reach a dead server's port ends up connected to itself. And below the ports of `sentinel demo`.
const PORTS: Range<u16> = 10_000..20_000;

static RESERVED: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port that is free at the moment, and that no other test is given while this process lives.
///
/// # Panics
/// When the machine has no abstract Unix sockets.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(PORTS);
        let Some(reserved) = reserve(port) else {
            continue;
        };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            let mut all = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(reserved);
            return port;
        }
    }
}

/// `None` where another test has it.
fn reserve(port: u16) -> Option<UnixListener> {
    let name = format!("sentinel-test-port-{port}");
    let address = SocketAddr::from_abstract_name(name).expect("the name is short enough");
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => None,
        Err(error) => panic!("no port can be reserved: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let port = free_port();
        assert!(reserve(port).is_none());
    }
}
