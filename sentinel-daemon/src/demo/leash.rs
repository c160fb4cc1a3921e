//! Starts processes so that none outlives the demonstration, however it ends.
//!
//! A process is killed when its [`Process`] is dropped. Should this program itself be killed, a shell that reads from
//! it notices the end of its input, kills what is left and removes the folder. The kernel's "death signal" would need
//! `unsafe`, and fires when the starting *thread* ends.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// Reads `+ PID` and `- PID` until the end of its input, then kills those that are left. PostgreSQL's processes are
/// found by the folder instead, because agents start them too; their server is told to go at once, so that it frees its
/// shared memory, and killed if it does not; one that was killed before leaves that memory to us.
const WATCH: &str = r#"
pids=" "
while read -r sign pid; do
    case $sign in
    +) pids="$pids$pid " ;;
    -) pids="${pids%% "$pid" *} ${pids#* "$pid" }" ;;
    esac
done
set -- "$1" $pids
folder=$1
shift
[ $# -eq 0 ] || kill -9 "$@" 2>/dev/null
signal() {
    found=no
    for process in /proc/[0-9]*; do
        { read -r name <"$process/comm"; } 2>/dev/null || continue
        case $name in postgres | pg_* | initdb) ;; *) continue ;; esac
        case $(readlink "$process/cwd"; tr '\0' '\n' <"$process/cmdline") in
        *"$folder/"*) found=yes; kill "-$1" "${process#/proc/}" ;;
        esac 2>/dev/null
    done
    [ $found = yes ]
}
if signal QUIT; then
    for second in 1 2 3; do signal CONT && sleep 1; done
    signal KILL
fi
for file in "$folder"/*/data/postmaster.pid; do
    segment=$(sed -n '7s/.* //p' "$file") && [ -n "$segment" ] && ipcrm -m "$segment"
done 2>/dev/null
rm -rf "$folder"
"#;

/// The shell that outlives this program by a moment. Dropping it lets it end.
#[derive(Debug)]
pub(super) struct Leash {
    shell: Child,
    input: Option<Mutex<ChildStdin>>,
}

impl Leash {
    /// Watches over the processes to come, and over this folder.
    pub(super) fn new(folder: &Path) -> io::Result<Arc<Self>> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCH, "sentinel-demo-leash"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole group of the terminal; this one must stay.
            .process_group(0)
            .spawn()?;
        let input = shell.stdin.take().map(Mutex::new);
        Ok(Arc::new(Self { shell, input }))
    }

    /// Starts a process that ends when the result is dropped.
    pub(super) fn start(self: &Arc<Self>, command: &mut Command) -> io::Result<Process> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        let leash = Arc::clone(self);
        let process = Process { child, leash };
        process.leash.say('+', process.child.id())?;
        Ok(process)
    }

    fn say(&self, sign: char, pid: u32) -> io::Result<()> {
        let Some(input) = &self.input else {
            return Ok(());
        };
        let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(input, "{sign} {pid}")
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.shell.wait());
    }
}

/// A process of ours. Dropping it kills it, and waits until it is gone.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    leash: Arc<Leash>,
}

impl Process {
    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        // Without the shell there is nobody left to tell.
        drop(self.leash.say('-', self.child.id()));
    }
}
