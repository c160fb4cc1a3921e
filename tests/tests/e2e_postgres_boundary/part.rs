//! A standby that is pointed at a promoted server and ends when it has received the new timeline's beginning of the fork's
//! segment, and nothing of the fork itself.

use std::fs;

use sentinel_core::position::Offset;
use sentinel_tests::postgres_server::PostgresServer;
use sentinel_tests::wait;
use sentinel_tests::wal_proxy::WalProxy;

use crate::broken::{Broken, SEGMENT, point_at};

/// Some pages into the segment.
const PART: u64 = 100_000;

/// What PostgreSQL says and ends.
const REFUSES: &str = "but previous recovered WAL file came from timeline";

/// What a start brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// It starts.
    Once,
    /// It ends, and so does every other start.
    Never,
}

/// Lets the one that is pointed by a reload receive the part, and kills it.
pub(crate) fn receive_a_part(broken: &mut Broken) {
    let proxy = WalProxy::before(broken.promoted.port());
    let part = Offset(broken.end.0 - SEGMENT + PART);
    assert!(part < broken.fork);
    proxy.cut_at(part);
    point_at(&broken.reloaded, proxy.port());
    // What it reports stays where it was: below what it replayed it flushes nothing.
    let wanted = beginning(&broken.promoted, part).unwrap();
    wait::until("it holds a part of the new timeline's file", || {
        (beginning(&broken.reloaded, part)? == wanted).then_some(())
    });
    broken.reloaded.kill();
}

/// The new timeline's file of the segment that holds this place, up to it.
fn beginning(server: &PostgresServer, part: Offset) -> Option<Vec<u8>> {
    let name = format!("{:08X}{:08X}{:08X}", 2, 0, part.0 / SEGMENT);
    let mut bytes = fs::read(server.data_dir().join("pg_wal").join(name)).ok()?;
    bytes.truncate(usize::try_from(part.0 % SEGMENT).unwrap());
    Some(bytes)
}

/// Starts it twice, pointed at the promoted server itself.
pub(crate) fn start_again(broken: &mut Broken) -> Start {
    broken.reloaded.follow(&broken.promoted);
    for _ in 0..2 {
        match broken.reloaded.try_start() {
            Ok(()) if crate::fate::replays_to(&broken.reloaded, broken.fork) => return Start::Once,
            Ok(()) | Err(_) => {
                let log = broken.reloaded.log_text();
                assert!(log.contains(REFUSES), "it ended by itself:\n{log}");
            }
        }
    }
    Start::Never
}
