//! One TCP connection to one server, and the ways in which it fails.
//!
//! Opens the socket itself, because the kind of a failed connect is evidence for the detector, and
//! runs the redis crate's multiplexed driver on it, whose end is the earliest sign of a broken
//! connection. Never reconnects and never retries: callers decide that. Times out nothing: callers
//! bound every await by their deadline.
//!
//! Rejected: `redis::Client`, which resolves, connects and authenticates in one step, so that a
//! password that is refused, a name that is not found and a port that nobody listens on look alike.

use std::fmt;
use std::io;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError,
    ServerError, Value,
};
use sentinel_core::id::InstanceId;
use sentinel_core::runtime::ConnectionError;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::credentials::Credentials;
use crate::overheard::{FirstWords, Overheard};

/// A connection in RESP2. Dropping it closes the socket at once, also with answers outstanding.
pub(crate) struct Connection {
    pipe: MultiplexedConnection,
    driver: AbortHandle,
    credentials: Option<Credentials>,
    greeted: bool,
    words: FirstWords,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("greeted", &self.greeted)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, and sends nothing yet: an overloaded or hung server accepts a connection and then
    /// says nothing, and such a connection is worth keeping until it answers.
    ///
    /// `closed` runs once when the other side closes the connection, and not when we drop it.
    pub(crate) async fn open(
        instance: &InstanceId,
        credentials: Option<Credentials>,
        closed: impl FnOnce() + Send + 'static,
    ) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect((instance.host(), instance.port()))
            .await
            .map_err(|error| not_connected(&error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| ConnectionError::Broken(error.to_string()))?;
        let (stream, words) = Overheard::new(stream);
        // Without a library name and in RESP2 the crate's own set-up sends nothing.
        let info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (pipe, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| failed(&error))?;
        let driver = tokio::spawn(async move {
            driver.await;
            closed();
        });
        Ok(Self {
            pipe,
            driver: driver.abort_handle(),
            credentials,
            greeted: false,
            words,
        })
    }

    /// Sends the commands in one write and returns one reply each; error replies are among them.
    ///
    /// On a new connection one round trip goes before it, in which we prove who we are.
    pub(crate) async fn exchange(
        &mut self,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Value>, ConnectionError> {
        self.greet().await?;
        self.send(commands).await
    }

    /// Authenticates, or makes sure that no password is wanted.
    async fn greet(&mut self) -> Result<(), ConnectionError> {
        if self.greeted {
            return Ok(());
        }
        let greeting = match &self.credentials {
            None => redis::cmd("PING"),
            Some(credentials) => {
                let mut auth = redis::cmd("AUTH");
                if let Some(username) = &credentials.username {
                    auth.arg(username);
                }
                auth.arg(credentials.password.reveal());
                auth
            }
        };
        let replies = match self.send(vec![greeting]).await {
            Ok(replies) => replies,
            // It said why before it closed.
            Err(ConnectionError::Broken(text)) => {
                return Err(match self.words.error_line() {
                    Some(line) => turned_away(&line),
                    None => ConnectionError::Broken(text),
                });
            }
            Err(error) => return Err(error),
        };
        match replies.first() {
            // A server that loads its data knows us already, and answers INFO.
            Some(Value::ServerError(error))
                if !["LOADING", "MASTERDOWN"].contains(&error.code()) =>
            {
                Err(rejected(error))
            }
            Some(_) | None => {
                self.greeted = true;
                Ok(())
            }
        }
    }

    async fn send(&mut self, commands: Vec<Cmd>) -> Result<Vec<Value>, ConnectionError> {
        let count = commands.len();
        let mut pipeline = redis::pipe();
        for command in commands {
            pipeline.add_command(command);
        }
        self.pipe
            .send_packed_commands(&pipeline, 0, count)
            .await
            .map_err(|error| failed(&error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An error reply of the server, with the remedy where we know one. Error replies hold no secret.
pub(crate) fn rejected(error: &ServerError) -> ConnectionError {
    turned_away(&reply_text(error))
}

/// The words of an error reply.
pub(crate) fn reply_text(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

fn turned_away(line: &str) -> ConnectionError {
    let remedy = REMEDIES
        .iter()
        .find(|(words, _)| line.contains(words))
        .map_or("see the server's log", |(_, remedy)| remedy);
    ConnectionError::Rejected(format!("the server answers `{line}`; {remedy}"))
}

const REMEDIES: [(&str, &str); 8] = [
    (
        "NOAUTH",
        "it wants a password: set password_file for this service",
    ),
    (
        "WRONGPASS",
        "correct username or password_file of this service",
    ),
    (
        "NOPERM",
        "grant the ACL user what docs/adr/0005-write-quorum-record.md lists",
    ),
    (
        "DENIED",
        "set a password on it, or bind it to a private address",
    ),
    (
        "max number of clients",
        "raise its maxclients, or close connections to it",
    ),
    (
        "without any password configured",
        "the server has no password: set one on it, or remove it from this service's settings",
    ),
    (
        "BUSY",
        "a script or function runs for too long: SCRIPT KILL or FUNCTION KILL ends it",
    ),
    (
        "unknown command",
        "it is older than 6.2 or has renamed the command, and neither is supported",
    ),
];

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

fn failed(error: &RedisError) -> ConnectionError {
    if error.kind() == ErrorKind::Parse {
        return ConnectionError::Rejected(
            "the answer is not in the Redis protocol; check the address, and whether the port wants TLS".into(),
        );
    }
    ConnectionError::Broken(error.to_string())
}
