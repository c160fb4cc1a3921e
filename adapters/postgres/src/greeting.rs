//! Makes sure that whoever answers speaks PostgreSQL, before anything is made of the answer.
//!
//! Frames begin with a letter and a length; the words of another protocol would be taken for a frame of
//! a gigabyte, and waited for. So the first byte is looked at. A server that says nothing because it waits
//! for more of what it does not understand is asked in words that it does understand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use sentinel_core::id::InstanceId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long a server that has never answered may take over its first word before it is asked otherwise.
const QUIET: Duration = Duration::from_millis(200);

/// Authentication, an error, or an offer of another protocol version.
const FIRST: [u8; 3] = [b'R', b'E', b'v'];

/// Why a stream ends: it is not PostgreSQL that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not in PostgreSQL's protocol; check the address")]
pub(crate) struct NotPostgres;

/// Returns once it is clear that a server of another kind is there, which PostgreSQL's greeting leaves
/// waiting for the end of a line; never, if it is not. To PostgreSQL the words are no greeting at all: it
/// closes the connection, so they are for a server that has never answered.
pub(crate) async fn another_engine(instance: &InstanceId) -> NotPostgres {
    sleep(QUIET).await;
    let answer = async {
        let mut stream = TcpStream::connect((instance.host(), instance.port())).await?;
        stream.write_all(b"PING\r\n").await?;
        stream.read_u8().await
    };
    match answer.await {
        Ok(b'+' | b'-') => NotPostgres,
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

/// A stream whose first byte has been judged.
#[derive(Debug)]
pub(crate) struct Greeting {
    stream: TcpStream,
    greeted: bool,
}

impl Greeting {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            greeted: false,
        }
    }
}

impl AsyncRead for Greeting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if !self.greeted
            && let Some(first) = buf.filled().get(before)
        {
            if !FIRST.contains(first) {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, NotPostgres)));
            }
            self.greeted = true;
        }
        result
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
