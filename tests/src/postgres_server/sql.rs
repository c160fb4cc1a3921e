//! Runs one text of SQL on a connection of its own and returns the rows as text.
//!
//! Can be called from inside a runtime too: the connection lives on a thread of its own. Knows nothing of servers.

use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

/// Rows of columns; NULL is the empty text.
pub type Rows = Vec<Vec<String>>;

/// Everything that a healthy server is asked here takes less.
const BOUND: Duration = Duration::from_secs(10);

/// The error is the server's text with its SQLSTATE, or what went wrong on the way.
pub(super) fn run(conninfo: &str, sql: &str) -> Result<Rows, String> {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts");
            runtime.block_on(async {
                tokio::time::timeout(BOUND, ask(conninfo, sql))
                    .await
                    .unwrap_or_else(|_| Err(format!("no answer within {BOUND:?}")))
            })
        });
        asked.join().expect("asking does not panic")
    })
}

async fn ask(conninfo: &str, sql: &str) -> Result<Rows, String> {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls)
        .await
        .map_err(text)?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await.map_err(text)?;
    drop(client);
    // Its end is orderly, so that the server logs no lost connection.
    let _ = connection.await;
    let mut rows = Rows::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            let columns = 0..row.len();
            rows.push(
                columns
                    .map(|column| row.get(column).unwrap_or_default().to_owned())
                    .collect(),
            );
        }
    }
    Ok(rows)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn text(error: tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!(
            "{}: {} (SQLSTATE {})",
            told.severity(),
            told.message(),
            told.code().code()
        ),
        None => error.to_string(),
    }
}
