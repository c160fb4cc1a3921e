//! A place in the write-ahead log, as PostgreSQL writes it: `16/B374D848`.

use std::fmt;
use std::str::FromStr;

use sentinel_core::position::Offset;

/// A byte of the write-ahead log. Two of them compare only within one timeline, or on one's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lsn(pub(crate) u64);

/// A text that is no place in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no log sequence number; one looks like 16/B374D848")]
pub(crate) struct NotAnLsn(String);

impl FromStr for Lsn {
    type Err = NotAnLsn;

    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let wrong = || NotAnLsn(text.chars().take(32).collect());
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let half = |text: &str| {
            let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| u32::from_str_radix(text, 16).ok()).flatten()
        };
        let high = half(high).ok_or_else(wrong)?;
        let low = half(low).ok_or_else(wrong)?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl From<Lsn> for Offset {
    fn from(lsn: Lsn) -> Self {
        Self(lsn.0)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn places_round_trip() {
        for (text, value) in [
            ("0/0", 0),
            ("0/BFFE78", 0xBF_FE78),
            ("16/B374D848", 0x16_B374_D848),
            ("FFFFFFFF/FFFFFFFF", u64::MAX),
        ] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(value));
            assert_eq!(Lsn(value).to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "/",
            "0/",
            "/0",
            "0",
            "0/x",
            "+1/0",
            "1FFFFFFFF/0",
            "0/0/0",
        ] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }
}
