//! A way to a server that can be made to stall in the middle of a large transfer, so that a test ends a rewind or a base
//! backup exactly there, or lets it go on piece by piece.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

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
    /// Bytes that one connection may carry to its client; `None` for any number.
    limit: Mutex<Option<u64>>,
    raised: Condvar,
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
        self.limit(Some(bytes));
    }

    /// Each connection may carry so much more.
    pub(crate) fn pass_more(&self, bytes: u64) {
        let limit = *self.state.limit.lock().unwrap();
        self.limit(limit.map(|limit| limit + bytes));
    }

    pub(crate) fn wait_until_stalled(&self) {
        wait::until("a transfer stalls", || {
            self.state.stalled.load(Ordering::SeqCst).then_some(())
        });
    }

    /// From now on connections carry everything.
    pub(crate) fn pass_everything(&self) {
        self.limit(None);
    }

    fn limit(&self, limit: Option<u64>) {
        *self.state.limit.lock().unwrap() = limit;
        self.state.raised.notify_all();
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
        let over = |limit: &mut Option<u64>| limit.is_some_and(|limit| carried > limit);
        let mut limit = state.limit.lock().unwrap();
        if over(&mut limit) {
            state.stalled.store(true, Ordering::SeqCst);
            limit = state.raised.wait_while(limit, over).unwrap();
        }
        drop(limit);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}
