//! A small disk for the WAL of one test server, so that it can be full.
//!
//! A memory file system, which only root with the right to mount can have. Does not decide what a test does without it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{PostgresServer, account};

/// Inside the server's folder; the guard knows it by this name too.
const NAME: &str = "wal";

impl PostgresServer {
    /// Moves the WAL of a stopped server to a disk of this size. Its folder is returned: a file written there fills it.
    ///
    /// # Errors
    /// When this process may not mount; the text says what `mount` said, and nothing has changed.
    ///
    /// # Panics
    /// When the server runs, or its WAL does not fit.
    pub fn move_wal_to_small_disk(&self, megabytes: u32) -> Result<PathBuf, String> {
        assert!(
            self.pid().is_none(),
            "the server at port {} runs",
            self.port()
        );
        let disk = self.folder().join(NAME);
        account::make_folder(&disk, 0o700).expect("our folder is writable");
        mount(&format!("size={megabytes}m,mode=0700"), &disk)?;
        account::give(&disk).expect("our disk can be given away");
        let [old, new] = [self.data_dir().join("pg_wal"), disk.join("pg_wal")];
        // As the account, so that everything stays its own.
        let moved = account::command(Path::new("mv"))
            .args([&old, &new])
            .output();
        assert!(moved.is_ok_and(|moved| moved.status.success()), "mv");
        std::os::unix::fs::symlink(&new, &old).expect("our folder is writable");
        Ok(disk)
    }

    /// Gives the small disk another size, also while the server runs.
    ///
    /// # Panics
    /// When there is none.
    pub fn resize_wal_disk(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        mount(&options, &self.folder().join(NAME)).expect("it is mounted");
    }

    pub(super) fn unmount_wal_disk(&self) {
        let disk = self.folder().join(NAME);
        if disk.exists() {
            let _ = run(Command::new("umount").arg("-l").arg(&disk));
            let _ = fs::remove_dir(&disk);
        }
    }
}

fn mount(options: &str, place: &Path) -> Result<(), String> {
    let mounted = run(Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(place))
    .map_err(|error| error.to_string())?;
    if mounted.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&mounted.stderr).into_owned())
}

fn run(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}
