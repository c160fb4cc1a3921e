//! A server that is a cluster of Debian's: its settings are in `/etc/postgresql`, and `pg_ctlcluster` starts it. Shown with
//! the real `pg_createcluster`, on a cluster of the test's own, which is gone from `/etc/postgresql` afterwards.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_postgres::agent::{How, ServerState};
use sentinel_tests::postgres_server::{Options, PostgresServer, PostgresVersion, Role, account};
use sentinel_tests::{skipped, wait};

use crate::minded::{JOB, Minded, life};
use crate::minding::{kill_postmaster, restarted, running};
use crate::rejoining::{diverge, equal, fill, follows};

const CLUSTERS: &str = "/etc/postgresql";
/// Where Debian's packages have the programs of each version.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// As the tests' usual servers, where that matters for an agent; folders and port are the cluster's.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
ssl = off
max_connections = 60
shared_buffers = '8MB'
dynamic_shared_memory_type = mmap
wal_log_hints = on
max_wal_senders = 20
wal_keep_size = '16MB'
max_wal_size = '32MB'
";

/// Its entry in `/etc/postgresql`. Dropping it removes that; the folder with the data is the server's.
struct Entry {
    version: String,
    name: String,
    guard: Child,
}

impl Entry {
    fn folder(&self) -> PathBuf {
        Path::new(CLUSTERS).join(&self.version).join(&self.name)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // It waits for the end of its input; then it removes the entry.
        drop(self.guard.stdin.take());
        drop(self.guard.wait());
    }
}

/// Removes the entry when the test is over, also when its process was killed. The version's folder goes if it is empty.
const GUARD: &str = r#"
read -r _
pid=$(head -n 1 "$DATA/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then kill -9 "$pid" 2>/dev/null; fi
rm -rf "$CLUSTERS/$VERSION/$NAME"
rmdir "$CLUSTERS/$VERSION" 2>/dev/null
"#;

fn guard(server: &PostgresServer, version: &str, name: &str) -> Child {
    Command::new("sh")
        .args(["-c", GUARD, "cluster-guard"])
        .env("CLUSTERS", CLUSTERS)
        .env("VERSION", version)
        .env("NAME", name)
        .env("DATA", server.data_dir())
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What is in `/etc/postgresql`.
fn entries() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for version in fs::read_dir(CLUSTERS).into_iter().flatten().flatten() {
        found.push(version.path());
        let clusters = fs::read_dir(version.path()).into_iter().flatten().flatten();
        found.extend(clusters.map(|cluster| cluster.path()));
    }
    found.sort();
    found
}

/// A cluster that does not run; `None` where it cannot be made, which is noted.
fn cluster() -> Option<(PostgresServer, Entry)> {
    let debians = PostgresVersion::all_present();
    let debians = debians
        .into_iter()
        .find(|version| version.bin_dir().starts_with(PROGRAMS));
    let present = Path::new("/usr/bin/pg_createcluster").exists();
    let root = rustix::process::geteuid().is_root();
    let (Some(version), true, true) = (debians, present, root) else {
        skipped::note(
            "needs Debian's PostgreSQL with pg_createcluster, and root for /etc/postgresql",
        );
        return None;
    };
    let server = PostgresServer::without_data(&version, Options::default());
    let number = version.bin_dir();
    let number = number.parent().unwrap().file_name().unwrap();
    let number = number.to_str().unwrap().to_owned();
    let name = format!("sentineltest{}", server.port());
    let entry = Entry {
        guard: guard(&server, &number, &name),
        version: number,
        name,
    };
    let made = Command::new("pg_createcluster")
        .args(["--user=nobody", "--group=nogroup", "--start-conf=manual"])
        .arg("-d")
        .arg(server.data_dir())
        .arg("-s")
        .arg(server.socket_dir())
        .arg("-l")
        .arg(server.folder().join("log/postgresql.log"))
        .args(["-p", &server.port().to_string()])
        .args([&entry.version, &entry.name])
        .args(["--", "-U", "postgres", "-A", "trust", "--wal-segsize=1"])
        .args(["--no-locale", "-E", "UTF8"])
        .current_dir("/")
        .output();
    succeeded(made);
    let settings = entry.folder().join("conf.d/sentinel.conf");
    account::write(&settings, SETTINGS).unwrap();
    let access = "local all all trust\nhost all,replication all 127.0.0.1/32 trust\n";
    account::write(&entry.folder().join("pg_hba.conf"), access).unwrap();
    Some((server, entry))
}

fn succeeded(output: std::io::Result<Output>) -> String {
    let output = output.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    assert!(output.status.success(), "{printed}");
    printed
}

/// What Debian's own tool says of it: `online` or `down`.
fn state(entry: &Entry) -> String {
    let listed = Command::new("pg_lsclusters").arg("-h").output();
    let listed = succeeded(listed);
    let mut lines = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words[..2] == [&entry.version, &entry.name]);
    line.unwrap()[3].to_owned()
}

#[test]
fn a_cluster_of_debians_is_started_stopped_minded_and_brought_back() {
    let before = entries();
    let Some((server, entry)) = cluster() else {
        return;
    };
    let mut minded = Minded::prepare(&server);
    minded.settings.config_file = Some(entry.folder().join("postgresql.conf"));
    minded.settings.how = How::PgCtlCluster {
        version: entry.version.clone(),
        name: entry.name.clone(),
    };
    minded.begin();
    minded.committed(&server.instance(), 1);
    restarted(&server, None);
    running(&minded);
    assert_eq!(state(&entry), "online");
    let settings = entry.folder().join("postgresql.conf");
    assert_eq!(
        server.value("SHOW config_file"),
        settings.display().to_string()
    );
    server.execute(&sentinel_postgres::grants(Role::Sentinel.name()));

    crash(&server, &minded);
    pause_and_resume(&server, &minded, &entry);
    let new = PostgresServer::standby_of(&server);
    fill(&server);
    server.wait_for_standby(&new);
    diverge(&server, &new, 500);
    for epoch in [2, 3] {
        let primary = new.instance();
        let kind = match epoch {
            2 => ActionKind::Demote { primary },
            _ => ActionKind::Rebuild {
                primary,
                life: life(&server),
            },
        };
        let facts = minded.order_until_done(&kind, epoch);
        assert!(follows(&facts, &new), "{kind:?} {facts:?}");
        equal(&new, &server);
        assert_eq!(state(&entry), "online,recovery", "{kind:?}");
        assert_eq!(
            server.value("SHOW config_file"),
            settings.display().to_string()
        );
    }
    assert_eq!(minded.folders_of_diverged().len(), 1);
    drop(minded);
    drop(entry);
    assert_eq!(entries(), before, "it is as it was");
}

fn crash(server: &PostgresServer, minded: &Minded) {
    let pid = server.pid();
    kill_postmaster(server);
    let killed = Instant::now();
    wait::until("the end is noticed", || {
        (minded.status().state != ServerState::Running).then_some(())
    });
    assert!(
        killed.elapsed() < Duration::from_millis(500),
        "{:?}",
        killed.elapsed()
    );
    restarted(server, pid);
    running(minded);
}

fn pause_and_resume(server: &PostgresServer, minded: &Minded, entry: &Entry) {
    let limit = Duration::from_secs(60);
    minded.order_until_done(&ActionKind::Pause { limit }, 1);
    assert_eq!(server.pid(), None);
    assert_eq!(state(entry), "down");
    let resumed = wait::within(JOB, || match minded.order(ActionKind::Resume, 1) {
        Outcome::Done(_) => Some(()),
        Outcome::Refused(_) | Outcome::UnderWay(_) | Outcome::Unknown(_) => None,
    });
    assert!(resumed.is_some(), "{:?}", minded.status());
    assert_eq!(state(entry), "online");
    running(minded);
}
