//! Keeps the first words of a server, which it may say before it is asked anything.
//!
//! A server with too many clients, or in protected mode, answers a connection with one error line
//! and closes it. The redis crate drops words that answer nothing, and the closed connection would
//! then look like a crash: evidence on which a detector acts fast. Does not interpret the words.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Longer than any error line of a server that turns a connection away.
const BYTES_MAX: usize = 256;

/// The first bytes that were read, shared with the stream that reads them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstWords(Arc<Mutex<Vec<u8>>>);

impl FirstWords {
    /// The error line with which the server began, without its mark; `None` if it began otherwise.
    pub(crate) fn error_line(&self) -> Option<String> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = bytes
            .strip_prefix(b"-")?
            .split(|byte| *byte == b'\r')
            .next()?;
        Some(String::from_utf8_lossy(line).into_owned())
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = BYTES_MAX.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }
}

/// A stream whose first words are kept.
#[derive(Debug)]
pub(crate) struct Overheard {
    stream: TcpStream,
    words: FirstWords,
}

impl Overheard {
    pub(crate) fn new(stream: TcpStream) -> (Self, FirstWords) {
        let words = FirstWords::default();
        let stream = Self {
            stream,
            words: words.clone(),
        };
        (stream, words)
    }
}

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.words.keep(&buf.filled()[before..]);
        result
    }
}

impl AsyncWrite for Overheard {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_line_is_told() {
        for (bytes, wanted) in [
            (
                "-ERR max number of clients reached\r\n",
                Some("ERR max number of clients reached"),
            ),
            ("-DENIED Redis", Some("DENIED Redis")),
            ("+PONG\r\n", None),
            ("", None),
        ] {
            let words = FirstWords::default();
            words.keep(bytes.as_bytes());
            assert_eq!(words.error_line().as_deref(), wanted);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let words = FirstWords::default();
        for _ in 0..9 {
            words.keep(&[b'-'; 100]);
        }
        assert_eq!(
            words.error_line().map(|line| line.len()),
            Some(BYTES_MAX - 1)
        );
    }
}
