//! Finds the programs of a PostgreSQL server, and which version they are.
//!
//! Looks where the user says, then on the path, then where Debian keeps one folder a version. Runs them only to ask for
//! their version, as the account that will run the server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::account::Account;
use crate::demo::error::DemoError;

/// Where Debian and its descendants keep one folder a version.
const DISTRIBUTION: &str = "/usr/lib/postgresql";

/// What a server and its agent run.
const PROGRAMS: [&str; 6] = [
    "initdb",
    "pg_basebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_rewind",
    "postgres",
];

/// The oldest version that can be guarded.
const MAJOR_MIN: u32 = 13;

/// What to do without an installation.
const INSTALL: &str = "install it: sudo apt-get install postgresql (with `create_main_cluster = false` in \
     /etc/postgresql-common/createcluster.conf first, no server is started), or name the folder of its programs with \
     --postgres-bin or SENTINEL_POSTGRES_BIN";

/// A folder with programs.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    bin: PathBuf,
}

impl Installation {
    /// Finds one, or says what to do.
    pub(super) fn find(named: Option<&Path>, account: Account) -> Result<Self, DemoError> {
        let bin = match named {
            Some(bin) => bin.canonicalize().unwrap_or_else(|_| bin.to_owned()),
            None => on_the_path()
                .or_else(newest)
                .ok_or_else(|| no_server("PostgreSQL is not installed".to_owned(), INSTALL))?,
        };
        let lacking = PROGRAMS.iter().find(|name| !bin.join(name).is_file());
        if let Some(name) = lacking {
            let what = format!("there is no `{name}` in {}", bin.display());
            return Err(no_server(what, INSTALL));
        }
        let major = version(&bin, account)?;
        if major < MAJOR_MIN {
            let what = format!(
                "{} holds PostgreSQL {major}, older than {MAJOR_MIN}",
                bin.display()
            );
            return Err(no_server(what, INSTALL));
        }
        Ok(Self { bin })
    }

    /// The folder.
    pub(super) fn bin(&self) -> &Path {
        &self.bin
    }

    /// One of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The real folder of `pg_ctl`; a link to it may stand alone on the path.
fn on_the_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("pg_ctl"));
    let program = programs.find(|program| program.is_file())?;
    Some(program.canonicalize().ok()?.parent()?.to_owned())
}

fn newest() -> Option<PathBuf> {
    let entries = fs::read_dir(DISTRIBUTION).ok()?.flatten();
    let versions = entries.filter_map(|entry| {
        let major: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").is_file().then_some((major, bin))
    });
    versions.max().map(|(_, bin)| bin)
}

fn version(bin: &Path, account: Account) -> Result<u32, DemoError> {
    let unusable = |why: String, remedy| {
        let what = format!("PostgreSQL in {} cannot be run ({why})", bin.display());
        no_server(what, remedy)
    };
    let output = account
        .command(bin.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| {
            if account.is_other() && error.kind() == io::ErrorKind::PermissionDenied {
                return unusable(
                    "as root it is run as `nobody`, who has no access".to_owned(),
                    "run the demo as another user than root, or name a folder that everybody can enter with --postgres-bin",
                );
            }
            unusable(error.to_string(), INSTALL)
        })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    major(&text).ok_or_else(|| {
        let error = String::from_utf8_lossy(&output.stderr);
        unusable(format!("{text}{error}").trim().to_owned(), INSTALL)
    })
}

/// Of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 18beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL) ").nth(1)?;
    let digits = number.find(|letter: char| !letter.is_ascii_digit());
    number[..digits.unwrap_or(number.len())].parse().ok()
}

fn no_server(what: String, remedy: &'static str) -> DemoError {
    DemoError::NoServer { what, remedy }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn versions_as_the_server_tells_them() {
        for (text, number) in [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                Some(15),
            ),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres (PostgreSQL) 16", Some(16)),
            ("postgres 15", None),
            ("", None),
        ] {
            assert_eq!(major(text), number, "{text}");
        }
    }

    #[test]
    fn a_folder_without_the_programs_is_told_with_the_remedy() {
        let found = Installation::find(Some(Path::new("/proc")), Account::choose());
        let text = found.map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            text,
            "there is no `initdb` in /proc, so there is nothing to guard"
        );
    }
}
