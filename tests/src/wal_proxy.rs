//! Stands between a standby and its upstream, and cuts the stream of the log at a chosen byte.
//!
//! What lies before the cut is passed, of a message across it the part before; nothing after. Keepalives and everything
//! else go on, so the connection stays until the upstream ends it. Encryption is declined, and nothing of who logs in is
//! looked at. Knows ports and bytes, no servers; how a message is cut is in `frames`.

mod frames;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use sentinel_core::position::Offset;

use frames::FirstPacket;

/// The proxy of one standby. Dropping it closes its port and its connections, and waits for its threads.
#[derive(Debug)]
pub struct WalProxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: u16,
    /// The first byte that does not pass.
    cut: AtomicU64,
    open: Mutex<Open>,
}

/// Both ends of every connection; `None` once no more are taken.
#[derive(Debug)]
struct Open {
    ends: Option<BTreeMap<u64, [TcpStream; 2]>>,
    next: u64,
}

impl WalProxy {
    /// A proxy on a free port, before this port of 127.0.0.1, that cuts nothing yet.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn before(upstream: u16) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let port = listener
            .local_addr()
            .expect("a bound socket has an address")
            .port();
        let shared = Arc::new(Shared {
            upstream,
            cut: AtomicU64::new(u64::MAX),
            open: Mutex::new(Open {
                ends: Some(BTreeMap::new()),
                next: 0,
            }),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            port,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Its own port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets pass what lies before this byte of the log, from the next message on.
    pub fn cut_at(&self, first_withheld: Offset) {
        self.shared.cut.store(first_withheld.0, Ordering::SeqCst);
    }
}

impl Drop for WalProxy {
    fn drop(&mut self) {
        if let Some(ends) = self.shared.open().ends.take() {
            for ends in ends.values() {
                close(ends);
            }
        }
        // Wakes the thread that accepts; it finds that no more are taken.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nobody panics while he holds it")
    }

    /// `None` when no more are taken.
    fn register(&self, ends: [TcpStream; 2]) -> Option<u64> {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.ends.as_mut()?.insert(number, ends);
        Some(number)
    }

    fn forget(&self, number: u64) {
        if let Some(ends) = &mut self.open().ends {
            ends.remove(&number);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Shared) {
    thread::scope(|connections| {
        while shared.open().ends.is_some() {
            let Ok((standby, _)) = listener.accept() else {
                return;
            };
            connections.spawn(move || {
                // A refused upstream, and every other end: the standby sees a closed connection and tries again.
                let _ = serve(standby, shared);
            });
        }
    });
}

fn serve(standby: TcpStream, shared: &Shared) -> io::Result<()> {
    let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.upstream))?;
    for end in [&standby, &upstream] {
        end.set_nodelay(true)?;
    }
    let ends = [standby.try_clone()?, upstream.try_clone()?];
    let Some(number) = shared.register(ends) else {
        return Ok(());
    };
    let ends = [standby, upstream];
    thread::scope(|directions| {
        directions.spawn(|| {
            let _ = pass_up(&ends[0], &ends[1]);
            close(&ends);
        });
        let _ = pass_down(&ends[1], &ends[0], &shared.cut);
        close(&ends);
    });
    shared.forget(number);
    Ok(())
}

fn pass_up(mut standby: &TcpStream, mut upstream: &TcpStream) -> io::Result<()> {
    loop {
        match frames::read_first(&mut standby)? {
            FirstPacket::EncryptionRequest => standby.write_all(b"N")?,
            FirstPacket::Start(packet) => {
                upstream.write_all(&packet)?;
                break;
            }
        }
    }
    let mut buffer = [0; 4096];
    loop {
        let length = standby.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        upstream.write_all(&buffer[..length])?;
    }
}

fn pass_down(upstream: &TcpStream, mut standby: &TcpStream, cut: &AtomicU64) -> io::Result<()> {
    let mut upstream = io::BufReader::new(upstream);
    loop {
        let message = frames::read_message(&mut upstream)?;
        if let Some(message) = frames::before(message, Offset(cut.load(Ordering::SeqCst))) {
            standby.write_all(&message)?;
        }
    }
}

fn close(ends: &[TcpStream; 2]) {
    for end in ends {
        // Fails where it is closed already.
        let _ = end.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn closes_its_connections_when_it_is_dropped() {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = WalProxy::before(upstream.local_addr().unwrap().port());
        let mut standby = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        let (mut served, _) = upstream.accept().unwrap();
        let start = [0, 0, 0, 8, 0, 3, 0, 0];
        standby.write_all(&start).unwrap();
        let mut got = [0; 8];
        served.read_exact(&mut got).unwrap();
        assert_eq!(got, start);
        served.write_all(b"Z\0\0\0\x05I").unwrap();
        let mut answer = [0; 6];
        standby.read_exact(&mut answer).unwrap();
        drop(proxy);
        assert_eq!(standby.read(&mut got).unwrap(), 0);
        assert_eq!(served.read(&mut got).unwrap(), 0);
    }

    #[test]
    fn closes_a_connection_whose_upstream_is_gone() {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let proxy = WalProxy::before(upstream.local_addr().unwrap().port());
        drop(upstream);
        let mut standby = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        assert_eq!(standby.read(&mut [0]).unwrap(), 0);
    }
}
