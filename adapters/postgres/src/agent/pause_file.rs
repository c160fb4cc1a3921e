//! What is kept on disk of a pause: whose order it was, for how long, and what the server said last.
//!
//! It is there before the server is stopped, and until the pause is ended by order or the server is in the hands of a job. A
//! new agent finds by it that the server it minds was stopped for a switchover, which the server's own files do not tell;
//! and a switchover whose pause has ended by itself does not pause a second time. Decides nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sentinel_core::id::{Epoch, Token};
use sentinel_core::observation::Facts;
use serde::{Deserialize, Serialize};

use super::durable;

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Layout of this file.
    version: u32,
    epoch: u64,
    step: u64,
    limit_ms: u64,
    course: Course,
    /// What the server said before it was stopped.
    pub(super) facts: Box<Facts>,
}

/// Whether the pause goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Course {
    /// The server is stopped, or about to be.
    Holds,
    /// The server was started again without an order.
    Outlasted,
}

impl Kept {
    pub(super) fn new(token: Token, limit: Duration, facts: Box<Facts>) -> Self {
        Self {
            version: VERSION,
            epoch: token.epoch.0,
            step: token.step,
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
            course: Course::Holds,
            facts,
        }
    }

    /// Of the order that stopped the server.
    pub(super) fn token(&self) -> Token {
        Token {
            epoch: Epoch(self.epoch),
            step: self.step,
        }
    }

    /// How long the pause may last.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

const VERSION: u32 = 1;
const FILE: &str = "pause.json";

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct PauseFile {
    path: PathBuf,
    kept: Mutex<Option<Kept>>,
}

impl PauseFile {
    /// Reads it. One that cannot be read is as if it were not there: the server then stays stopped until a leader is heard.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let kept = match read(&path) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what was kept of a pause cannot be read: the server stays stopped until a leader is heard");
                None
            }
        };
        Self {
            path,
            kept: Mutex::new(kept),
        }
    }

    /// The pause that goes on.
    pub(super) fn kept(&self) -> Option<Kept> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().filter(|kept| kept.course == Course::Holds)
    }

    /// Whether the pause of this order, or of a later one, has ended by itself.
    pub(super) fn is_outlasted(&self, token: Token) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref()
            .is_some_and(|kept| kept.course == Course::Outlasted && kept.token() >= token)
    }

    /// It is on disk when this returns.
    pub(super) fn keep(&self, pause: Kept) -> io::Result<()> {
        durable::replace(&self.path, &serde_json::to_vec_pretty(&pause)?)?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(pause);
        Ok(())
    }

    /// The server runs, and nobody ordered it.
    pub(super) fn outlast(&self) {
        if let Some(mut kept) = self.kept() {
            kept.course = Course::Outlasted;
            if let Err(error) = self.keep(kept) {
                tracing::warn!(path = %self.path.display(), %error, "the end of a pause cannot be written down; a new agent would take it for one that goes on");
            }
        }
    }

    /// The pause was ended by order.
    pub(super) fn forget(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.take().is_some()
            && let Err(error) = durable::remove(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "what was kept of a pause cannot be removed; a new agent would take it for one that goes on");
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Kept>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kept: Kept = serde_json::from_slice(&text)?;
    match kept.version {
        VERSION => Ok(Some(kept)),
        other => Err(io::Error::other(format!(
            "it has layout {other}, this agent knows {VERSION}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use sentinel_core::id::InstanceId;
    use sentinel_core::observation::{Role, WriteQuorum};

    use super::*;
    use crate::facts::samples;

    fn facts() -> Box<Facts> {
        Box::new(Facts {
            write_quorum: Some(WriteQuorum {
                version: Token::default(),
                k: 1,
                members: [InstanceId::new("::1", 2)].into(),
            }),
            ..samples::of(Role::Primary)
        })
    }

    #[test]
    fn a_pause_is_found_again_until_it_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token {
            epoch: Epoch(3),
            step: 9,
        };
        let pause = Kept::new(token, Duration::from_secs(5), facts());
        assert_eq!((pause.token(), pause.limit().as_secs()), (token, 5));
        let file = PauseFile::open(folder.path());
        assert_eq!(file.kept(), None);
        file.keep(pause.clone()).unwrap();
        let again = PauseFile::open(folder.path());
        assert_eq!(again.kept(), Some(pause));
        assert!(!again.is_outlasted(token));
        again.outlast();
        let again = PauseFile::open(folder.path());
        assert_eq!(again.kept(), None);
        let next = Token { step: 10, ..token };
        assert!(again.is_outlasted(token) && !again.is_outlasted(next));
        again.forget();
        assert!(!again.is_outlasted(token));
        assert_eq!(again.kept(), None);
        assert_eq!(PauseFile::open(folder.path()).kept(), None);
    }

    #[test]
    fn a_damaged_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "{\"version\":1}").unwrap();
        assert_eq!(PauseFile::open(folder.path()).kept(), None);
    }
}
