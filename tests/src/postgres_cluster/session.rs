//! One writer's session with one server: inserts rows, each in a transaction of its own, and tells what was promised.
//!
//! A row is acknowledged when its statement ends without an error and the server did not warn that it had given up waiting
//! for its standbys: then the row is committed there and perhaps nowhere else. Knows nothing of clusters.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::postgres_server::Role;

/// A server that takes longer has been replaced meanwhile, or is about to be.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session that works until its first error.
pub(super) struct Session {
    client: Client,
    warned: Arc<AtomicBool>,
    connection: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Logs in as the application.
    pub(super) async fn open(port: u16) -> Result<Self, String> {
        let conninfo = format!(
            "host=127.0.0.1 port={port} dbname=postgres user={}",
            Role::App.name()
        );
        let opened = tokio::time::timeout(PATIENCE, tokio_postgres::connect(&conninfo, NoTls));
        let (client, mut connection) = match opened.await {
            Ok(opened) => opened.map_err(|error| text(&error))?,
            Err(_) => return Err("no session within the patience".to_owned()),
        };
        let warned = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&warned);
        let connection = tokio::spawn(async move {
            // The notices of a statement come before its end, and so does the mark.
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notice(notice) = message
                    && notice.message().contains("synchronous replication")
                {
                    told.store(true, Ordering::SeqCst);
                }
            }
        });
        Ok(Self {
            client,
            warned,
            connection,
        })
    }

    /// Inserts one row. After an error the session is of no use.
    pub(super) async fn insert(&self, id: i64) -> Result<(), String> {
        let statement = format!("INSERT INTO written (id) VALUES ({id})");
        match tokio::time::timeout(PATIENCE, self.client.batch_execute(&statement)).await {
            Ok(Ok(())) if self.warned.load(Ordering::SeqCst) => {
                Err("the server gave up waiting for its standbys".to_owned())
            }
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(text(&error)),
            Err(_) => Err("no answer within the patience".to_owned()),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn text(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} (SQLSTATE {})", told.message(), told.code().code()),
        None => error.to_string(),
    }
}
