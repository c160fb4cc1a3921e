//! Ends the processes that send a stopping server's log: a server stops only when every standby has confirmed the last
//! record, or was silent for `wal_sender_timeout`, a minute. One standby that hangs would hold a pause up for as long.
//!
//! Senders whose standbys have everything have ended by themselves. Does not know why the server stops.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use super::postmaster::{self, Found};

/// In the title that every such process gives itself.
const TITLE: &[u8] = b": walsender ";

/// Ends those of the server that runs in this folder, if there are any.
pub(super) fn end(data_dir: &Path) {
    let Found::Running(server, _) = postmaster::find(data_dir) else {
        return;
    };
    let children = fs::read_dir("/proc").into_iter().flatten();
    let numbers = children.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    for number in numbers {
        let is_sender = || {
            let title = fs::read(format!("/proc/{number}/cmdline"))?;
            let stat = fs::read_to_string(format!("/proc/{number}/stat"))?;
            Ok(sends(&title) && parent(&stat) == Some(server.pid()))
        };
        if let Ok(Some(sender)) = postmaster::identify_by(number, is_sender) {
            let pid = sender.pid();
            match sender.signal(Signal::TERM) {
                Ok(()) => tracing::warn!(
                    pid,
                    "ends a sender whose standby has not confirmed the last record"
                ),
                Err(error) => tracing::warn!(pid, %error, "a sender cannot be ended"),
            }
        }
    }
}

fn sends(title: &[u8]) -> bool {
    title.starts_with(b"postgres: ") && title.windows(TITLE.len()).any(|part| part == TITLE)
}

/// `pid (any name) state parent …`.
fn parent(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_known_by_their_titles() {
        assert!(sends(
            b"postgres: walsender app 127.0.0.1(5000) streaming 0/1"
        ));
        assert!(sends(b"postgres: 15/main: walsender app [local] idle"));
        assert!(!sends(b"postgres: walreceiver streaming 0/1"));
        assert!(!sends(b"grep : walsender "));
        assert_eq!(parent("7 (a) b) S 3 7 7 0"), Some(3));
    }
}
