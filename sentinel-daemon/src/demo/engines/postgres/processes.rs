//! The processes of one data folder, whoever started them: a server may have been started by its agent.
//!
//! Finds them in the process table, signals them, and ends them. Knows nothing of what they do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the processes may take to end by themselves before they are killed.
const END_MAX: Duration = Duration::from_secs(3);

/// Pace of looking whether they have ended.
const PACE: Duration = Duration::from_millis(10);

/// The postmaster of this folder, if it runs.
pub(super) fn postmaster(folder: &Path) -> Option<u32> {
    let written = fs::read_to_string(folder.join("postmaster.pid")).ok()?;
    let pid = written.lines().next()?.parse().ok()?;
    // A killed one leaves its file.
    of(folder).contains(&pid).then_some(pid)
}

/// All processes that name the folder in their arguments or work in it, and their children.
pub(super) fn of(folder: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut families = Vec::new();
    for pid in all() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        // A process may end between any two of these looks.
        let Some(parent) = parent(&process) else {
            continue;
        };
        families.push((parent, pid));
        let works_inside = || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder);
        if names(&process, folder) || works_inside() {
            found.insert(pid);
        }
    }
    for (parent, pid) in families {
        if found.contains(&parent) {
            found.insert(pid);
        }
    }
    found.remove(&std::process::id());
    found
}

/// Signals a process that may have ended already.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _may_have_ended = kill_process(pid, signal);
    }
}

/// Ends all of a folder's processes, also stopped ones. The server is told to go at once, and frees its shared memory.
pub(super) fn end(folder: &Path) {
    if let Some(postmaster) = postmaster(folder) {
        send(postmaster, Signal::QUIT);
    }
    let start = Instant::now();
    loop {
        let left = of(folder);
        if left.is_empty() {
            break;
        }
        let signal = if start.elapsed() < END_MAX {
            Signal::CONT
        } else {
            Signal::KILL
        };
        left.into_iter().for_each(|pid| send(pid, signal));
        if start.elapsed() > 2 * END_MAX {
            break;
        }
        std::thread::sleep(PACE);
    }
    free_memory(folder);
}

/// A killed postmaster leaves its shared memory to its next start, and here there is none.
fn free_memory(folder: &Path) {
    let Ok(lines) = fs::read_to_string(folder.join("postmaster.pid")) else {
        return;
    };
    // The seventh line is "key identifier".
    let line = lines.lines().nth(6).unwrap_or_default();
    if let Some(identifier) = line.split_whitespace().nth(1) {
        let freed = Command::new("ipcrm")
            .args(["-m", identifier])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // Without the program, 56 bytes stay until the machine restarts.
        drop(freed);
    }
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// `None` for one that has ended, also when nobody has collected it yet.
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
    let mut arguments = arguments.split(|byte| *byte == 0);
    arguments.any(|argument| Path::new(OsStr::from_bytes(argument)) == folder)
}
