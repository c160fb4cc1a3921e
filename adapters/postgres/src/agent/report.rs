//! What the agent shows of itself: in which state its server is, what it is doing, and what it kept.
//!
//! Written by the agent alone, read by whoever shows it. Holds no secret.

use std::path::PathBuf;

use tokio::sync::watch;

/// State of the server, as its agent sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    /// Nothing was looked at yet.
    #[default]
    Unknown,
    /// The server runs.
    Running,
    /// The server does not run, and the agent waits for an order, or for news of who is the primary.
    Down,
    /// The server was stopped by order, for a switchover.
    Paused,
    /// The agent is starting it.
    Starting,
    /// A job has the data folder in its hands.
    Busy,
}

/// What only a deposed primary had, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// First byte that the new primary does not have.
    pub from: String,
    /// End of the last whole record; `None` where it could not be told.
    pub to: Option<String>,
    /// Bytes between the two.
    pub bytes: Option<u64>,
    /// Where the log is kept, with a description beside it.
    pub folder: PathBuf,
}

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentStatus {
    /// State of the server.
    pub state: ServerState,
    /// What the agent is doing, for people: `rewinding from 10.0.0.22:5432: copying`.
    pub doing: Option<String>,
    /// How far it is with that.
    pub percent: Option<u8>,
    /// The last divergence that was kept.
    pub diverged: Option<Diverged>,
    /// How the server last ended.
    pub last_exit: Option<String>,
    /// Why the last job failed, or why the server could not be started.
    pub problem: Option<String>,
    /// Which of its disks is full, and what to do.
    pub full: Option<String>,
}

impl AgentStatus {
    /// One line for whoever waits for a job.
    pub(super) fn progress(&self) -> String {
        let doing = self.doing.as_deref().unwrap_or("working");
        match self.percent {
            Some(percent) => format!("{doing}, {percent} %"),
            None => doing.to_owned(),
        }
    }
}

/// The agent's own pen.
#[derive(Clone, Debug)]
pub(super) struct Board(watch::Sender<AgentStatus>);

impl Board {
    pub(super) fn new() -> (Self, watch::Receiver<AgentStatus>) {
        let (sender, receiver) = watch::channel(AgentStatus::default());
        (Self(sender), receiver)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut AgentStatus)) {
        self.0.send_modify(change);
    }

    pub(super) fn state(&self, state: ServerState) {
        self.0.send_if_modified(|status| {
            let changed = status.state != state;
            status.state = state;
            changed
        });
    }

    pub(super) fn doing(&self, text: impl Into<String>) {
        let text = text.into();
        tracing::info!(doing = text, "the agent is at work");
        self.update(|status| {
            status.doing = Some(text);
            status.percent = None;
        });
    }

    pub(super) fn percent(&self, percent: u8) {
        self.update(|status| status.percent = Some(percent));
    }

    pub(super) fn idle(&self) {
        self.update(|status| {
            status.doing = None;
            status.percent = None;
        });
    }

    pub(super) fn show(&self) -> AgentStatus {
        self.0.borrow().clone()
    }
}

/// Reads the percentage out of a line of `pg_basebackup` or `pg_rewind`: ` 1024/4096 kB (25%), …`.
pub(super) fn percent_of(line: &str) -> Option<u8> {
    let (before, _) = line.split_once("%)")?;
    let (_, number) = before.rsplit_once('(')?;
    let percent: u8 = number.trim().parse().ok()?;
    Some(percent.min(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read() {
        for (line, wanted) in [
            ("  4096/38912 kB (10%), 0/1 tablespace (/srv/pg)", Some(10)),
            ("38912/38912 kB (100%) copied", Some(100)),
            (
                "pg_rewind: servers diverged at WAL location 0/3000148",
                None,
            ),
            ("(x%)", None),
        ] {
            assert_eq!(percent_of(line), wanted, "{line}");
        }
    }
}
