//! The roles of every test server and how they may log in.
//!
//! Decides nothing at run time: it is the text that a new server is given. The grants are exactly those that
//! `sentinel postgres grants` prints.

/// The password of every role that is asked for one.
pub const PASSWORD: &str = "not-secret";

/// Who logs in. All but the last two have exactly the coordinator's grants and differ in how they are asked for a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Not asked for a password.
    #[default]
    Sentinel,
    /// Asked by SCRAM-SHA-256.
    SentinelScram,
    /// Asked by MD5.
    SentinelMd5,
    /// Asked for the password in clear.
    SentinelPassword,
    /// An application: may create tables in the database `postgres`, and nothing else. Not asked for a password.
    App,
    /// The superuser. Not asked for a password.
    Superuser,
}

impl Role {
    const COORDINATORS: [Self; 4] = [
        Self::Sentinel,
        Self::SentinelScram,
        Self::SentinelMd5,
        Self::SentinelPassword,
    ];

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sentinel => "sentinel",
            Self::SentinelScram => "sentinel_scram",
            Self::SentinelMd5 => "sentinel_md5",
            Self::SentinelPassword => "sentinel_password",
            Self::App => "app",
            Self::Superuser => "postgres",
        }
    }

    /// The password, where the server asks for one.
    pub fn password(self) -> Option<&'static str> {
        match self {
            Self::SentinelScram | Self::SentinelMd5 | Self::SentinelPassword => Some(PASSWORD),
            Self::Sentinel | Self::App | Self::Superuser => None,
        }
    }

    /// `user=… password=…` of a connection string.
    pub(super) fn credentials(self) -> String {
        let password = self
            .password()
            .map(|password| format!(" password={password}"));
        format!("user={}{}", self.name(), password.unwrap_or_default())
    }
}

/// The `pg_hba.conf`.
pub(super) fn access() -> String {
    let asked = [
        (Role::SentinelScram, "scram-sha-256"),
        (Role::SentinelMd5, "md5"),
        (Role::SentinelPassword, "password"),
    ];
    let mut lines = Vec::new();
    for (role, method) in asked {
        lines.push(format!(
            "host all,replication {} 127.0.0.1/32 {method}",
            role.name()
        ));
    }
    lines.push("host all,replication all 127.0.0.1/32 trust".to_owned());
    lines.push("local all,replication all trust".to_owned());
    lines.join("\n") + "\n"
}

/// The SQL that makes the roles, for single-user mode: a statement ends with a semicolon and an empty line.
pub(super) fn sql() -> String {
    let mut statements = vec![
        format!("CREATE ROLE {} LOGIN", Role::App.name()),
        // Everybody's until 15.
        format!(
            "GRANT CREATE, USAGE ON SCHEMA public TO {}",
            Role::App.name()
        ),
    ];
    for role in Role::COORDINATORS {
        let name = role.name();
        let encryption = match role {
            Role::SentinelMd5 => "md5",
            Role::Sentinel
            | Role::SentinelScram
            | Role::SentinelPassword
            | Role::App
            | Role::Superuser => "scram-sha-256",
        };
        statements.push(format!("SET password_encryption = '{encryption}'"));
        statements.push(
            sentinel_postgres::grants(name)
                .trim_end()
                .trim_end_matches(';')
                .to_owned(),
        );
        statements.push(format!("ALTER ROLE {name} PASSWORD '{PASSWORD}'"));
    }
    statements.join(";\n\n") + ";\n\n"
}
