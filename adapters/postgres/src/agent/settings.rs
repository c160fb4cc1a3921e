//! What the agent is told of the one server that it minds.
//!
//! Validates what can be judged without touching the host. Does not know the daemon's file format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sentinel_core::id::{InstanceId, ServiceName};

use crate::credentials::Credentials;
use crate::service::PostgresService;

/// Everything that the agent needs to know of its server.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The service to which the instance belongs.
    pub service: ServiceName,
    /// The address at which standbys and clients reach the server; also its name as a standby.
    pub instance: InstanceId,
    /// The data folder. It may be missing: then a standby is built there.
    pub data_dir: PathBuf,
    /// The main settings file where it is not in the data folder (Debian: `/etc/postgresql/15/main/postgresql.conf`).
    pub config_file: Option<PathBuf>,
    /// Where `postgres`, `pg_rewind` and the others are. `None`: looked for by the data folder's version.
    pub bin_dir: Option<PathBuf>,
    /// How the server is started and stopped.
    pub how: How,
    /// The user as whom the server and its tools run when the agent is root. `None`: the owner of the data folder.
    pub account: Option<String>,
    /// Where the server's own output goes when the agent starts it. `None`: `postgres.log` in `state_dir`.
    pub log_file: Option<PathBuf>,
    /// Where the agent keeps what it must not forget: the highest order accepted, and the journal of a job.
    pub state_dir: PathBuf,
    /// Where the write-ahead log that only a deposed primary had is kept. Nothing is ever removed from it.
    pub diverged_dir: PathBuf,
    /// How long a server that exited waits for an order before it is restarted in place. Default: 1 s.
    pub restart_after: Duration,
    /// How long starting and each way of stopping may take.
    pub limits: Limits,
    /// How the servers of the service are reached, and reach each other.
    pub postgres: PostgresService,
    /// The role by which a rewind reads the primary's files; `None`: the coordinator's own.
    pub rewind: Option<Credentials>,
    /// Settings that a standby made from nothing gets, beside its port: what its primary has may be of another host, such
    /// as `listen_addresses`.
    pub first_settings: BTreeMap<String, String>,
    /// How long the slot of an instance that nobody names any longer is kept. Default: 10 minutes.
    pub slots_kept: Duration,
}

/// How a server is started and stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// `postgres` itself, as a child of the agent that outlives it.
    Command,
    /// `pg_ctl`.
    PgCtl,
    /// Debian's `pg_ctlcluster`.
    PgCtlCluster {
        /// Major version, such as `15`.
        version: String,
        /// Name of the cluster, such as `main`.
        name: String,
    },
    /// A unit of systemd. It must not restart the server by itself (`Restart=no`).
    Systemd {
        /// Name of the unit.
        unit: String,
    },
}

/// How long starting and each way of stopping may take before the next, rougher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until a started server answers. One that takes longer goes on starting; it is reported, not stopped.
    pub start: Duration,
    /// A smart stop waits for the clients to leave; zero leaves it out. Default: zero.
    pub smart: Duration,
    /// A fast stop ends the clients' sessions and writes a checkpoint. Default: 30 s.
    pub fast: Duration,
    /// An immediate stop is a crash by order. After it the server is killed. Default: 5 s.
    pub immediate: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            smart: Duration::ZERO,
            fast: Duration::from_secs(30),
            immediate: Duration::from_secs(5),
        }
    }
}

/// What is wrong with the settings. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A path depends on the folder in which the agent was started.
    #[error("{name} is `{}`, which depends on the current folder; write a path that begins with /", .path.display())]
    Relative {
        /// Which setting.
        name: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A rewind or a rebuild would destroy the folder.
    #[error("{name} `{}` is inside the data folder `{}`, which a rebuild replaces; put it elsewhere", .path.display(), .data_dir.display())]
    InsideDataDir {
        /// Which setting.
        name: &'static str,
        /// Its value.
        path: PathBuf,
        /// The data folder.
        data_dir: PathBuf,
    },
    /// The name under which a standby is counted would be cut off.
    #[error(
        "the address {0} has more than 63 bytes, and PostgreSQL would cut off the standby's name; use a shorter host name"
    )]
    NameTooLong(InstanceId),
}

/// PostgreSQL's names have at most so many bytes.
const NAME_BYTES_MAX: usize = 63;

impl AgentSettings {
    /// Refuses settings that cannot work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        for (name, path) in self.paths() {
            if !path.is_absolute() {
                let path = path.to_owned();
                return Err(SettingsError::Relative { name, path });
            }
        }
        for (name, path) in [
            ("state_dir", &self.state_dir),
            ("diverged_dir", &self.diverged_dir),
        ] {
            if path.starts_with(&self.data_dir) {
                return Err(SettingsError::InsideDataDir {
                    name,
                    path: path.clone(),
                    data_dir: self.data_dir.clone(),
                });
            }
        }
        if self.instance.to_string().len() > NAME_BYTES_MAX {
            return Err(SettingsError::NameTooLong(self.instance.clone()));
        }
        Ok(())
    }

    fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let optional = [
            ("config_file", &self.config_file),
            ("bin_dir", &self.bin_dir),
            ("log_file", &self.log_file),
        ];
        let required = [
            ("data_dir", &self.data_dir),
            ("state_dir", &self.state_dir),
            ("diverged_dir", &self.diverged_dir),
        ];
        let optional = optional
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_deref()?)));
        required
            .into_iter()
            .map(|(name, path)| (name, path.as_path()))
            .chain(optional)
    }

    pub(super) fn log_path(&self) -> PathBuf {
        match &self.log_file {
            Some(path) => path.clone(),
            None => self.state_dir.join("postgres.log"),
        }
    }

    /// The role by which a rewind reads the primary's files.
    pub(super) fn rewind_role(&self) -> &Credentials {
        self.rewind.as_ref().unwrap_or(&self.postgres.credentials)
    }

    /// Whether this folder is to be a standby when it is started.
    pub(super) fn is_standby(&self) -> bool {
        self.data_dir.join("standby.signal").exists()
    }
}

#[cfg(test)]
pub(super) fn sample() -> AgentSettings {
    AgentSettings {
        service: ServiceName::new("orders"),
        instance: InstanceId::new("127.0.0.1", 5433),
        data_dir: "/var/lib/pg/data".into(),
        config_file: None,
        bin_dir: None,
        how: How::Command,
        account: None,
        log_file: None,
        state_dir: "/var/lib/pg/agent".into(),
        diverged_dir: "/var/lib/pg/diverged".into(),
        restart_after: Duration::from_secs(1),
        limits: Limits::default(),
        postgres: PostgresService::default(),
        rewind: None,
        first_settings: BTreeMap::new(),
        slots_kept: Duration::from_secs(600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert_eq!(sample().validate(), Ok(()));
        let relative = AgentSettings {
            bin_dir: Some("bin".into()),
            ..sample()
        };
        let name = "bin_dir";
        let path = PathBuf::from("bin");
        assert_eq!(
            relative.validate(),
            Err(SettingsError::Relative { name, path })
        );
        let inside = AgentSettings {
            diverged_dir: "/var/lib/pg/data/diverged".into(),
            ..sample()
        };
        assert!(matches!(
            inside.validate(),
            Err(SettingsError::InsideDataDir {
                name: "diverged_dir",
                ..
            })
        ));
        let host = "a".repeat(60);
        let long = AgentSettings {
            instance: InstanceId::new(host.as_str(), 5432),
            ..sample()
        };
        assert!(matches!(
            long.validate(),
            Err(SettingsError::NameTooLong(_))
        ));
    }
}
