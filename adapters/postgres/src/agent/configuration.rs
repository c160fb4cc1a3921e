//! The settings files in a data folder: kept aside while the data are replaced, put back, and told that the server is
//! a standby.
//!
//! A rewind and a base backup bring the primary's own files, its port among them. Writes only while no server runs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use sentinel_core::observation::WriteQuorum;

use super::account::Account;
use super::durable;
use crate::sync_names;

/// Files that belong to the instance and not to the data.
const FILES: [&str; 4] = [
    "postgresql.conf",
    "postgresql.auto.conf",
    "pg_hba.conf",
    "pg_ident.conf",
];
/// The file that `ALTER SYSTEM` writes.
pub(super) const OWN: &str = "postgresql.auto.conf";
/// The setting of the write quorum.
const QUORUM: &str = "synchronous_standby_names";

/// What a standby must not keep of its life as a primary, or of another upstream.
const FORGOTTEN: [&str; 4] = [
    "primary_conninfo",
    "primary_slot_name",
    QUORUM,
    "default_transaction_read_only",
];

/// Keeps the settings files of a data folder in `aside`. What was kept before is replaced.
pub(super) fn save(data_dir: &Path, aside: &Path) -> io::Result<()> {
    fs::create_dir_all(aside)?;
    for name in FILES {
        durable::remove(&aside.join(name))?;
        let path = data_dir.join(name);
        if path.exists() {
            durable::copy(&path, &aside.join(name))?;
        }
    }
    durable::flush_folder(aside)
}

/// Puts the kept files back. A data folder that had none of a file has none afterwards.
pub(super) fn restore(aside: &Path, data_dir: &Path, account: Option<Account>) -> io::Result<()> {
    for name in FILES {
        let (kept, path) = (aside.join(name), data_dir.join(name));
        match fs::read(&kept) {
            Ok(content) => {
                durable::replace(&path, &content)?;
                Account::give(account, &path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => durable::remove(&path)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the folder a standby's: by these settings on top of its own, and the signal file.
pub(super) fn become_standby<'a>(
    data_dir: &Path,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    account: Option<Account>,
) -> io::Result<()> {
    set(data_dir, settings, account)?;
    let signal = data_dir.join("standby.signal");
    durable::replace(&signal, b"")?;
    Account::give(account, &signal)?;
    durable::remove(&data_dir.join("recovery.signal"))
}

/// Puts these settings into the file that `ALTER SYSTEM` writes, and takes out what a standby must forget.
pub(super) fn set<'a>(
    data_dir: &Path,
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    account: Option<Account>,
) -> io::Result<()> {
    let path = data_dir.join(OWN);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    durable::replace(&path, rewritten(&before, settings).as_bytes())?;
    Account::give(account, &path)
}

fn rewritten<'a>(before: &str, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let settings: Vec<_> = settings.into_iter().collect();
    let mut text = String::new();
    for line in before.lines() {
        let name = line.split(['=', ' ', '\t']).next().unwrap_or_default();
        let given = settings.iter().any(|(given, _)| *given == name);
        if !(FORGOTTEN.contains(&name) || name.starts_with("recovery_target") || given) {
            text.push_str(line);
            text.push('\n');
        }
    }
    for (name, value) in settings {
        let value = value.replace('\\', "\\\\").replace('\'', "''");
        text.push_str(&format!("{name} = '{value}'\n"));
    }
    text
}

/// The write quorum that is set in this folder. Its version is that of the newest promotion or change that reached the
/// server over SQL, where the agent had no part in it. `None` where none of ours is set.
pub(super) fn quorum(data_dir: &Path) -> Option<WriteQuorum> {
    let text = fs::read_to_string(data_dir.join(OWN)).ok()?;
    let lines = text.lines().rev();
    let mut values = lines.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == QUORUM).then_some(value.trim())
    });
    let value = values.next()?.strip_prefix('\'')?.strip_suffix('\'')?;
    sync_names::quorum(&value.replace("''", "'"))
}

/// Makes sure that the copy counts as another one than before: the time at which `PG_VERSION` changed is its birth.
pub(super) async fn renew_incarnation(data_dir: &Path, former: Option<i64>) -> io::Result<()> {
    let path = data_dir.join("PG_VERSION");
    loop {
        let metadata = fs::metadata(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        if Some(fs::metadata(&path)?.ctime()) != former {
            return Ok(());
        }
        // It is told in whole seconds.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The birth of the copy in this folder, in seconds; `None` where there is none.
pub(super) fn birth(data_dir: &Path) -> Option<i64> {
    Some(fs::metadata(data_dir.join("PG_VERSION")).ok()?.ctime())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use sentinel_core::id::Epoch;

    use super::*;

    #[test]
    fn a_standby_forgets_its_life_as_a_primary() {
        let before = "# Do not edit this file manually!\nwork_mem = '8MB'\n\
            synchronous_standby_names = 'ANY 1 (\"a\")'\ndefault_transaction_read_only = 'on'\n\
            recovery_target_lsn = '0/1'\nprimary_conninfo = 'host=a'\nport = '1'\n";
        let after = rewritten(before, [("primary_conninfo", "host='b\\'"), ("port", "2")]);
        assert_eq!(
            after,
            "# Do not edit this file manually!\nwork_mem = '8MB'\n\
             primary_conninfo = 'host=''b\\\\'''\nport = '2'\n"
        );
    }

    #[test]
    fn settings_files_are_kept_and_put_back() {
        let (data, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(data.path().join("pg_hba.conf"), "mine").unwrap();
        save(data.path(), aside.path()).unwrap();
        fs::write(data.path().join("pg_hba.conf"), "theirs").unwrap();
        fs::write(data.path().join("postgresql.conf"), "theirs").unwrap();
        restore(aside.path(), data.path(), None).unwrap();
        assert_eq!(fs::read(data.path().join("pg_hba.conf")).unwrap(), b"mine");
        assert!(!data.path().join("postgresql.conf").exists());
    }

    #[test]
    fn the_newest_write_quorum_tells_its_epoch() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(quorum(data.path()), None);
        for (line, epoch) in [
            (
                "synchronous_standby_names = 'ANY 1 (\"a:1\", \"sentinel:7.3\")'",
                Some(7),
            ),
            (
                "synchronous_standby_names = 'ANY 1 (\"sentinel:8.0\")'",
                Some(8),
            ),
            ("synchronous_standby_names = 'other'", None),
            ("synchronous_standby_names = ''", None),
            ("work_mem = '8MB'", None),
        ] {
            let text = format!("# Do not edit\n{line}\nport = '1'\n");
            fs::write(data.path().join(OWN), text).unwrap();
            let found = quorum(data.path()).map(|quorum| quorum.version.epoch);
            assert_eq!(found, epoch.map(Epoch), "{line}");
        }
    }

    #[tokio::test]
    async fn a_new_copy_has_another_birth() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("PG_VERSION"), "15\n").unwrap();
        let former = birth(data.path());
        renew_incarnation(data.path(), former).await.unwrap();
        assert_ne!(birth(data.path()), former);
    }
}
