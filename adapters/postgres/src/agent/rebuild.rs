//! Makes a copy of the primary beside the data folder, and puts it in its place.
//!
//! The former data folder is untouched until the copy is whole, and kept until the copy runs. Each step may be broken off
//! and begun again. Needs the space for both, and says so before it begins.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sentinel_core::id::InstanceId;

use super::account::Account;
use super::durable;
use super::programs::{ProgramError, Programs, lend_password};
use super::remnants::BESIDE;
use super::report::{Board, percent_of};
use super::settings::AgentSettings;
use crate::credentials::Credentials;

/// Why there is no copy. The data folder is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum RebuildError {
    /// The copy would fill the disk.
    #[error(
        "a copy of the primary needs about {needed_mb} MB beside `{}`, and {free_mb} MB are free; make room there, or remove the data folder if nothing in it is needed", .beside.display()
    )]
    Space {
        needed_mb: u64,
        free_mb: u64,
        beside: PathBuf,
    },
    /// A folder that cannot be renamed.
    #[error("`{}` is a disk of its own, so no copy can take its place by renaming; use a folder below it as the data folder", .0.display())]
    MountPoint(PathBuf),
    /// Parts of the data folder are elsewhere.
    #[error("`{}` has {what} outside of the data folder, which this agent does not copy; make the copy by hand with pg_basebackup and its mappings", .folder.display())]
    Elsewhere { folder: PathBuf, what: &'static str },
    /// The base backup failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A folder cannot be made, renamed or removed.
    #[error("`{}` could not be {what}: {source}", .folder.display())]
    Io {
        folder: PathBuf,
        what: &'static str,
        source: io::Error,
    },
}

/// Beside the data go its log while the copy is made, and room to start.
const SPARE_BYTES: u64 = 64 << 20;

/// A name beside the data folder that nobody has.
pub(super) fn beside(data_dir: &Path, what: &str) -> PathBuf {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut name = data_dir.as_os_str().to_owned();
    name.push(format!("{BESIDE}{what}-{}", now.as_millis()));
    PathBuf::from(name)
}

/// Refuses what cannot work, before anything is stopped.
pub(super) fn check(settings: &AgentSettings, bytes: u64) -> Result<(), RebuildError> {
    let data_dir = &settings.data_dir;
    let parent = data_dir.parent().unwrap_or(Path::new("/"));
    if let (Ok(folder), Ok(above)) = (fs::metadata(data_dir), fs::metadata(parent))
        && folder.dev() != above.dev()
    {
        return Err(RebuildError::MountPoint(data_dir.clone()));
    }
    let elsewhere = |what| RebuildError::Elsewhere {
        folder: data_dir.clone(),
        what,
    };
    if fs::symlink_metadata(data_dir.join("pg_wal")).is_ok_and(|wal| wal.is_symlink()) {
        return Err(elsewhere("its write-ahead log"));
    }
    if fs::read_dir(data_dir.join("pg_tblspc")).is_ok_and(|mut spaces| spaces.next().is_some()) {
        return Err(elsewhere("tablespaces"));
    }
    let needed = bytes + bytes / 20 + SPARE_BYTES;
    let free = free_bytes(parent).map_err(|source| RebuildError::Io {
        folder: parent.to_owned(),
        what: "asked for its free space",
        source,
    })?;
    if free < needed {
        return Err(RebuildError::Space {
            needed_mb: needed >> 20,
            free_mb: free >> 20,
            beside: data_dir.clone(),
        });
    }
    Ok(())
}

/// Takes a base backup into `folder`, from the beginning.
pub(super) async fn copy(
    settings: &AgentSettings,
    programs: &Programs,
    primary: &InstanceId,
    folder: &Path,
    board: &Board,
) -> Result<(), RebuildError> {
    remove(folder)?;
    prepare(folder, programs.account)?;
    let role = settings.postgres.replication();
    let mut command = programs.command("pg_basebackup");
    command
        .arg("-D")
        .arg(folder)
        .args([
            "--wal-method=stream",
            "--checkpoint=fast",
            "--progress",
            "--no-password",
        ])
        .arg("-d")
        .arg(connection_words(primary, role, None));
    lend_password(&mut command, role);
    board.doing(format!("making a copy of {primary}"));
    let progress = |line: &str| {
        if let Some(percent) = percent_of(line) {
            board.percent(percent);
        }
    };
    programs.follow("pg_basebackup", command, progress).await?;
    Ok(())
}

/// Puts the copy in the place of the data folder, whatever part of that was done before.
pub(super) fn swap(data_dir: &Path, folder: &Path, old: &Path) -> Result<(), RebuildError> {
    let failed = |source| RebuildError::Io {
        folder: data_dir.to_owned(),
        what: "replaced by its copy",
        source,
    };
    if !folder.exists() {
        return Ok(());
    }
    if data_dir.exists() {
        durable::rename(data_dir, old).map_err(failed)?;
    }
    durable::rename(folder, data_dir).map_err(failed)
}

/// Removes a folder of ours with everything in it.
pub(super) fn remove(folder: &Path) -> Result<(), RebuildError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(RebuildError::Io {
            folder: folder.to_owned(),
            what: "removed",
            source,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A base backup makes its folder only where its user may; the agent may everywhere.
fn prepare(folder: &Path, account: Option<Account>) -> Result<(), RebuildError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    let given = made.and_then(|()| Account::give(account, folder));
    given.map_err(|source| RebuildError::Io {
        folder: folder.to_owned(),
        what: "made",
        source,
    })
}

/// How a program of ours reaches a server, without the password.
pub(super) fn connection_words(
    server: &InstanceId,
    role: &Credentials,
    database: Option<&str>,
) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut words = format!(
        "host='{}' port={} user='{}' connect_timeout=5 application_name=sentinel-agent",
        quoted(server.host()),
        server.port(),
        quoted(&role.username)
    );
    if let Some(database) = database {
        words.push_str(&format!(" dbname='{}'", quoted(database)));
    }
    words
}

fn free_bytes(folder: &Path) -> io::Result<u64> {
    let mut existing = folder;
    while !existing.exists() {
        existing = existing.parent().unwrap_or(Path::new("/"));
    }
    let space = rustix::fs::statvfs(existing)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::settings::sample;
    use super::*;

    #[test]
    fn a_swap_may_be_broken_off_anywhere() {
        for done in 0..3 {
            let root = tempfile::tempdir().unwrap();
            let [data, new, old] = ["data", "new", "old"].map(|name| root.path().join(name));
            for (folder, content) in [(&data, "former"), (&new, "copy")] {
                fs::create_dir(folder).unwrap();
                fs::write(folder.join("x"), content).unwrap();
            }
            if done > 0 {
                fs::rename(&data, &old).unwrap();
            }
            if done > 1 {
                fs::rename(&new, &data).unwrap();
            }
            swap(&data, &new, &old).unwrap();
            assert_eq!(fs::read(data.join("x")).unwrap(), b"copy");
            assert_eq!(fs::read(old.join("x")).unwrap(), b"former");
        }
    }

    #[test]
    fn a_disk_that_is_too_small_is_told_before() {
        let root = tempfile::tempdir().unwrap();
        let settings = AgentSettings {
            data_dir: root.path().join("data"),
            ..sample()
        };
        check(&settings, 0).unwrap();
        let error = check(&settings, 1 << 60).unwrap_err();
        assert!(matches!(error, RebuildError::Space { .. }), "{error}");
    }

    #[test]
    fn a_role_with_quotes_reaches_the_server_whole() {
        let role = Credentials {
            username: "o'neil".into(),
            password: None,
        };
        let words = connection_words(&InstanceId::new("::1", 5432), &role, Some("a\\b"));
        assert!(
            words.contains(r"user='o\'neil'") && words.ends_with(r"dbname='a\\b'"),
            "{words}"
        );
    }
}
