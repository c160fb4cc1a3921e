//! A client that inserts rows, one a transaction, into whoever is primary.
//!
//! A row counts as acknowledged only when its commit came back without an error and without a warning: a commit whose
//! wait for the standbys was cut short comes back with one. Leaves a server as soon as another is named, and one that is
//! silent for too long; repeats no row.

use std::time::{Duration, Instant};

use sentinel_core::id::InstanceId;
use tokio::time::timeout;
use tokio_postgres::Statement;

use super::session::Session;
use super::whereabouts::Whereabouts;
use crate::demo::journal::Key;

/// How long a row waits for a connection over which it could be sent.
const UNSENT_MAX: Duration = Duration::from_secs(1);

/// How long a connection or a commit may take before the server is left.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Pause after an attempt to connect that failed.
const PAUSE: Duration = Duration::from_millis(5);

/// One client.
#[derive(Debug)]
pub(in crate::demo) struct Writer {
    whereabouts: Whereabouts,
    open: Option<Open>,
}

/// A connection that can take rows.
#[derive(Debug)]
struct Open {
    primary: InstanceId,
    session: Session,
    insert: Statement,
}

impl Writer {
    /// A client of this service; connects when there is something to write.
    pub(super) fn new(service: &'static str, endpoints: &[InstanceId]) -> Self {
        Self {
            whereabouts: Whereabouts::follow(service, endpoints),
            open: None,
        }
    }

    /// Sends one row, once, and says who acknowledged it.
    pub(in crate::demo) async fn write(&mut self, key: Key) -> Option<InstanceId> {
        let start = Instant::now();
        while !self.is_open() {
            if start.elapsed() > UNSENT_MAX {
                return None;
            }
            self.connect().await;
        }
        let open = self.open.take()?;
        let primary = open.primary.clone();
        let fate = tokio::select! {
            fate = timeout(SILENCE_MAX, open.insert(key)) => fate.unwrap_or(Fate::Unknown),
            () = self.whereabouts.elsewhere(&primary) => Fate::Unknown,
        };
        match fate {
            Fate::Acknowledged => {
                self.open = Some(open);
                Some(primary)
            }
            Fate::Refused => {
                self.open = Some(open);
                None
            }
            // The connection goes with its unfinished commit.
            Fate::Unknown => None,
        }
    }

    fn is_open(&self) -> bool {
        let open = self.open.as_ref();
        open.is_some_and(|open| !open.session.client.is_closed())
    }

    async fn connect(&mut self) {
        self.open = None;
        let Ok(Some(primary)) = timeout(UNSENT_MAX, self.whereabouts.primary()).await else {
            return;
        };
        tokio::select! {
            open = timeout(SILENCE_MAX, Open::connect(&primary)) => match open {
                Ok(Ok(open)) => self.open = Some(open),
                Ok(Err(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
            },
            () = self.whereabouts.elsewhere(&primary) => {}
        }
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Committed, and held by as many standbys as must hold it.
    Acknowledged,
    /// The server said no, and takes the next question.
    Refused,
    /// It may be there or not.
    Unknown,
}

impl Open {
    async fn connect(primary: &InstanceId) -> Result<Self, tokio_postgres::Error> {
        let session = Session::open(primary).await?;
        let insert = "INSERT INTO public.writes (writer, number, value) VALUES ($1, $2, $3)";
        Ok(Self {
            primary: primary.clone(),
            insert: session.client.prepare(insert).await?,
            session,
        })
    }

    async fn insert(&self, key: Key) -> Fate {
        let (Ok(writer), Ok(number)) = (i32::try_from(key.writer), i64::try_from(key.number))
        else {
            return Fate::Refused;
        };
        self.session.take_warning();
        let inserted = self
            .session
            .client
            .execute(&self.insert, &[&writer, &number, &key.value()])
            .await;
        match inserted {
            Ok(1) if !self.session.take_warning() => Fate::Acknowledged,
            Ok(_) => Fate::Unknown,
            Err(error) if error.as_db_error().is_some() && !error.is_closed() => Fate::Refused,
            Err(_) => Fate::Unknown,
        }
    }
}
