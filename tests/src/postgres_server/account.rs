//! The account under which PostgreSQL runs in the tests: the tests' own, and `nobody` where they run as root, because
//! PostgreSQL refuses to run as root.
//!
//! Makes commands and gives files to that account, and finds it a place for its folders. Knows nothing of servers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// `nobody` and `nogroup`, which have this number on every Linux distribution.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Memory, where nothing but a caller's own wish says otherwise: a disk that must sync or discard every file of a cluster
/// takes three quarters of a second to forget it, and its moods would show in every measured time.
const IN_MEMORY: &str = "/dev/shm";

/// Enough for the servers of all tests that run at once. A container often gives 64 MB.
const IN_MEMORY_BYTES_MIN: u64 = 2 << 30;

/// A folder that belongs to the account, in `TMPDIR` if that is set. Others may enter but not list it.
///
/// # Errors
/// When it cannot be made, or the account cannot come to it.
pub fn temporary_folder(prefix: &str) -> io::Result<TempDir> {
    let room = rustix::fs::statvfs(IN_MEMORY).map(|found| found.f_bavail * found.f_frsize);
    let roomy = room.is_ok_and(|bytes| bytes >= IN_MEMORY_BYTES_MIN);
    let parent = if std::env::var_os("TMPDIR").is_none() && roomy {
        PathBuf::from(IN_MEMORY)
    } else {
        std::env::temp_dir()
    };
    let folder = TempDir::with_prefix_in(prefix, parent)?;
    make_folder(folder.path(), 0o711)?;
    if !reaches(folder.path()) {
        return Err(io::Error::other(format!(
            "PostgreSQL's account cannot come to {}: set TMPDIR to a folder that everybody can enter",
            folder.path().display()
        )));
    }
    Ok(folder)
}

/// A command that runs under the account, with no standard input and an environment of which nothing but the search path
/// is the caller's: a `PGPORT` of the developer must not reach a test.
pub fn command(program: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={NOBODY}"))
            .arg(format!("--regid={NOBODY}"))
            .args(["--clear-groups", "--"])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// Makes a folder that belongs to the account and has these permissions.
///
/// # Errors
/// When the file system refuses.
pub fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if !path.exists() {
        fs::create_dir(path)?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    give(path)
}

/// Writes a file that belongs to the account and that nobody else reads.
///
/// # Errors
/// When the file system refuses.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    give(path)
}

/// Gives one file or folder to the account.
///
/// # Errors
/// When the file system refuses.
pub fn give(path: &Path) -> io::Result<()> {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// Whether the account can come to this path: root's own folders are closed to it.
pub fn reaches(path: &Path) -> bool {
    let open = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|found| !found.is_dir() || found.mode() & 0o001 != 0)
    };
    !is_root()
        || path
            .canonicalize()
            .is_ok_and(|path| path.ancestors().all(open))
}
