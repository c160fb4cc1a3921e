//! The account under which PostgreSQL runs in the tests: the tests' own, and `nobody` where they run as root, because
//! PostgreSQL refuses to run as root.
//!
//! Makes commands and gives files to that account. Knows nothing of servers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// `nobody` and `nogroup`, which have this number on every Linux distribution.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
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
