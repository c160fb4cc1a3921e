//! One SQL connection to one server, and the ways in which it fails.
//!
//! Opens the socket itself, because the kind of a failed connect is evidence for the detector. Never
//! reconnects and never retries: callers decide that. Times out nothing: callers bound every await by
//! their deadline.

use std::error::Error as _;
use std::fmt;
use std::io;

use sentinel_core::id::InstanceId;
use sentinel_core::runtime::ConnectionError;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};

use crate::greeting::{Greeting, NotPostgres};
use crate::query::{self, Status};
use crate::room::Tried;
use crate::service::PostgresService;

/// What a connection is for; the server's own views show it as the application's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads, and never sets anything.
    Probe,
    /// Carries out actions; closed by whoever acts next (rule S6).
    Act,
}

impl Purpose {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Probe => "sentinel-probe",
            Self::Act => "sentinel-act",
        }
    }
}

/// An open session. Dropping it closes the socket at once, also with answers outstanding.
pub(crate) struct Connection {
    client: Client,
    status: Statement,
    driver: AbortHandle,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// Connects to an address, without a word.
pub(crate) async fn dial(instance: &InstanceId) -> Result<TcpStream, ConnectionError> {
    let stream = TcpStream::connect((instance.host(), instance.port()))
        .await
        .map_err(|error| not_connected(&error))?;
    stream
        .set_nodelay(true)
        .map_err(|error| ConnectionError::Broken(error.to_string()))?;
    Ok(stream)
}

impl Connection {
    /// Connects, authenticates and prepares the question of every probe.
    ///
    /// `closed` runs once when the other side closes the connection, and not when we drop it.
    pub(crate) async fn open(
        instance: &InstanceId,
        service: &PostgresService,
        purpose: Purpose,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<Self, ConnectionError> {
        let mut config = Config::new();
        config
            .user(&service.credentials.username)
            .dbname(&service.dbname)
            .application_name(purpose.name());
        if let Some(password) = &service.credentials.password {
            config.password(password.reveal());
        }
        let stream = Greeting::new(dial(instance).await?);
        let (client, driver) = config
            .connect_raw(stream, NoTls)
            .await
            .map_err(|error| failed(&error))?;
        let driver = tokio::spawn(async move {
            // The error is told to whoever has a question under way.
            let _ = driver.await;
            closed();
        });
        let driver = driver.abort_handle();
        let status = match client.prepare(query::STATUS).await {
            Ok(status) => status,
            Err(error) => {
                driver.abort();
                return Err(failed(&error));
            }
        };
        Ok(Self {
            client,
            status,
            driver,
        })
    }

    /// Reads everything that facts are made of, in one round trip.
    pub(crate) async fn status(&self) -> Result<Status, ConnectionError> {
        let asked = self.client.query_one(&self.status, &[]).await;
        let row = match asked {
            // It was promoted in the middle of the question.
            Err(error) if error.code() == Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => {
                self.client.query_one(&self.status, &[]).await
            }
            answer @ (Ok(_) | Err(_)) => answer,
        };
        let row = row.map_err(|error| failed(&error))?;
        query::read(&row).map_err(|error| ConnectionError::Rejected(error.to_string()))
    }

    /// Sends one statement, and returns the first column of its rows.
    pub(crate) async fn run(&self, statement: &str) -> Result<Vec<String>, ConnectionError> {
        let messages = self.client.simple_query(statement).await;
        let messages = messages.map_err(|error| failed(&error))?;
        let mut column = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                column.push(row.get(0).unwrap_or_default().to_owned());
            }
        }
        Ok(column)
    }

    /// Sends a statement that writes to a disk, and tells whether there was room.
    pub(crate) async fn write(&self, statement: &str) -> Result<Tried, ConnectionError> {
        let Err(error) = self.client.simple_query(statement).await else {
            return Ok(Tried::Written);
        };
        match error.as_db_error() {
            Some(said) if said.code() == &SqlState::DISK_FULL => {
                Ok(Tried::Full(said.message().to_owned()))
            }
            Some(said) if !is_end(said.code().code()) => Ok(Tried::Untold),
            Some(_) | None => Err(failed(&error)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn not_connected(error: &io::Error) -> ConnectionError {
    // Compared and not matched: the enum is the standard library's and grows.
    if error.kind() == io::ErrorKind::ConnectionRefused {
        ConnectionError::Refused
    } else if error.kind() == io::ErrorKind::ConnectionReset {
        ConnectionError::Broken(error.to_string())
    } else {
        ConnectionError::Unreachable(error.to_string())
    }
}

/// Error texts of the server hold no secret: it quotes neither passwords nor statements in them.
fn failed(error: &tokio_postgres::Error) -> ConnectionError {
    if let Some(said) = error.as_db_error() {
        return refusal(said.code().code(), said.message());
    }
    let cause = error.source();
    if cause.is_some_and(is_other_protocol) {
        return ConnectionError::Rejected(NotPostgres.to_string());
    }
    if error.is_closed() || cause.is_some_and(|cause| cause.is::<io::Error>()) {
        let text = cause.map_or_else(|| error.to_string(), ToString::to_string);
        return ConnectionError::Broken(text);
    }
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    ConnectionError::Rejected(format!(
        "{error}{cause}; set username and password_file of this service, and check the server's pg_hba.conf"
    ))
}

fn is_other_protocol(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<NotPostgres>())
}

/// Whether it closes a session that stood: administrator's order, crash of another session, database dropped.
fn is_end(code: &str) -> bool {
    ["57P01", "57P02", "57P04"].contains(&code)
}

/// What the server's own words mean, by their code.
pub(crate) fn refusal(code: &str, message: &str) -> ConnectionError {
    if is_end(code) {
        return ConnectionError::Broken(message.to_owned());
    }
    let remedy = REMEDIES
        .iter()
        .find(|(known, _)| code.starts_with(known))
        .map_or("see the server's log", |(_, remedy)| remedy);
    ConnectionError::Rejected(format!("the server answers `{message}`; {remedy}"))
}

/// By code or class of code.
const REMEDIES: [(&str, &str); 8] = [
    (
        "57P03",
        "it takes connections again when that is over, or when hot_standby is on",
    ),
    ("28P01", "correct username or password_file of this service"),
    (
        "28",
        "add a line for this role and this node to its pg_hba.conf",
    ),
    ("3D000", "correct dbname of this service"),
    (
        "42501",
        "give the role what `sentinel postgres grants` prints",
    ),
    (
        "42",
        "it is older than 13 or is not PostgreSQL, and neither is supported",
    ),
    (
        "53300",
        "raise its max_connections or max_wal_senders, or close connections to it",
    ),
    ("53100", "its disk is full: make room"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_lead_to_a_remedy() {
        for (code, wanted) in [
            ("28P01", "password_file"),
            ("28000", "pg_hba.conf"),
            ("42501", "sentinel postgres grants"),
            ("42883", "older than 13"),
            ("57P03", "takes connections again"),
            ("XX000", "see the server's log"),
        ] {
            let text = refusal(code, "words").to_string();
            assert!(text.contains(wanted), "{code}: {text}");
        }
    }

    #[test]
    fn a_session_that_the_server_ends_is_broken() {
        assert_eq!(
            refusal("57P01", "terminating connection"),
            ConnectionError::Broken("terminating connection".into())
        );
    }
}
