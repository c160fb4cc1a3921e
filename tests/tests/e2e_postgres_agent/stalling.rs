//! A way to a server that can be made to stall in the middle of a large transfer, so that a test ends a rewind or a base
//! backup exactly there.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sentinel_core::id::InstanceId;
use sentinel_tests::postgres_server::PostgresServer;
use sentinel_tests::wait;

/// Passes connections on to a server.
pub(crate) struct Stalling {
    instance: InstanceId,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that one connection may carry to its client; zero for any number.
    limit: AtomicU64,
    stalled: AtomicBool,
}

impl Stalling {
    pub(crate) fn before(server: &PostgresServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let instance = InstanceId::new("127.0.0.1", listener.local_addr().unwrap().port());
        let state = Arc::new(State::default());
        let (port, shared) = (server.port(), Arc::clone(&state));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    pass(&client, &server, &shared);
                }
            }
        });
        Self { instance, state }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        self.instance.clone()
    }

    /// From now on a connection stalls after so many bytes to its client.
    pub(crate) fn stall_after(&self, bytes: u64) {
        self.state.limit.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn wait_until_stalled(&self) {
        wait::until("a transfer stalls", || {
            self.state.stalled.load(Ordering::SeqCst).then_some(())
        });
    }

    /// From now on connections carry everything; those that stalled end.
    pub(crate) fn pass_everything(&self) {
        self.state.limit.store(0, Ordering::SeqCst);
    }
}

fn pass(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    let both = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (from, to) = both();
    std::thread::spawn(move || carry(from, to, &State::default()));
    let (to, from) = both();
    let state = Arc::clone(state);
    std::thread::spawn(move || carry(from, to, &state));
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut carried = 0;
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        carried += read as u64;
        let limit = state.limit.load(Ordering::SeqCst);
        if limit != 0 && carried > limit {
            state.stalled.store(true, Ordering::SeqCst);
            // Nothing more comes, and the connection stands until its client ends it.
            drop(to.read(&mut buffer));
            break;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
