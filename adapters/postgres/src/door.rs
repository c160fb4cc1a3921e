//! Watches whether a server still lets clients in.
//!
//! A session that stands answers while the process that takes new connections hangs: every client that
//! is not in already is locked out. So from time to time somebody knocks: the question whether the server
//! has TLS is answered before any proof of identity, takes no session, and is not logged as an error.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use sentinel_core::id::InstanceId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connection::dial;

/// How often somebody knocks.
const PACE: Duration = Duration::from_secs(1);

/// A knock that is unanswered for so long shows that nobody is let in.
const PATIENCE: Duration = Duration::from_millis(500);

/// A path may have lost the knock itself; then another one is due.
const KNOCK_MAX: Duration = Duration::from_secs(3);

/// What knocking shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Clients are let in, as far as is known.
    Open,
    /// Nobody answers.
    Shut,
}

/// The last knock at one server.
#[derive(Debug, Default)]
pub(crate) struct Door {
    answered: Option<Instant>,
    /// Since when nobody has answered.
    silent_since: Option<Instant>,
    knock: Option<(Instant, JoinHandle<()>)>,
}

impl Door {
    /// Knocks when it is time to, behind the caller, and judges the knocks before.
    pub(crate) fn look(&mut self, instance: &InstanceId) -> Entry {
        let now = Instant::now();
        if let Some((since, knock)) = &self.knock {
            if knock.is_finished() {
                self.knock = None;
                self.silent_since = None;
                self.answered = Some(now);
            } else if since.elapsed() >= KNOCK_MAX {
                knock.abort();
                self.knock = None;
            }
        }
        let due = self
            .answered
            .is_none_or(|answered| now.duration_since(answered) >= PACE);
        if self.knock.is_none() && due {
            self.silent_since.get_or_insert(now);
            self.knock = Some((now, tokio::spawn(knock(instance.clone()))));
        }
        let silence = self.silent_since.map(|since| now.duration_since(since));
        match silence {
            Some(silence) if silence >= PATIENCE => Entry::Shut,
            Some(_) | None => Entry::Open,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some((_, knock)) = &self.knock {
            knock.abort();
        }
    }
}

/// Ends with the answer, whatever it is: an error comes from somebody too.
async fn knock(instance: InstanceId) {
    let Ok(mut stream) = dial(&instance).await else {
        return;
    };
    let mut question = BytesMut::new();
    frontend::ssl_request(&mut question);
    if stream.write_all(&question).await.is_ok() {
        // A closed connection is an answer as well.
        let _ = stream.read_u8().await;
    }
}
