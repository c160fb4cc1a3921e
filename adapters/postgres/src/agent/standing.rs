//! What the agent knows of authority: the highest token that it accepted, kept over restarts, and who is committed as
//! the primary, as the daemon tells it.
//!
//! An order of a lower token is refused. The token is on disk before the order is carried out. A damaged file is an
//! error and never a zero: from zero on, an order of a primary long deposed would be obeyed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sentinel_core::id::{Epoch, InstanceId, Token};
use sentinel_core::time::Instant;

use super::durable;

/// Who is the primary by the committed table, as the daemon last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The committed primary; `None` while the daemon does not know.
    pub primary: Option<InstanceId>,
    /// The epoch of that commit.
    pub epoch: Epoch,
    /// How far a failover has got.
    pub failover: Failover,
    /// No leader was heard lately: all of the above is unknown, and this is what was known last.
    pub silence: Option<Silence>,
}

/// How far a failover has got, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// There is none.
    None,
    /// The members of the write quorum are being frozen, and nobody was chosen. What is frozen does not count for the primary,
    /// and enough is frozen before anybody is chosen.
    Freezing,
    /// It is further, or unknown.
    #[default]
    UnderWay,
}

/// What is left to go by while no leader is heard. Others may have gone on since.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// Token of the newest commit that the daemon knows.
    pub token: Token,
    /// Who had the authority by it, or was about to be promoted; `None` if it knows nothing.
    pub authority: Option<InstanceId>,
    /// When a leader was heard last; `None` if never since the daemon started.
    pub heard: Option<Instant>,
}

/// The highest token accepted, and its file.
#[derive(Debug)]
pub(super) struct Accepted {
    path: PathBuf,
    highest: Token,
}

/// Why an order is not accepted, or the file of the highest token is not usable. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StandingError {
    /// Somebody with more authority has been here.
    #[error("an order of {given} came after one of {highest}: its authority is over")]
    Lower { given: Token, highest: Token },
    /// The file is there and does not hold what was written into it.
    #[error(
        "the file `{}` with the highest order accepted is damaged: {problem}. The agent does not begin from zero, because it would obey a leader long deposed. \
         Make sure that no failover of the service is under way, then write into it the epoch and step that `sentinel status` shows, as one line `sentinel-agent 1 EPOCH STEP CHECK` \
         with CHECK = `unchecked`", .path.display()
    )]
    Damaged { path: PathBuf, problem: String },
    /// The file cannot be read or written.
    #[error("the file `{}` with the highest order accepted cannot be used: {source}; the order was not carried out", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

const FILE: &str = "accepted";
const HEADER: &str = "sentinel-agent 1";
/// What a person writes in place of the check; it is replaced at the next order.
const BY_HAND: &str = "unchecked";

impl Accepted {
    /// Reads the highest token from the agent's folder. No file means that no order was ever accepted.
    pub(super) fn open(state_dir: &Path) -> Result<Self, StandingError> {
        let path = state_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let highest = Token::default();
                return Ok(Self { path, highest });
            }
            Err(source) => return Err(StandingError::Io { path, source }),
        };
        match parse(&text) {
            Ok(highest) => Ok(Self { path, highest }),
            Err(problem) => Err(StandingError::Damaged { path, problem }),
        }
    }

    /// The highest token accepted so far.
    pub(super) fn highest(&self) -> Token {
        self.highest
    }

    /// Accepts an order, or refuses it. When this returns, the token is on disk.
    pub(super) fn accept(&mut self, given: Token) -> Result<(), StandingError> {
        let highest = self.highest;
        if given < highest {
            return Err(StandingError::Lower { given, highest });
        }
        if given == highest {
            return Ok(());
        }
        match durable::replace(&self.path, format(given).as_bytes()) {
            Ok(()) => {
                self.highest = given;
                Ok(())
            }
            Err(source) => Err(StandingError::Io {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

fn format(token: Token) -> String {
    let body = format!("{HEADER} {} {}", token.epoch, token.step);
    format!("{body} {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

fn parse(text: &str) -> Result<Token, String> {
    let line = text.trim_end();
    let (body, check) = line
        .rsplit_once(' ')
        .ok_or_else(|| "it is empty or cut off".to_owned())?;
    if check != BY_HAND && check != format!("{:08x}", crc32c::crc32c(body.as_bytes())) {
        return Err("its check does not match its content".to_owned());
    }
    let numbers = body
        .strip_prefix(HEADER)
        .ok_or_else(|| format!("it does not begin with `{HEADER}`"))?;
    let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(epoch)), Some(Ok(step)), None) => Ok(Token {
            epoch: Epoch(epoch),
            step,
        }),
        _ => Err("it does not hold two numbers".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn token(epoch: u64, step: u64) -> Token {
        let epoch = Epoch(epoch);
        Token { epoch, step }
    }

    #[test]
    fn a_lower_token_is_refused_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut accepted = Accepted::open(folder.path()).unwrap();
        accepted.accept(token(3, 9)).unwrap();
        accepted.accept(token(3, 9)).unwrap();
        let mut again = Accepted::open(folder.path()).unwrap();
        assert_eq!(again.highest(), token(3, 9));
        assert!(matches!(
            again.accept(token(3, 8)),
            Err(StandingError::Lower { .. })
        ));
        assert!(matches!(
            again.accept(token(2, 99)),
            Err(StandingError::Lower { .. })
        ));
        again.accept(token(4, 1)).unwrap();
        assert_eq!(
            Accepted::open(folder.path()).unwrap().highest(),
            token(4, 1)
        );
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_zero() {
        let folder = tempfile::tempdir().unwrap();
        Accepted::open(folder.path())
            .unwrap()
            .accept(token(3, 9))
            .unwrap();
        let path = folder.path().join(FILE);
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            "",
            "\n",
            &good[..good.len() - 3],
            &good.replace('3', "7"),
            "x",
        ] {
            fs::write(&path, bad).unwrap();
            let error = Accepted::open(folder.path()).unwrap_err();
            assert!(matches!(error, StandingError::Damaged { .. }), "{bad:?}");
            assert!(error.to_string().contains("sentinel status"), "{error}");
        }
        fs::write(&path, "sentinel-agent 1 3 9 unchecked\n").unwrap();
        assert_eq!(
            Accepted::open(folder.path()).unwrap().highest(),
            token(3, 9)
        );
    }
}
