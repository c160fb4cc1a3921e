//! Makes the data folders: one cluster by `initdb`, and the standbys as copies of it before it ever ran.
//!
//! A copy of a cluster that was shut down is a standby as good as one by `pg_basebackup`, and takes no server's time.

use std::io;
use std::path::Path;
use std::process::Command;

use sentinel_core::id::InstanceId;

use super::account::Account;
use super::installation::Installation;
use super::settings;
use crate::demo::error::{DemoError, system};

/// The first cluster: roles, the table, its configuration files. Nothing of it runs when this returns.
pub(super) async fn primary(
    installation: &Installation,
    account: Account,
    (server, folder): (&InstanceId, &Path),
    password: &str,
) -> Result<(), DemoError> {
    let mut initdb = account.command(installation.program("initdb"));
    initdb
        .arg("-D")
        .arg(folder)
        .arg(format!("--wal-segsize={}", settings::SEGMENT_MB))
        .args(["--no-sync", "--no-locale", "-E", "UTF8", "-A", "reject"])
        .args(["-U", "postgres"]);
    run("initdb", initdb).await?;
    configure(account, server, folder)?;
    let statements = folder.with_extension("sql");
    account
        .write(&statements, &settings::statements(password))
        .map_err(cannot_write(folder))?;
    let input = std::fs::File::open(&statements).map_err(cannot_write(folder))?;
    let mut single = account.command(installation.program("postgres"));
    single
        .args(["--single", "-j", "-F", "-D"])
        .arg(folder)
        .arg(settings::DATABASE)
        .stdin(input);
    let printed = run("postgres --single", single).await;
    // The password stands in it.
    std::fs::remove_file(&statements).map_err(cannot_write(folder))?;
    let printed = printed?;
    // Single-user mode goes on after an error, and exits with 0.
    if printed.contains("ERROR:") {
        return Err(failed("postgres --single", printed));
    }
    Ok(())
}

/// A standby, as a copy of a cluster that does not run.
pub(super) async fn standby(
    account: Account,
    (primary, original): (&InstanceId, &Path),
    (server, folder): (&InstanceId, &Path),
    password: &str,
) -> Result<(), DemoError> {
    let mut copy = account.command("cp");
    copy.arg("-a").arg(original.join(".")).arg(folder);
    run("cp", copy).await?;
    configure(account, server, folder)?;
    let follow = settings::following(server, primary, password);
    account
        .write(&folder.join("postgresql.auto.conf"), &follow)
        .and_then(|()| account.write(&folder.join("standby.signal"), ""))
        .map_err(cannot_write(folder))
}

fn configure(account: Account, server: &InstanceId, folder: &Path) -> Result<(), DemoError> {
    account
        .write(
            &folder.join("postgresql.conf"),
            &settings::of_server(server),
        )
        .and_then(|()| account.write(&folder.join("pg_hba.conf"), &settings::access()))
        .map_err(cannot_write(folder))
}

fn cannot_write(folder: &Path) -> impl FnOnce(io::Error) -> DemoError {
    system(format!("files in {} cannot be written", folder.display()))
}

/// What it printed.
async fn run(what: &str, command: Command) -> Result<String, DemoError> {
    let output = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(system(format!("`{what}` cannot be started")))?;
    let printed = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat();
    if output.status.success() {
        Ok(printed)
    } else {
        Err(failed(what, printed))
    }
}

fn failed(what: &str, log: String) -> DemoError {
    DemoError::Ended {
        what: what.to_owned(),
        log,
    }
}
