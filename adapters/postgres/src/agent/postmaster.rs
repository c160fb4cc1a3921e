//! Decides whether the server of a data folder runs, and which process it is.
//!
//! A process is signalled only when it was identified: its working folder is the data folder and its name is that of the
//! server. The handle is a pidfd, opened before the proof is read, so that a number given to somebody else in
//! between is never signalled. The start time in the file is not compared: a step of the clock would disown a server.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::postmaster_file::{self, PostmasterFile};

/// A running process that was identified as the server of a data folder, or as one of its children.
#[derive(Clone, Debug)]
pub(super) struct Postmaster {
    pid: Pid,
    handle: Arc<OwnedFd>,
}

/// What is found in a data folder.
#[derive(Clone, Debug)]
pub(super) enum Found {
    /// No server runs there.
    Nobody,
    /// This one does.
    Running(Postmaster, PostmasterFile),
    /// The file names a process whose identity cannot be read. It is neither signalled nor started over.
    Unclear(String),
}

/// Looks for the server of a data folder.
pub(super) fn find(data_dir: &Path) -> Found {
    let text = match fs::read_to_string(data_dir.join("postmaster.pid")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nobody,
        Err(error) => return Found::Unclear(format!("postmaster.pid cannot be read: {error}")),
    };
    let Some(file) = postmaster_file::parse(&text) else {
        return Found::Nobody;
    };
    match identify(file.pid, data_dir) {
        Ok(Some(postmaster)) => Found::Running(postmaster, file),
        Ok(None) => Found::Nobody,
        Err(error) => Found::Unclear(format!(
            "process {} of postmaster.pid cannot be looked at: {error}; run the agent as root or as the server's user",
            file.pid
        )),
    }
}

/// The process with this number, if it is a server process of this data folder.
pub(super) fn identify(pid: i32, data_dir: &Path) -> io::Result<Option<Postmaster>> {
    identify_by(pid, || proof(pid, data_dir))
}

/// The process with this number, if this proof holds for it.
pub(super) fn identify_by(
    pid: i32,
    proof: impl FnOnce() -> io::Result<bool>,
) -> io::Result<Option<Postmaster>> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let found = Postmaster {
        pid,
        handle: Arc::new(handle),
    };
    let holds = match proof() {
        Ok(holds) => holds,
        // It ended while we looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    // What was read is of this process only if it is still alive afterwards.
    Ok((holds && found.is_alive()).then_some(found))
}

fn proof(pid: i32, data_dir: &Path) -> io::Result<bool> {
    let folder = format!("/proc/{pid}");
    let name = fs::read_to_string(format!("{folder}/comm"))?;
    if !matches!(name.trim(), "postgres" | "postmaster") {
        return Ok(false);
    }
    let working = fs::read_link(format!("{folder}/cwd"))?;
    Ok(working == fs::canonicalize(data_dir)?)
}

impl Postmaster {
    /// Its process number, for logs.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Signals the process that was identified, and no other.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&*self.handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it has not ended. A dead child that nobody waited for has ended.
    pub(super) fn is_alive(&self) -> bool {
        let mut watched = [rustix::event::PollFd::new(
            &*self.handle,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut watched, Some(&now)), Ok(0))
    }

    /// Waits until it has ended.
    #[expect(
        deprecated,
        reason = "what came after it is unsafe; an owned descriptor upholds what both ask for"
    )]
    pub(super) async fn ended(&self) {
        let watched = self
            .handle
            .try_clone()
            .and_then(|handle| AsyncFd::with_interest(handle, Interest::READABLE));
        match watched {
            Ok(watched) => drop(watched.readable().await),
            // Without a descriptor left, looking now and then is all that remains.
            Err(_) => {
                while self.is_alive() {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn write_file(folder: &Path, pid: u32) {
        let text = format!("{pid}\n{}\n1\n5432\n/tmp\n\n1 2\nready\n", folder.display());
        fs::write(folder.join("postmaster.pid"), text).unwrap();
    }

    #[test]
    fn a_foreign_process_is_never_taken_for_the_server() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(find(folder.path()), Found::Nobody));
        // A stale file whose number now belongs to somebody else: ourselves.
        write_file(folder.path(), std::process::id());
        assert!(matches!(find(folder.path()), Found::Nobody));
    }

    #[tokio::test]
    async fn the_end_of_an_identified_process_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("postgres");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program)
            .arg("600")
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        write_file(folder.path(), child.id());
        let found = loop {
            // Until the child has become the other program it is nobody's server.
            if let Found::Running(found, _) = find(folder.path()) {
                break found;
            }
            tokio::task::yield_now().await;
        };
        assert!(found.is_alive());
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(identify(found.pid(), elsewhere.path()).unwrap().is_none());
        found.signal(Signal::KILL).unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), found.ended());
        ended.await.unwrap();
        assert!(!found.is_alive());
        child.wait().unwrap();
    }
}
