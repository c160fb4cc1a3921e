//! The processes of one server's folder: those that work in it or name it in their arguments, and their children.
//!
//! PostgreSQL's processes are found without knowing who started them, so a server under an agent is ended like the
//! others, and so are backends that outlive a killed postmaster. Knows the process table only.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Waits for the end of the test process, whose pipe it reads; then ends the folder's processes as [`end_all`] does, and
/// removes the folder. A second look finds what the first one's victims had started meanwhile.
const GUARD: &str = r#"
read -r _
for _ in 1 2; do
    found=$(grep -lsF -- "$FOLDER/" /proc/[0-9]*/cmdline
            find /proc/[0-9]*/cwd -maxdepth 0 -lname "$FOLDER/*" 2>/dev/null)
    for path in $found; do
        pid=${path#/proc/}
        kill -9 "${pid%%/*}" 2>/dev/null
    done
done
for file in "$FOLDER"/*/postmaster.pid; do
    segment=$(sed -n '7s/.* //p' "$file" 2>/dev/null)
    if [ -n "$segment" ]; then ipcrm -m "$segment" 2>/dev/null; fi
done
umount -l "$FOLDER/wal" "$FOLDER/data" 2>/dev/null
rm -rf "$FOLDER"
"#;

/// Outlives the test process by the moment that it takes to clean up. Dropping it calls it off.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Guards a folder and the processes in it.
    pub(super) fn of(folder: &Path) -> io::Result<Self> {
        let guard = Command::new("sh")
            .args(["-c", GUARD, "postgres-server-guard"])
            // Not an argument: the guard must not find itself.
            .env("FOLDER", folder)
            .env("LC_ALL", "C")
            .current_dir("/")
            // A runner that ends the test's whole process group must not end its guard.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(guard))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes of a folder, without those that have ended and wait to be collected.
pub(super) fn of(folder: &Path) -> Vec<u32> {
    let mut parents = BTreeMap::new();
    let mut found = Vec::new();
    for pid in all() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        // A process may end between any two of these looks.
        let Some(parent) = parent(&process) else {
            continue;
        };
        parents.insert(pid, parent);
        let works_inside =
            || fs::read_link(process.join("cwd")).is_ok_and(|path| path.starts_with(folder));
        if names(&process, folder) || works_inside() {
            found.push(pid);
        }
    }
    // Another account's working folder is a secret to a root without all capabilities; the parent is not.
    let children = parents
        .iter()
        .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
        .map(|(pid, _)| *pid)
        .collect::<Vec<_>>();
    found.extend(children);
    found.retain(|pid| *pid != std::process::id());
    found
}

/// Ends the processes of a folder (SIGKILL), also stopped ones, waits until they are gone, and frees the shared memory
/// that a killed postmaster leaves to its next start.
///
/// # Panics
/// When they do not go.
pub(super) fn end_all(folder: &Path) {
    wait::until("the server's processes are gone", || {
        let left = of(folder);
        for pid in &left {
            send(*pid, Signal::KILL);
        }
        left.is_empty().then_some(())
    });
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(lines) = fs::read_to_string(entry.path().join("postmaster.pid")) else {
            continue;
        };
        // The seventh line is "key identifier".
        let segment = lines
            .lines()
            .nth(6)
            .and_then(|line| line.split_whitespace().nth(1));
        if let Some(segment) = segment {
            let _ = Command::new("ipcrm")
                .args(["-m", segment])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Signals a process that may have ended already.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("the kernel shows its processes");
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `None` for one that has ended, also when it is not collected yet.
fn parent(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // "pid (any name) state parent …".
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}

fn names(process: &Path, folder: &Path) -> bool {
    let Ok(arguments) = fs::read(process.join("cmdline")) else {
        return false;
    };
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| Path::new(OsStr::from_bytes(argument)).starts_with(folder))
}
