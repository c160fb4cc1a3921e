//! Starts, stops, kills, pauses and ends a test server.
//!
//! Finds the postmaster by the server's folder, whoever started it. Knows nothing of what is in the data folder but the
//! postmaster's own file.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use rustix::process::Signal;

use super::{PostgresServer, Role, processes};
use crate::wait;

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Waits until every client has gone.
    Smart,
    /// Ends its clients, writes a checkpoint.
    Fast,
    /// Ends at once; the next start recovers.
    Immediate,
}

/// What stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// The postmaster alone: open connections work on, new ones are not answered.
    Postmaster,
    /// All its processes.
    Everything,
}

impl PostgresServer {
    /// Its postmaster, as long as it runs, whoever started it.
    pub fn pid(&self) -> Option<u32> {
        let written = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok();
        let written = written.and_then(|text| text.lines().next()?.parse().ok());
        // A killed postmaster leaves its file, and one that has just been started has not written it.
        let started = self.postmaster.as_ref().map(Child::id);
        let alive = self.pids();
        [written, started]
            .into_iter()
            .flatten()
            .find(|pid| alive.contains(pid))
    }

    /// All processes in its folder.
    pub fn pids(&self) -> Vec<u32> {
        processes::of(self.folder())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// When it runs, or does not start.
    pub fn start(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("PostgreSQL did not start:\n{log}");
        }
    }

    /// The same, with the log as the error.
    ///
    /// # Errors
    /// When it ends before it answers.
    ///
    /// # Panics
    /// When it runs already, or neither ends nor answers within [`wait::BOUND`].
    pub fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        let answers = wait::until("PostgreSQL answers or ends", || {
            if self.has_ended() {
                return Some(false);
            }
            // Asked too early, it logs an error every time; its file says when it is worth it.
            let file = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
            if !file.lines().nth(7)?.starts_with("ready") {
                return None;
            }
            self.try_query(Role::Superuser, "SELECT 1").ok()?;
            Some(true)
        });
        // An answer of somebody else on the port is not ours: our process then ends.
        if answers && !self.has_ended() {
            return Ok(());
        }
        // The log collector ends by itself when it has written everything.
        let _ = wait::within(wait::BOUND, || self.pids().is_empty().then_some(()));
        processes::end_all(self.folder());
        Err(self.log_text())
    }

    /// Starts it and does not wait.
    ///
    /// # Panics
    /// When it runs already.
    pub fn spawn(&mut self) {
        assert!(
            self.pid().is_none(),
            "the server at port {} runs",
            self.port
        );
        self.collect();
        // Backends end by themselves soon after their postmaster is killed; until then no other can start.
        wait::until("the killed server's processes are gone", || {
            self.pids().is_empty().then_some(())
        });
        let printed = File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("log/printed"))
            .expect("our folder is writable");
        let postmaster = self
            .command("postgres")
            .arg("-D")
            .arg(self.data_dir())
            .stdout(Stdio::null())
            .stderr(printed)
            .spawn()
            .expect("setpriv and PostgreSQL are installed");
        self.postmaster = Some(postmaster);
    }

    /// Kills the postmaster (SIGKILL) and waits until it is gone. Its backends notice and end by themselves.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let pid = self.signal_postmaster(Signal::KILL);
        self.wait_for_end_of(&[pid]);
    }

    /// Kills all its processes at once, as a crash of the system does. Whoever minds it may start it again before this
    /// returns.
    ///
    /// # Panics
    /// When it does not run.
    pub fn crash(&mut self) {
        // First of all, so that it starts no process meanwhile.
        let postmaster = self.signal_postmaster(Signal::STOP);
        let mut pids = self.pids();
        pids.push(postmaster);
        for pid in &pids {
            processes::send(*pid, Signal::KILL);
        }
        self.wait_for_end_of(&pids);
    }

    /// Kills all its processes, also if none is left. Nobody may be there who starts it again.
    ///
    /// # Panics
    /// When they do not go.
    pub fn kill_everything(&mut self) {
        processes::end_all(self.folder());
        wait::until("the postmaster has ended", || {
            self.collect();
            self.pid().is_none().then_some(())
        });
    }

    /// Stops it and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run, or does not stop within [`wait::BOUND`].
    pub fn stop(&mut self, mode: StopMode) {
        let pid = self.signal_postmaster(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
        self.wait_for_end_of(&[pid]);
    }

    /// Stops it fast and starts it again.
    ///
    /// # Panics
    /// When it does not stop or start.
    pub fn restart(&mut self) {
        self.stop(StopMode::Fast);
        self.start();
    }

    /// Lets it stand still (SIGSTOP): it keeps its port and connections.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pause(&self, paused: Paused) {
        // First of all, so that it starts no process meanwhile.
        self.signal_postmaster(Signal::STOP);
        match paused {
            Paused::Postmaster => {}
            Paused::Everything => {
                for pid in self.pids() {
                    processes::send(pid, Signal::STOP);
                }
            }
        }
    }

    /// Continues whatever of it stands still (SIGCONT).
    pub fn resume(&self) {
        for pid in self.pids() {
            processes::send(pid, Signal::CONT);
        }
    }

    fn signal_postmaster(&self, signal: Signal) -> u32 {
        let pid = self.pid().expect("the server runs");
        processes::send(pid, signal);
        pid
    }

    /// Somebody else's child is collected by its parent, and is gone for us as soon as it has ended.
    fn wait_for_end_of(&mut self, pids: &[u32]) {
        wait::until("the killed or stopped processes have ended", || {
            self.collect();
            let left = self.pids();
            pids.iter().all(|pid| !left.contains(pid)).then_some(())
        });
    }

    fn has_ended(&mut self) -> bool {
        self.collect();
        self.postmaster.is_none()
    }

    fn collect(&mut self) {
        if let Some(postmaster) = &mut self.postmaster
            && !matches!(postmaster.try_wait(), Ok(None))
        {
            self.postmaster = None;
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // The guard goes first: it must not kill a later process that got the same id.
        self.guard = None;
        processes::end_all(self.folder());
        self.unmount_small_disks();
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = postmaster.wait();
        }
    }
}
