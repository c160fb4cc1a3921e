//! What the adapter is told of each service, beyond the core's own settings of it.

use std::collections::BTreeMap;

use crate::credentials::Credentials;

/// How to reach the servers of one service, and how they reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresService {
    /// The coordinator's own role on all its servers, with what [`crate::grants`] gives it.
    pub credentials: Credentials,
    /// The database to which it connects. Any will do: it reads no table.
    pub dbname: String,
    /// The role as which standbys connect to the primary; `None`: the coordinator's own.
    ///
    /// Its password becomes part of `primary_conninfo` on the standbys, which the server shows to roles
    /// that may read all settings, and which it logs when it changes; `passfile` avoids that.
    pub replication: Option<Credentials>,
    /// Where the standbys find the password file for that role, as a path on their own host; when it
    /// is given, no password is written into `primary_conninfo`.
    pub passfile: Option<String>,
    /// Further words of the standbys' connection string, such as `sslmode`, by their libpq names. Those
    /// that the adapter sets itself (address, role, name, timeouts) are not taken from here.
    pub replication_options: BTreeMap<String, String>,
}

impl Default for PostgresService {
    fn default() -> Self {
        Self {
            credentials: Credentials {
                username: "sentinel".into(),
                password: None,
            },
            dbname: "postgres".into(),
            replication: None,
            passfile: None,
            replication_options: BTreeMap::new(),
        }
    }
}

impl PostgresService {
    /// The role as which standbys connect to the primary.
    pub(crate) fn replication(&self) -> &Credentials {
        self.replication.as_ref().unwrap_or(&self.credentials)
    }
}
