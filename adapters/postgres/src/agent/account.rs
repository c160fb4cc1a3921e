//! As whom the server and its tools run, and to whom the files belong that the agent writes for them.
//!
//! PostgreSQL refuses to run as root. An agent that is not root runs everything as itself.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A user of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Why nobody is found to run the server as. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccountError {
    /// The host knows no such user.
    #[error("the host has no user `{0}`; create it, or name another one in the agent's settings")]
    NoUser(String),
    /// Root may not run PostgreSQL, and nobody else is named.
    #[error("the agent runs as root, PostgreSQL does not, and the data folder `{}` is missing or belongs to root; name the user in the agent's settings", .0.display())]
    Nobody(PathBuf),
    /// Only root may run something as somebody else.
    #[error(
        "the agent runs as user {own} and cannot run PostgreSQL as user {wanted}; run the agent as root or as that user"
    )]
    Unprivileged { own: u32, wanted: u32 },
}

impl Account {
    /// As whom the children run: `None` as ourselves.
    pub(super) fn choose(
        name: Option<&str>,
        data_dir: &Path,
    ) -> Result<Option<Self>, AccountError> {
        let own = rustix::process::geteuid().as_raw();
        let named = match name {
            Some(name) => Some(look_up(name).ok_or_else(|| AccountError::NoUser(name.to_owned()))?),
            None => None,
        };
        match (own, named) {
            (0, Some(account)) if account.uid != 0 => Ok(Some(account)),
            (0, _) => match owner(data_dir) {
                Some(account) if account.uid != 0 => Ok(Some(account)),
                Some(_) | None => Err(AccountError::Nobody(data_dir.to_owned())),
            },
            (_, Some(account)) if account.uid != own => Err(AccountError::Unprivileged {
                own,
                wanted: account.uid,
            }),
            (_, Some(_) | None) => Ok(None),
        }
    }

    /// Gives a file to this user, where there is one.
    pub(super) fn give(account: Option<Self>, path: &Path) -> io::Result<()> {
        match account {
            Some(account) => std::os::unix::fs::lchown(path, Some(account.uid), Some(account.gid)),
            None => Ok(()),
        }
    }
}

fn owner(path: &Path) -> Option<Account> {
    let metadata = fs::metadata(path).ok()?;
    Some(Account {
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// `id` asks whatever the host's name service is, which no file of ours could.
fn look_up(name: &str) -> Option<Account> {
    let number = |option: &str| {
        let output = Command::new("id")
            .args([option, "--", name])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.trim().parse().ok()
    };
    Some(Account {
        uid: number("-u")?,
        gid: number("-g")?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_user_that_the_host_does_not_have_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Account::choose(Some("no-such-user-here"), folder.path()).unwrap_err();
        assert!(error.to_string().contains("no-such-user-here"));
    }

    #[test]
    fn root_never_runs_the_server_as_root() {
        let chosen = Account::choose(None, Path::new("/nowhere/at/all"));
        if rustix::process::geteuid().is_root() {
            assert!(matches!(chosen, Err(AccountError::Nobody(_))));
        } else {
            assert!(matches!(chosen, Ok(None)));
        }
    }
}
