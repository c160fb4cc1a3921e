//! The little of the replication protocol that no SQL function replaces: which timeline a standby is
//! on, what the history of a timeline says, and whether a piece of log is still there.
//!
//! Such a connection takes one of the server's `max_wal_senders`, so it is opened when needed and not
//! kept for long. `replication=database`, so that ordinary lines of pg_hba.conf let it in. Times out
//! nothing: callers bound every await by their deadline. Any failure leaves the connection unusable.

use std::fmt;

use bytes::{Buf as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{DataRowBody, ErrorResponseBody, Header, Message};
use postgres_protocol::message::frontend;
use sentinel_core::id::InstanceId;
use sentinel_core::runtime::ConnectionError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connection::{Purpose, dial, refusal};
use crate::greeting::Greeting;
use crate::history::{History, SystemId, Timeline};
use crate::lsn::Lsn;
use crate::service::PostgresService;

/// Whether a server has a piece of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stock {
    /// It begins to send it.
    There,
    /// It says that it has removed it.
    Removed,
    /// It says something else.
    Unknown,
}

/// A file that is not there; of the log, one that was removed.
const UNDEFINED_FILE: &str = "58P01";

/// The server is about to stream; no message of the ordinary protocol.
const COPY_BOTH_RESPONSE: u8 = b'W';

/// No answer of the server to these questions is longer: a history has a line for each promotion.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// A connection in the replication protocol.
pub(crate) struct Replication {
    stream: Greeting,
    received: BytesMut,
}

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication").finish_non_exhaustive()
    }
}

type Rows = Vec<Vec<Option<Bytes>>>;

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum of messages is postgres-protocol's, and grows"
)]
impl Replication {
    /// Connects and authenticates.
    pub(crate) async fn open(
        instance: &InstanceId,
        service: &PostgresService,
    ) -> Result<Self, ConnectionError> {
        let mut connection = Self {
            stream: Greeting::new(dial(instance).await?),
            received: BytesMut::new(),
        };
        let parameters = [
            ("user", service.credentials.username.as_str()),
            ("database", service.dbname.as_str()),
            ("replication", "database"),
            ("application_name", Purpose::Probe.name()),
        ];
        let mut greeting = BytesMut::new();
        frontend::startup_message(parameters, &mut greeting).map_err(|_| garbled())?;
        connection.send(&greeting).await?;
        connection.authenticate(service).await?;
        connection.rows().await?;
        Ok(connection)
    }

    /// The timeline that the server is on: on a standby, the one that it replays.
    pub(crate) async fn timeline(&mut self) -> Result<Timeline, ConnectionError> {
        let text = self.identity(1).await?;
        text.parse().map(Timeline).map_err(|_| garbled())
    }

    /// Which database it is.
    pub(crate) async fn system(&mut self) -> Result<SystemId, ConnectionError> {
        self.identity(0).await.map(SystemId)
    }

    async fn identity(&mut self, column: usize) -> Result<String, ConnectionError> {
        let rows = self.ask("IDENTIFY_SYSTEM").await?;
        let field = rows.first().and_then(|row| row.get(column));
        let field = field.and_then(Option::as_ref).ok_or_else(garbled)?;
        Ok(String::from_utf8_lossy(field).into_owned())
    }

    /// Whether the server can stream from here. The connection is of no use afterwards: it streams.
    pub(crate) async fn stock(
        mut self,
        from: Lsn,
        timeline: Timeline,
    ) -> Result<Stock, ConnectionError> {
        let question = format!("START_REPLICATION PHYSICAL {from} TIMELINE {}", timeline.0);
        let mut bytes = BytesMut::new();
        frontend::query(&question, &mut bytes).map_err(|_| garbled())?;
        self.send(&bytes).await?;
        loop {
            let header = self.header().await?;
            if header.tag() == COPY_BOTH_RESPONSE {
                self.skip(header).await?;
                continue;
            }
            return Ok(match self.next().await? {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => continue,
                // Where the log is missing, the error comes before the first byte, and before any sign of life.
                Message::CopyData(_) => Stock::There,
                Message::ErrorResponse(body) if code(&body) == UNDEFINED_FILE => Stock::Removed,
                Message::ErrorResponse(_) => Stock::Unknown,
                // The end of a timeline that goes on as another one.
                _ => Stock::Unknown,
            });
        }
    }

    /// The history of a timeline; `None` when the server has no such file.
    pub(crate) async fn history(
        &mut self,
        timeline: Timeline,
    ) -> Result<Option<History>, ConnectionError> {
        if timeline == Timeline(1) {
            return Ok(Some(History::first()));
        }
        let asked = self.ask(&format!("TIMELINE_HISTORY {}", timeline.0)).await;
        let rows = match asked {
            Ok(rows) => rows,
            // The session goes on after the server's word that there is no such file.
            Err(ConnectionError::Rejected(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let content = rows.first().and_then(|row| row.get(1));
        let content = content.and_then(Option::as_ref).ok_or_else(garbled)?;
        let content = String::from_utf8_lossy(content);
        History::parse(timeline, &content)
            .map(Some)
            .map_err(|damage| ConnectionError::Rejected(damage.to_string()))
    }

    async fn ask(&mut self, question: &str) -> Result<Rows, ConnectionError> {
        let mut bytes = BytesMut::new();
        frontend::query(question, &mut bytes).map_err(|_| garbled())?;
        self.send(&bytes).await?;
        self.rows().await
    }

    async fn authenticate(&mut self, service: &PostgresService) -> Result<(), ConnectionError> {
        let credentials = &service.credentials;
        let password = || {
            let password = credentials.password.as_ref().ok_or_else(|| {
                ConnectionError::Rejected(
                    "the server wants a password: set password_file for this service".into(),
                )
            });
            password.map(|secret| secret.reveal().as_bytes())
        };
        let mut answer = BytesMut::new();
        match self.next().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                frontend::password_message(password()?, &mut answer).map_err(|_| garbled())?;
                self.send(&answer).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let username = credentials.username.as_bytes();
                let hash = authentication::md5_hash(username, password()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut answer).map_err(|_| garbled())?;
                self.send(&answer).await?;
            }
            Message::AuthenticationSasl(body) => {
                let mut offers = body.mechanisms();
                let offered = offers.any(|offer| Ok(offer == SCRAM_SHA_256));
                if !offered.map_err(|_| garbled())? {
                    return Err(unsupported());
                }
                self.scram(password()?).await?;
            }
            Message::ErrorResponse(body) => return Err(said(&body)),
            // Ways in that need more than a password.
            _ => return Err(unsupported()),
        }
        match self.next().await? {
            Message::AuthenticationOk => Ok(()),
            Message::ErrorResponse(body) => Err(said(&body)),
            _ => Err(garbled()),
        }
    }

    async fn scram(&mut self, password: &[u8]) -> Result<(), ConnectionError> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let mut answer = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut answer)
            .map_err(|_| garbled())?;
        self.send(&answer).await?;
        match self.next().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(|_| garbled())?;
            }
            Message::ErrorResponse(body) => return Err(said(&body)),
            _ => return Err(garbled()),
        }
        answer.clear();
        frontend::sasl_response(scram.message(), &mut answer).map_err(|_| garbled())?;
        self.send(&answer).await?;
        match self.next().await? {
            Message::AuthenticationSaslFinal(body) => {
                scram.finish(body.data()).map_err(|_| garbled())
            }
            Message::ErrorResponse(body) => Err(said(&body)),
            _ => Err(garbled()),
        }
    }

    /// Everything until the server is ready again.
    async fn rows(&mut self) -> Result<Rows, ConnectionError> {
        let mut rows = Vec::new();
        let mut error = None;
        loop {
            match self.next().await? {
                Message::DataRow(body) => rows.push(fields(&body)?),
                Message::ErrorResponse(body) => error = Some(said(&body)),
                Message::ReadyForQuery(_) => return error.map_or(Ok(rows), Err),
                // Descriptions, tags, keys and notices around the rows.
                _ => {}
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        let sent = self.stream.write_all(bytes).await;
        sent.map_err(|error| ConnectionError::Broken(error.to_string()))
    }

    async fn next(&mut self) -> Result<Message, ConnectionError> {
        loop {
            self.header().await?;
            if let Some(message) = Message::parse(&mut self.received).map_err(|_| garbled())? {
                return Ok(message);
            }
            self.receive().await?;
        }
    }

    /// What comes next, without taking it.
    async fn header(&mut self) -> Result<Header, ConnectionError> {
        loop {
            if let Some(header) = Header::parse(&self.received).map_err(|_| garbled())? {
                return match usize::try_from(header.len()) {
                    Ok(length) if length <= FRAME_BYTES_MAX => Ok(header),
                    Ok(_) | Err(_) => Err(garbled()),
                };
            }
            self.receive().await?;
        }
    }

    /// Drops a message.
    async fn skip(&mut self, header: Header) -> Result<(), ConnectionError> {
        // The length does not count the tag.
        let whole = usize::try_from(header.len()).map_err(|_| garbled())? + 1;
        while self.received.len() < whole {
            self.receive().await?;
        }
        self.received.advance(whole);
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), ConnectionError> {
        match self.stream.read_buf(&mut self.received).await {
            Ok(0) => Err(ConnectionError::Broken("closed by the server".into())),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(ConnectionError::Rejected(error.to_string()))
            }
            Err(error) => Err(ConnectionError::Broken(error.to_string())),
        }
    }
}

fn fields(body: &DataRowBody) -> Result<Vec<Option<Bytes>>, ConnectionError> {
    let buffer = Bytes::copy_from_slice(body.buffer());
    let ranges = body
        .ranges()
        .map(|range| Ok(range.map(|range| buffer.slice(range))));
    ranges.collect().map_err(|_| garbled())
}

fn code(body: &ErrorResponseBody) -> String {
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        if field.type_() == b'C' {
            return String::from_utf8_lossy(field.value_bytes()).into_owned();
        }
    }
    String::new()
}

fn said(body: &ErrorResponseBody) -> ConnectionError {
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => message = value,
            _ => {}
        }
    }
    refusal(&code, &message)
}

fn garbled() -> ConnectionError {
    ConnectionError::Rejected(
        "the answer is not in PostgreSQL's replication protocol; check the address".into(),
    )
}

fn unsupported() -> ConnectionError {
    ConnectionError::Rejected(
        "the server wants a proof that is neither a password nor SCRAM-SHA-256; give this role another line in its pg_hba.conf".into(),
    )
}
