//! Reads requests out of received bytes: arrays of bulk strings, and inline commands.
//!
//! Decides where a request ends and whether it keeps to the protocol and its limits, with Redis's own
//! texts for what does not. Does not know any command. A request borrows the received bytes, so that
//! reading one allocates nothing; that is why this is no `tokio_util::codec::Decoder`, whose items own theirs.

use std::ops::Range;

use crate::resp::limits::{ARGS_MAX, BULK_BYTES_MAX, INLINE_BYTES_MAX, REQUEST_BYTES_MAX};

/// What a client that has not given the password may send at most, as in Redis.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16_384;
/// Where Redis itself ends; beyond it the text is the same with and without a password.
const REDIS_ARGS_MAX: i64 = i32::MAX as i64;
const REDIS_BULK_MAX: i64 = 512 * 1024 * 1024;

/// Whether the client still has to give a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It has, or none is asked for.
    Authenticated,
    /// It has not.
    Unauthenticated,
}

/// Bytes that are no request. The connection cannot be read any further and is closed after the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of arguments is no number, or too big.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// Too many arguments for a client without a password.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The size of an argument is no number, or too big.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Too big an argument for a client without a password.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", char::from(shown(*.0)))]
    ExpectedBulk(u8),
    /// A line without an end.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A number of arguments without an end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLineTooBig,
    /// A size of an argument without an end.
    #[error("Protocol error: too big bulk count string")]
    BulkLineTooBig,
    /// Quotes that do not close, or close in front of a letter.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// All arguments together exceed the limit. Redis has no such limit, nor a text for it.
    #[error("Protocol error: too big request")]
    RequestTooBig,
}

impl ProtocolError {
    /// The answer: the message, with the byte in it as the client sent it, be it text or not.
    pub fn answer(&self) -> Vec<u8> {
        if let Self::ExpectedBulk(byte) = self {
            let start = b"ERR Protocol error: expected '$', got '";
            return [start.as_slice(), &[shown(*byte)], b"'"].concat();
        }
        format!("ERR {self}").into_bytes()
    }
}

/// A byte that may stand in a line.
fn shown(byte: u8) -> u8 {
    match byte {
        b'\r' | b'\n' | 0 => b' ',
        other => other,
    }
}

/// What the received bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not yet a whole request.
    Incomplete,
    /// A request of so many bytes; an empty one is to be passed over in silence.
    Request {
        /// How many bytes it took.
        consumed: usize,
    },
}

/// Reads one request after another. Holds the places of the arguments of the newest one.
#[derive(Debug, Default)]
pub struct RequestReader {
    places: Vec<Range<usize>>,
    /// Arguments of an inline request after their quotes and escapes are resolved.
    unquoted: Vec<u8>,
    inline: bool,
}

impl RequestReader {
    /// Looks for a request at the beginning of the received bytes.
    pub fn read(&mut self, received: &[u8], trust: Trust) -> Result<Progress, ProtocolError> {
        self.places.clear();
        self.unquoted.clear();
        match received.first() {
            None => Ok(Progress::Incomplete),
            Some(b'*') => {
                self.inline = false;
                self.read_multibulk(received, trust)
            }
            Some(_) => {
                self.inline = true;
                self.read_inline(received)
            }
        }
    }

    /// The arguments of the request that [`Self::read`] found in these bytes.
    pub fn args<'a>(&'a self, received: &'a [u8]) -> Args<'a> {
        Args {
            bytes: if self.inline {
                &self.unquoted
            } else {
                received
            },
            places: &self.places,
        }
    }

    fn read_multibulk(&mut self, received: &[u8], trust: Trust) -> Result<Progress, ProtocolError> {
        let mut at = 1;
        let Some(count) = line(received, &mut at, ProtocolError::MultibulkLineTooBig)? else {
            return Ok(Progress::Incomplete);
        };
        let count = strict_integer(count).ok_or(ProtocolError::MultibulkLength)?;
        if trust == Trust::Unauthenticated
            && (UNAUTHENTICATED_ARGS_MAX + 1..=REDIS_ARGS_MAX).contains(&count)
        {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        if count > ARGS_MAX as i64 {
            return Err(ProtocolError::MultibulkLength);
        }
        for _ in 0..count {
            match received.get(at) {
                None => return Ok(Progress::Incomplete),
                Some(b'$') => at += 1,
                Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
            }
            let Some(size) = line(received, &mut at, ProtocolError::BulkLineTooBig)? else {
                return Ok(Progress::Incomplete);
            };
            let size = bulk_size(size, trust)?;
            if at + size > REQUEST_BYTES_MAX {
                return Err(ProtocolError::RequestTooBig);
            }
            self.places.push(at..at + size);
            // The two bytes behind an argument are passed over unread, as Redis does.
            at += size + 2;
            if received.len() < at {
                return Ok(Progress::Incomplete);
            }
        }
        Ok(Progress::Request { consumed: at })
    }

    fn read_inline(&mut self, received: &[u8]) -> Result<Progress, ProtocolError> {
        let window = &received[..received.len().min(INLINE_BYTES_MAX)];
        let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
            return if received.len() >= INLINE_BYTES_MAX {
                Err(ProtocolError::InlineTooBig)
            } else {
                Ok(Progress::Incomplete)
            };
        };
        let text = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
        self.split_inline(text)?;
        if self.places.len() > ARGS_MAX {
            return Err(ProtocolError::MultibulkLength);
        }
        Ok(Progress::Request { consumed: end + 1 })
    }

    /// Splits at spaces, and resolves quotes and escapes as a shell-like line of Redis's.
    fn split_inline(&mut self, text: &[u8]) -> Result<(), ProtocolError> {
        // A NUL ends the line: Redis reads it as a C string.
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        let mut rest = text;
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok(());
            }
            let start = self.unquoted.len();
            while let Some((&byte, tail)) = rest.split_first() {
                rest = match byte {
                    byte if byte.is_ascii_whitespace() => break,
                    b'"' | b'\'' => self.quoted(tail, byte)?,
                    plain => {
                        self.unquoted.push(plain);
                        tail
                    }
                };
            }
            self.places.push(start..self.unquoted.len());
        }
    }

    /// Reads to the closing quote; it must be the last byte of its argument.
    fn quoted<'a>(&mut self, text: &'a [u8], quote: u8) -> Result<&'a [u8], ProtocolError> {
        let mut rest = text;
        loop {
            rest = match *rest {
                [] => return Err(ProtocolError::UnbalancedQuotes),
                [byte, ref tail @ ..] if byte == quote => {
                    return match tail.first() {
                        Some(next) if !next.is_ascii_whitespace() => {
                            Err(ProtocolError::UnbalancedQuotes)
                        }
                        Some(_) | None => Ok(tail),
                    };
                }
                [b'\\', b'x', high, low, ref tail @ ..]
                    if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    self.unquoted.push(hex(high) << 4 | hex(low));
                    tail
                }
                [b'\\', escaped, ref tail @ ..] if quote == b'"' => {
                    self.unquoted.push(match escaped {
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                    tail
                }
                [b'\\', b'\'', ref tail @ ..] if quote == b'\'' => {
                    self.unquoted.push(b'\'');
                    tail
                }
                [plain, ref tail @ ..] => {
                    self.unquoted.push(plain);
                    tail
                }
            };
        }
    }
}

/// The arguments of one request, the command's name first.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    places: &'a [Range<usize>],
}

impl<'a> Args<'a> {
    /// How many there are, the command's name included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether the request is to be passed over.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// One argument.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let place = self.places.get(index)?;
        self.bytes.get(place.clone())
    }

    /// The arguments from this one on.
    pub fn from(self, first: usize) -> impl Iterator<Item = &'a [u8]> {
        (first..self.len()).filter_map(move |index| self.get(index))
    }
}

/// The text up to the next CR; moves `at` beyond the byte behind it, which Redis takes for the LF unread.
fn line<'a>(
    received: &'a [u8],
    at: &mut usize,
    endless: ProtocolError,
) -> Result<Option<&'a [u8]>, ProtocolError> {
    let rest = &received[*at..];
    let window = &rest[..rest.len().min(INLINE_BYTES_MAX)];
    match window.iter().position(|&byte| byte == b'\r') {
        Some(end) if rest.len() >= end + 2 => {
            *at += end + 2;
            Ok(Some(&rest[..end]))
        }
        Some(_) => Ok(None),
        None if rest.len() >= INLINE_BYTES_MAX => Err(endless),
        None => Ok(None),
    }
}

fn bulk_size(text: &[u8], trust: Trust) -> Result<usize, ProtocolError> {
    let size = strict_integer(text).ok_or(ProtocolError::BulkLength)?;
    if trust == Trust::Unauthenticated
        && (UNAUTHENTICATED_BULK_MAX + 1..=REDIS_BULK_MAX).contains(&size)
    {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    usize::try_from(size)
        .ok()
        .filter(|&size| size <= BULK_BYTES_MAX)
        .ok_or(ProtocolError::BulkLength)
}

/// A decimal number in its shortest form: neither a plus nor leading zeros, as Redis reads numbers.
pub(crate) fn strict_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let shortest = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !shortest {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        // The caller has checked that it is a hexadecimal digit.
        upper => upper.wrapping_sub(b'A').wrapping_add(10),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
