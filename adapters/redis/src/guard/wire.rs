//! One connection to a server: bytes out, replies in, and nothing else.
//!
//! Keeps the two directions apart, so that the caller can count the bytes that the socket took: a
//! write of which no byte was taken is certain not to be executed. Does not know commands.

use futures_util::StreamExt;
use redis::{Cmd, Value, ValueCodec};
use sentinel_core::id::InstanceId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

use crate::Credentials;
use crate::connection::reply_text;

/// A connection that stands.
pub(super) struct Wire {
    pub(super) replies: Replies,
    pub(super) bytes: OwnedWriteHalf,
}

/// The direction from the server.
pub(super) struct Replies(FramedRead<OwnedReadHalf, ValueCodec>);

/// Why a connection gave no further reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It ended; the text says how.
    Lost(String),
    /// What came is not the protocol.
    Garbled(String),
}

impl Wire {
    /// Connects. The caller bounds the time.
    pub(super) async fn open(instance: &InstanceId) -> std::io::Result<Self> {
        let stream = TcpStream::connect((instance.host(), instance.port())).await?;
        stream.set_nodelay(true)?;
        let (read, bytes) = stream.into_split();
        Ok(Self {
            replies: Replies(FramedRead::new(read, ValueCodec::default())),
            bytes,
        })
    }

    /// Sends one pipeline and returns its replies, errors of the server among them.
    pub(super) async fn ask(&mut self, commands: &[&[&str]]) -> Result<Vec<Value>, Broken> {
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|command| packed(command))
            .collect();
        let sent = self.bytes.write_all(&bytes).await;
        sent.map_err(|error| Broken::Lost(error.to_string()))?;
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(self.replies.next().await?);
        }
        Ok(replies)
    }

    /// Authenticates, where there is something to authenticate with. The error is the server's.
    pub(super) async fn authenticate(
        &mut self,
        credentials: Option<&Credentials>,
    ) -> Result<Result<(), String>, Broken> {
        let Some(credentials) = credentials else {
            return Ok(Ok(()));
        };
        let password = credentials.password.reveal();
        let reply = match &credentials.username {
            Some(user) => self.ask(&[&["AUTH", user, password]]).await?,
            None => self.ask(&[&["AUTH", password]]).await?,
        };
        Ok(match reply.first() {
            Some(Value::ServerError(error)) => Err(reply_text(error)),
            Some(_) | None => Ok(()),
        })
    }
}

impl Replies {
    /// The next reply. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Value, Broken> {
        match self.0.next().await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) if error.is_io_error() => Err(Broken::Lost(error.to_string())),
            Some(Err(error)) => Err(Broken::Garbled(error.to_string())),
            None => Err(Broken::Lost("closed by the server".to_owned())),
        }
    }
}

/// A command as it goes on the wire.
pub(super) fn packed(words: &[&str]) -> Vec<u8> {
    let mut command = Cmd::new();
    for word in words {
        command.arg(word);
    }
    command.get_packed_command()
}
