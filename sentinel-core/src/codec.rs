//! The one place that turns our own types into bytes and back: for the wire, the disk and the Raft log.
//!
//! A version byte, then bincode 1.3.3 with fixed integers, little endian, no trailing bytes. The
//! limit is checked on the length of the input, because bincode's own limit does not hold for slices
//! (docs/adr/0002-bytes.md). Framing and checksums are the transport's and the log file's business.

use bincode::Options as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First byte of everything encoded here. Raised with every change of a wire or disk type.
pub const FORMAT_VERSION: u8 = 2;

/// Longest encoding that is made or accepted, in bytes.
pub const ENCODED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why bytes are not one of our values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Nothing at all.
    #[error("no bytes where an encoded value was expected")]
    Empty,
    /// Another version wrote it.
    #[error(
        "format version {found}, this build reads {FORMAT_VERSION}: run the version of the sentinel that wrote it, or a newer one"
    )]
    Version {
        /// The version byte found.
        found: u8,
    },
    /// Longer than any value of ours.
    #[error("{bytes} bytes, more than the {ENCODED_BYTES_MAX} that a value may have")]
    TooLong {
        /// Bytes given.
        bytes: usize,
    },
    /// The bytes do not form the value.
    #[error("not a valid encoding: {0}")]
    Malformed(String),
}

fn options() -> impl bincode::Options {
    bincode::DefaultOptions::new()
        .with_fixint_encoding()
        .with_little_endian()
        .reject_trailing_bytes()
}

/// Encodes a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![FORMAT_VERSION];
    options()
        .serialize_into(&mut bytes, value)
        .expect("our own types serialize into memory without fail");
    bytes
}

/// Decodes a value; any bytes are survived.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(CodecError::TooLong { bytes: bytes.len() });
    }
    let (&version, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if version != FORMAT_VERSION {
        return Err(CodecError::Version { found: version });
    }
    options()
        .deserialize(body)
        .map_err(|error| CodecError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::id::{Epoch, InstanceId, Member, Token};

    #[test]
    fn golden_bytes() {
        let token = Token {
            epoch: Epoch(2),
            step: 5,
        };
        let wanted = [2, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(encode(&token), wanted);
        assert_eq!(decode::<Token>(&wanted).unwrap(), token);
        let member = Member {
            instance: InstanceId::new("a", 7),
            incarnation: "i".into(),
        };
        assert_eq!(
            encode(&member),
            [
                2, 3, 0, 0, 0, 0, 0, 0, 0, b'a', b':', b'7', 1, 0, 0, 0, 0, 0, 0, 0, b'i'
            ]
        );
    }

    #[test]
    fn bad_bytes_are_errors() {
        assert_eq!(decode::<Token>(&[]), Err(CodecError::Empty));
        assert_eq!(
            decode::<Token>(&[9, 0]),
            Err(CodecError::Version { found: 9 })
        );
        let mut trailing = encode(&Token::default());
        trailing.push(0);
        assert!(matches!(
            decode::<Token>(&trailing),
            Err(CodecError::Malformed(_))
        ));
        // A length far beyond the input must not be allocated.
        let huge = [
            FORMAT_VERSION,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
            0xff,
        ];
        assert!(matches!(
            decode::<Vec<String>>(&huge),
            Err(CodecError::Malformed(_))
        ));
    }
}
