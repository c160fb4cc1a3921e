//! What becomes of a standby that holds a part of a torn record and is pointed at the promoted server, by a mere reload or
//! by the agent's procedure.

use std::fs;

use sentinel_core::action::ActionKind;
use sentinel_core::position::Offset;
use sentinel_tests::postgres_server::{PostgresServer, Role, StopMode};
use sentinel_tests::wait;

use crate::broken::{Broken, SEGMENT, point_at, text};
use crate::minded::Minded;

/// What it says again and again while the promoted server has not left the fork's segment.
const LATENT: &str = "is ahead of the WAL flush position";

/// Of the promotion.
const EPOCH: u64 = 2;

/// Of a standby that was pointed by a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Streamed all along.
    Follows,
    /// Stopped replicating until the promoted server left the segment, and then went on.
    Stalled,
    /// Its server ended.
    Exited(Recovery),
}

/// What brought it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// A plain second start.
    ByStart,
    /// It ended again, and the agent's procedure helped.
    ByHandling,
}

/// Of a standby that was brought over by the procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// It streams, and its server is the one that the procedure started.
    Follows,
    /// The procedure failed, or its server ended and was started again.
    Exited,
}

/// Before the promoted server leaves the fork's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstLook {
    /// It streams the new timeline past the fork.
    Follows,
    /// It asks for what does not exist yet.
    Latent,
    /// Its server has ended already.
    Exited,
}

/// Points the one standby at the promoted server as the coordinator does without an agent.
pub(crate) fn point_by_reload(broken: &Broken) {
    point_at(&broken.reloaded, broken.promoted.port());
}

/// Waits until it is clear how the one that was pointed by a reload begins.
pub(crate) fn first_look(broken: &Broken) -> FirstLook {
    let standby = &broken.reloaded;
    wait::until("it follows, waits in vain, or ends", || {
        if standby.pid().is_none() {
            return Some(FirstLook::Exited);
        }
        if standby.log_text().contains(LATENT) {
            return Some(FirstLook::Latent);
        }
        streams_past(standby, broken.fork).then_some(FirstLook::Follows)
    })
}

/// A standby that was brought over; an agent goes on minding it.
pub(crate) struct Brought {
    _agent: Option<Minded>,
    /// The postmaster's: an agent starts a server again that ended, so that one which runs in the end proves nothing.
    pid: Option<u32>,
}

/// Gives a standby an agent, which is ordered to let it follow the promoted server.
pub(crate) fn bring_over(standby: &PostgresServer, promoted: &PostgresServer) -> Brought {
    let agent = Minded::of(standby);
    let primary = promoted.instance();
    agent.committed(&primary, EPOCH);
    agent.order_until_done(&ActionKind::Repoint { primary }, EPOCH);
    let pid = standby.pid();
    assert!(pid.is_some(), "it runs when the procedure is done");
    Brought {
        _agent: Some(agent),
        pid,
    }
}

/// The agent's procedure by hand, for a version without the programs that an agent needs.
pub(crate) fn bring_over_by_hand(broken: &mut Broken) -> Brought {
    broken.handled.stop(StopMode::Fast);
    move_aside(&broken.handled, broken.fork);
    broken.handled.follow(&broken.promoted);
    broken.handled.start();
    Brought {
        _agent: None,
        pid: broken.handled.pid(),
    }
}

/// What became of the one that was pointed by a reload, after the promoted server wrote up to `end`.
pub(crate) fn of_reloaded(broken: &mut Broken, first: FirstLook, end: Offset) -> Fate {
    if replays_to(&broken.reloaded, end) {
        return match first {
            FirstLook::Follows => Fate::Follows,
            FirstLook::Latent | FirstLook::Exited => Fate::Stalled,
        };
    }
    let log = broken.reloaded.log_text();
    assert!(log.contains("PANIC"), "it ended by itself:\n{log}");
    if broken.reloaded.try_start().is_ok() && replays_to(&broken.reloaded, end) {
        return Fate::Exited(Recovery::ByStart);
    }
    bring_back(broken);
    assert!(replays_to(&broken.reloaded, end));
    Fate::Exited(Recovery::ByHandling)
}

/// The agent's procedure by hand, on a server that has ended.
fn bring_back(broken: &mut Broken) {
    move_aside(&broken.reloaded, broken.fork);
    broken.reloaded.follow(&broken.promoted);
    broken.reloaded.start();
}

/// What became of one that was brought over, after the promoted server wrote from the fork up to `end`.
pub(crate) fn of_handled(
    standby: &PostgresServer,
    brought: &Brought,
    (fork, end): (Offset, Offset),
) -> Handled {
    let follows = replays_to(standby, end) && streams_past(standby, fork);
    let panicked = standby.log_text().contains("PANIC");
    if follows && standby.pid() == brought.pid && !panicked {
        Handled::Follows
    } else {
        Handled::Exited
    }
}

/// Whether it comes there; `false` when its server ends before.
pub(crate) fn replays_to(standby: &PostgresServer, end: Offset) -> bool {
    let question = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", text(end));
    wait::until("it replays everything or ends", || {
        if standby.pid().is_none() {
            return Some(false);
        }
        // It refuses questions while it starts and while it ends.
        let answer = standby.try_query(Role::Superuser, &question).ok()?;
        (answer[0][0] == "t").then_some(true)
    })
}

fn streams_past(standby: &PostgresServer, fork: Offset) -> bool {
    let question = format!(
        "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND received_tli = 2 \
         AND flushed_lsn > '{}'",
        text(fork)
    );
    let answer = standby.try_query(Role::Superuser, &question);
    answer.is_ok_and(|rows| rows[0][0] == "1")
}

/// What lies in the fork's segment and behind it, of whichever timeline: of two files of one segment the newer timeline's
/// is read, and one that ends before the fork keeps the server from starting.
fn move_aside(standby: &PostgresServer, fork: Offset) {
    let aside = standby.folder().join("aside");
    fs::create_dir_all(&aside).unwrap();
    let pg_wal = standby.data_dir().join("pg_wal");
    let first = format!("{:08X}{:08X}", 0, fork.0 / SEGMENT);
    for entry in fs::read_dir(pg_wal).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.len() == 24 && name[8..] >= *first {
            fs::rename(path, aside.join(name)).unwrap();
        }
    }
}
