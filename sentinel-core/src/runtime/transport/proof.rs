//! Proofs of the cluster key, and the authentication of every frame after them. Pure.
//!
//! Everything hangs on the transcript: the two hellos byte for byte, and with them both nonces, names, roles, clusters
//! and announced addresses. Each use of the key has a label, so that a proof is good for one purpose and one side.
//! This gives integrity, not secrecy (docs/adr/0004-peer-transport.md).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::error::PeerError;
use super::key::ClusterKey;

/// Bytes of a frame's tag: half of the full HMAC, which leaves a forger 1 in 2^128.
pub(super) const TAG_BYTES: usize = 16;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialer,
    Listener,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Listener,
            Self::Listener => Self::Dialer,
        }
    }
}

/// The key bound to one pair of hellos.
#[derive(Clone)]
pub(super) struct Transcript(Hmac<Sha256>);

impl Transcript {
    /// Without a key the empty one is used: it proves nothing, which is enough on one machine.
    pub(super) fn new(key: Option<&ClusterKey>, of_dialer: &[u8], of_listener: &[u8]) -> Self {
        let secret = key.map_or(&[][..], ClusterKey::secret);
        let mut mac = keyed(secret);
        for hello in [of_dialer, of_listener] {
            mac.update(&(hello.len() as u64).to_le_bytes());
            mac.update(hello);
        }
        Self(mac)
    }

    /// What a side sends to show that it has the key.
    pub(super) fn proof(&self, side: Side) -> [u8; 32] {
        self.labelled(match side {
            Side::Dialer => b"proof of dialer",
            Side::Listener => b"proof of listener",
        })
    }

    /// Whether a proof is that of the given side; in constant time.
    pub(super) fn check(&self, side: Side, proof: &[u8; 32]) -> Result<(), PeerError> {
        let equal = subtle::ConstantTimeEq::ct_eq(&self.proof(side)[..], &proof[..]);
        if bool::from(equal) {
            Ok(())
        } else {
            Err(PeerError::WrongKey)
        }
    }

    /// The authentication of the frames that one side sends.
    pub(super) fn tags(&self, sender: Side) -> Tags {
        let session = self.labelled(match sender {
            Side::Dialer => b"frames of dialer",
            Side::Listener => b"frames of listener",
        });
        Tags {
            mac: keyed(&session),
            sequence: 0,
        }
    }

    fn labelled(&self, label: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(label);
        mac.finalize().into_bytes().into()
    }
}

/// Tags of the frames of one direction of one connection. A frame's number is part of its tag and not of the frame: both
/// ends count, so a frame that is repeated, left out or moved does not match.
pub(super) struct Tags {
    mac: Hmac<Sha256>,
    sequence: u64,
}

impl Tags {
    /// Appends the tag of the next frame.
    pub(super) fn seal(&mut self, mut payload: Vec<u8>) -> Vec<u8> {
        let tag = self.next(&payload).finalize().into_bytes();
        payload.extend_from_slice(&tag[..TAG_BYTES]);
        payload
    }

    /// Checks the tag of the next frame, and returns its payload.
    pub(super) fn open<'a>(&mut self, frame: &'a [u8]) -> Result<&'a [u8], PeerError> {
        let (payload, tag) = frame
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(PeerError::Forged)?;
        self.next(payload)
            .verify_truncated_left(tag)
            .map_err(|_| PeerError::Forged)?;
        Ok(payload)
    }

    fn next(&mut self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(&self.sequence.to_le_bytes());
        mac.update(payload);
        self.sequence += 1;
        mac
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn transcript(secret: &[u8], of_dialer: &[u8], of_listener: &[u8]) -> Transcript {
        Transcript::new(
            Some(&ClusterKey::new(secret).unwrap()),
            of_dialer,
            of_listener,
        )
    }

    #[test]
    fn a_proof_is_good_for_one_key_one_side_and_one_pair_of_hellos() {
        let key = [1; 32];
        let own = transcript(&key, b"ab", b"c");
        own.check(Side::Dialer, &own.proof(Side::Dialer)).unwrap();
        for other in [
            own.proof(Side::Listener),
            transcript(&[2; 32], b"ab", b"c").proof(Side::Dialer),
            transcript(&key, b"a", b"bc").proof(Side::Dialer),
            Transcript::new(None, b"ab", b"c").proof(Side::Dialer),
        ] {
            assert!(matches!(
                own.check(Side::Dialer, &other),
                Err(PeerError::WrongKey)
            ));
        }
    }

    #[test]
    fn frames_cannot_be_changed_repeated_left_out_or_sent_back() {
        let transcript = transcript(&[1; 32], b"a", b"b");
        let mut sender = transcript.tags(Side::Dialer);
        let frames: Vec<_> = (0..3u8).map(|n| sender.seal(vec![n; 5])).collect();
        let mut receiver = transcript.tags(Side::Dialer);
        assert_eq!(receiver.open(&frames[0]).unwrap(), [0; 5]);
        assert!(receiver.open(&frames[0]).is_err(), "repeated");
        let mut receiver = transcript.tags(Side::Dialer);
        assert!(receiver.open(&frames[1]).is_err(), "left out");
        assert!(
            transcript.tags(Side::Listener).open(&frames[0]).is_err(),
            "sent back"
        );
        for bit in 0..frames[0].len() * 8 {
            let mut changed = frames[0].clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(
                transcript.tags(Side::Dialer).open(&changed).is_err(),
                "bit {bit}"
            );
        }
        assert!(
            transcript.tags(Side::Dialer).open(&[0; 3]).is_err(),
            "too short"
        );
    }
}
