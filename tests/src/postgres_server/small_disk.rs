//! A small disk for the WAL of one test server, or for everything but its WAL, so that it can be full.
//!
//! A memory file system, which only root with the right to mount can have. Does not decide what a test does without it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::{PostgresServer, account};

/// Inside the server's folder; the guard knows it by this name too, and the data folder.
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

    /// Moves the data folder of a stopped server to a disk of this size, and its WAL to where the folder was. A file
    /// written to the data folder fills it.
    ///
    /// # Errors
    /// When this process may not mount; the text says what `mount` said, and nothing has changed.
    ///
    /// # Panics
    /// When the server runs, or its data do not fit.
    pub fn move_data_to_small_disk(&self, megabytes: u32) -> Result<(), String> {
        assert!(
            self.pid().is_none(),
            "the server at port {} runs",
            self.port()
        );
        let [data, moved, wal] = [
            self.data_dir(),
            self.folder().join("moved"),
            self.folder().join("pg_wal"),
        ];
        fs::rename(&data, &moved).expect("our folder is writable");
        account::make_folder(&data, 0o700).expect("our folder is writable");
        if let Err(reason) = mount(&format!("size={megabytes}m,mode=0700"), &data) {
            fs::remove_dir(&data).expect("it is empty");
            fs::rename(&moved, &data).expect("it was there");
            return Err(reason);
        }
        account::give(&data).expect("our disk can be given away");
        fs::rename(moved.join("pg_wal"), &wal).expect("it is the same disk");
        std::os::unix::fs::symlink(&wal, moved.join("pg_wal")).expect("our folder is writable");
        // As the account, so that everything stays its own.
        let copied = account::command(Path::new("cp"))
            .arg("-a")
            .args([moved.join("."), data])
            .output();
        assert!(copied.is_ok_and(|copied| copied.status.success()), "cp");
        fs::remove_dir_all(&moved).expect("our folder is writable");
        Ok(())
    }

    pub(super) fn unmount_small_disks(&self) {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        for disk in [self.data_dir(), self.folder().join(NAME)] {
            if disk.exists() && device(&disk) != device(self.folder()) {
                let _ = run(Command::new("umount").arg("-l").arg(&disk));
                let _ = fs::remove_dir(&disk);
            }
        }
    }
}

/// Writes a file until the disk with this folder is full, and returns its path.
///
/// # Panics
/// When the file cannot be made.
pub fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut filler = File::create(&path).expect("the folder is ours");
    let block = [0; 1 << 16];
    while filler.write_all(&block).is_ok() {}
    path
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
