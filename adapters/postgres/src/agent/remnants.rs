//! Finds and ends what an earlier life left behind: server processes that outlived their postmaster, and tools of ours
//! that outlived their agent. Both could still write into a data folder that is about to be rewound or started.
//!
//! Called only while no postmaster runs in the folder. Ends only processes that it identified.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use super::postmaster::{self, Found, Postmaster};
use super::postmaster_file;

/// Server processes end by themselves when their postmaster is gone; after so long they are killed.
const GRACE: Duration = Duration::from_secs(3);
/// A killed process is gone within moments, unless the disk hangs.
const KILLED: Duration = Duration::from_secs(10);

/// What the name of every folder that we make beside a data folder has behind that folder's name.
pub(super) const BESIDE: &str = ".sentinel-";

/// Tools that write into a data folder.
const TOOLS: [&str; 2] = ["pg_rewind", "pg_basebackup"];

/// Processes that write into the folder and do not end.
#[derive(Debug, thiserror::Error)]
#[error("process {pid} still works in `{}` and cannot be ended; the disk may hang. Nothing was started over it", .folder.display())]
pub(super) struct Remains {
    pid: i32,
    folder: PathBuf,
}

/// Makes sure that nobody writes into the data folder any longer, and removes the file of a server that is gone: its
/// number may be somebody else's by now, or that of a dead child that its parent never looked at, and either keeps a new
/// server from starting.
pub(super) async fn clear(data_dir: &Path) -> Result<(), Remains> {
    for tool in tools(data_dir) {
        tracing::warn!(pid = tool.pid(), folder = %data_dir.display(), "ends a tool that outlived its agent");
        kill(&tool, data_dir).await?;
    }
    // One for all of them: a server that hangs leaves hundreds.
    let grace_over = Instant::now() + GRACE;
    for orphan in orphans(data_dir) {
        if tokio::time::timeout_at(grace_over, orphan.ended())
            .await
            .is_ok()
        {
            continue;
        }
        // A server that somebody else is just starting is found like an orphan, until it has written its file.
        match postmaster::find(data_dir) {
            Found::Nobody => kill(&orphan, data_dir).await?,
            Found::Running(..) | Found::Unclear(_) => return Err(remains(&orphan, data_dir)),
        }
    }
    if matches!(postmaster::find(data_dir), Found::Nobody) && orphans(data_dir).is_empty() {
        remove_locks(data_dir);
    }
    Ok(())
}

/// The socket's lock bears the same number, and has the same effect.
fn remove_locks(data_dir: &Path) {
    let path = data_dir.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&path) else {
        return;
    };
    if let Some(lock) = postmaster_file::socket_lock(&text) {
        // A server names its folder as it was told to, and works in the data folder.
        let lock = data_dir.join(lock);
        let theirs = fs::read_to_string(&lock).unwrap_or_default();
        if theirs.lines().next() == text.lines().next() {
            drop(fs::remove_file(lock));
        }
    }
    match fs::remove_file(path) {
        Ok(()) => {
            tracing::info!(folder = %data_dir.display(), "removed the lock files of a server that is gone")
        }
        Err(error) => {
            tracing::warn!(folder = %data_dir.display(), %error, "the lock file of a server that is gone stays")
        }
    }
}

async fn kill(process: &Postmaster, data_dir: &Path) -> Result<(), Remains> {
    let killed = process.signal(Signal::KILL).is_ok();
    let gone = tokio::time::timeout(KILLED, process.ended()).await.is_ok();
    if killed && gone {
        return Ok(());
    }
    Err(remains(process, data_dir))
}

fn remains(process: &Postmaster, data_dir: &Path) -> Remains {
    Remains {
        pid: process.pid(),
        folder: data_dir.to_owned(),
    }
}

fn orphans(data_dir: &Path) -> Vec<Postmaster> {
    numbers()
        .filter_map(|pid| postmaster::identify(pid, data_dir).ok().flatten())
        .collect()
}

fn tools(data_dir: &Path) -> Vec<Postmaster> {
    numbers()
        .filter_map(|number| {
            postmaster::identify_by(number, || {
                let arguments = fs::read(format!("/proc/{number}/cmdline"))?;
                Ok(is_tool_on(&arguments, data_dir))
            })
            .ok()
            .flatten()
        })
        .collect()
}

/// Works on the folder itself, or on a copy of ours beside it.
fn is_tool_on(arguments: &[u8], data_dir: &Path) -> bool {
    let mut arguments = arguments.split(|byte| *byte == 0);
    let program = Path::new(OsStr::from_bytes(arguments.next().unwrap_or_default()));
    let name = program.file_name().unwrap_or_default();
    let folder = data_dir.as_os_str().as_bytes();
    let ours = |word: &[u8]| {
        let rest = word.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(BESIDE.as_bytes()))
    };
    TOOLS.iter().any(|tool| name == *tool) && arguments.any(ours)
}

fn numbers() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_tools_on_this_folder_are_ended() {
        let folder = Path::new("/srv/pg");
        for (arguments, wanted) in [
            ("/usr/bin/pg_rewind\0-D\0/srv/pg\0", true),
            ("pg_basebackup\0-D\0/srv/pg.sentinel-new\0", true),
            ("pg_basebackup\0-D\0/srv/other\0", false),
            ("pg_rewind\0-D\0/srv/pg2\0", false),
            ("pg_dump\0-f\0/srv/pg\0", false),
            ("vi\0/srv/pg\0", false),
            ("", false),
        ] {
            assert_eq!(
                is_tool_on(arguments.as_bytes(), folder),
                wanted,
                "{arguments:?}"
            );
        }
    }
}
