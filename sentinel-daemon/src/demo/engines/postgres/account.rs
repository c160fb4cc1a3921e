//! As whom the PostgreSQL servers run: the user's own account, and `nobody` for root, as whom PostgreSQL refuses to run.
//!
//! Makes commands, and gives files to that account. Knows nothing of servers.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// `nobody` and `nogroup` where `/etc/passwd` does not say otherwise.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// The account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    /// User and group, where they are not our own.
    other: Option<(u32, u32)>,
}

impl Account {
    /// Chosen by who we are.
    pub(super) fn choose() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self {
            other: is_root.then(|| nobody(&users).unwrap_or(NOBODY)),
        }
    }

    /// Whether it is another account than ours.
    pub(super) fn is_other(self) -> bool {
        self.other.is_some()
    }

    /// A command that runs as this account, without standard input. Of the environment it gets the search path only: a
    /// `PGPORT` of the user's must not reach the servers.
    pub(super) fn command(self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .current_dir("/")
            // Ctrl-C reaches the whole group of the terminal; the servers are ended in their turn.
            .process_group(0)
            .stdin(Stdio::null());
        if let Some((user, group)) = self.other {
            // This drops the groups of root as well.
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes a folder that is this account's alone.
    pub(super) fn make_folder(self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        self.give(path)
    }

    /// Writes a file that only this account can read.
    pub(super) fn write(self, path: &Path, text: &str) -> io::Result<()> {
        fs::write(path, text)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        self.give(path)
    }

    /// Gives a file or folder to it.
    pub(super) fn give(self, path: &Path) -> io::Result<()> {
        match self.other {
            Some((user, group)) => chown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }
}

/// The line `nobody:x:65534:65534:…`.
fn nobody(users: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.starts_with("nobody:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_looked_up() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:98:nobody:/:/sbin/nologin\n";
        assert_eq!(nobody(users), Some((99, 98)));
        assert_eq!(nobody("root:x:0:0:root:/root:/bin/sh\n"), None);
    }
}
