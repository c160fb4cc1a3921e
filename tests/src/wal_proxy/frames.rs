//! The part of PostgreSQL's protocol that a cut in a log stream needs: where a message begins and ends, and which bytes
//! of the log it carries.
//!
//! Pure but for reading from a stream. Knows neither connections nor who cuts where.

use std::io::{self, Read};

use sentinel_core::position::Offset;

/// Far more than a server sends in one message while it streams (128 KiB and a header).
const BODY_BYTES_MAX: usize = 1 << 24;

/// Of a message's type and length.
const HEAD_BYTES: usize = 5;

/// Of `w`, the place of the first byte, the server's own end and its clock, before the bytes of the log.
const LOG_HEAD_BYTES: usize = 25;

/// A client asks whether the connection can be encrypted: by TLS, by GSSAPI.
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];

/// A client's first packet, which has no type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FirstPacket {
    /// Wants one byte as an answer, and begins anew.
    EncryptionRequest,
    /// The packet as it came.
    Start(Vec<u8>),
}

/// Reads a client's first packet.
pub(super) fn read_first(from: &mut impl Read) -> io::Result<FirstPacket> {
    let mut packet = vec![0; 8];
    from.read_exact(&mut packet)?;
    let length = body_length(&packet[..4], 4)?;
    let code = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
    if length == 4 && ENCRYPTION_REQUESTS.contains(&code) {
        return Ok(FirstPacket::EncryptionRequest);
    }
    read_rest(from, &mut packet, length.saturating_sub(4))?;
    Ok(FirstPacket::Start(packet))
}

/// Reads one message of a server, with its type and length.
pub(super) fn read_message(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEAD_BYTES];
    from.read_exact(&mut message)?;
    let length = body_length(&message[1..], 4)?;
    read_rest(from, &mut message, length)?;
    Ok(message)
}

/// What of a message goes on when the log ends at `cut`: all of it, its part before the cut, or nothing.
pub(super) fn before(mut message: Vec<u8>, cut: Offset) -> Option<Vec<u8>> {
    let Some(start) = first_byte(&message) else {
        return Some(message);
    };
    let room = cut.0.saturating_sub(start.0);
    if room == 0 {
        return None;
    }
    let kept = usize::try_from(room).unwrap_or(usize::MAX);
    message.truncate(kept.saturating_add(HEAD_BYTES + LOG_HEAD_BYTES));
    let length = u32::try_from(message.len() - 1).expect("messages are bounded when they are read");
    message[1..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    Some(message)
}

/// The place of the first byte of the log in this message, if it carries any.
fn first_byte(message: &[u8]) -> Option<Offset> {
    let is_log = message.first() == Some(&b'd')
        && message.get(HEAD_BYTES) == Some(&b'w')
        && message.len() > HEAD_BYTES + LOG_HEAD_BYTES;
    let place = message.get(HEAD_BYTES + 1..HEAD_BYTES + 9)?;
    let place = u64::from_be_bytes(place.try_into().ok()?);
    is_log.then_some(Offset(place))
}

/// What follows a length that counts itself.
fn body_length(bytes: &[u8], own: usize) -> io::Result<usize> {
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    match length.checked_sub(own) {
        Some(body) if body <= BODY_BYTES_MAX => Ok(body),
        Some(_) | None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message of {length} bytes"),
        )),
    }
}

fn read_rest(from: &mut impl Read, into: &mut Vec<u8>, length: usize) -> io::Result<()> {
    let at = into.len();
    into.resize(at + length, 0);
    from.read_exact(&mut into[at..])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    fn log(start: u64, bytes: &[u8]) -> Vec<u8> {
        let mut body = vec![b'w'];
        body.extend(start.to_be_bytes());
        body.extend([7; 16]);
        body.extend(bytes);
        message(b'd', &body)
    }

    #[test]
    fn the_log_ends_at_the_cut() {
        for (cut, kept) in [
            (999, None),
            (1000, None),
            (1001, Some(1)),
            (1003, Some(3)),
            (1004, Some(4)),
            (2000, Some(4)),
        ] {
            let wanted = kept.map(|kept| log(1000, &b"abcd"[..kept]));
            assert_eq!(
                before(log(1000, b"abcd"), Offset(cut)),
                wanted,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn other_messages_pass() {
        let keepalive = message(b'd', &[b'k'; 18]);
        for other in [
            keepalive,
            message(b'W', &[0; 3]),
            message(b'd', b"w"),
            message(b'Z', b"I"),
        ] {
            assert_eq!(before(other.clone(), Offset(1)), Some(other));
        }
    }

    #[test]
    fn messages_are_read_one_by_one_and_bounded() {
        let both = [log(1, b"x"), message(b'Z', b"I")].concat();
        let mut from = both.as_slice();
        assert_eq!(read_message(&mut from).unwrap(), log(1, b"x"));
        assert_eq!(read_message(&mut from).unwrap(), message(b'Z', b"I"));
        assert!(read_message(&mut from).is_err());
        for length in [3_u32, 1 << 31] {
            let wrong = [&b"d"[..], &length.to_be_bytes()].concat();
            let error = read_message(&mut wrong.as_slice()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_client_begins_with_a_request_or_with_its_start() {
        let asks = [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat();
        let start = [
            &13_u32.to_be_bytes()[..],
            &196_608_u32.to_be_bytes(),
            b"user\0",
        ]
        .concat();
        let both = [asks, start.clone()].concat();
        let mut from = both.as_slice();
        assert_eq!(
            read_first(&mut from).unwrap(),
            FirstPacket::EncryptionRequest
        );
        assert_eq!(read_first(&mut from).unwrap(), FirstPacket::Start(start));
    }
}
