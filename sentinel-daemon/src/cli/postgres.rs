//! `sentinel postgres grants`: the SQL that makes the coordinator's role, for a person to read and to run.
//!
//! Connects to nothing. What the role needs is the adapter's knowledge.

use clap::Subcommand;
use serde::Serialize;

use super::args::Format;
use crate::exit::ExitCode;
use crate::output;

/// What is asked of the engine.
#[derive(Debug, Subcommand)]
pub(super) enum PostgresCommand {
    /// Print the SQL that makes the coordinator's role, to be run once on the primary by a superuser
    Grants {
        /// Name of the role, as in `username` of the service
        #[arg(long, default_value = "sentinel", value_name = "NAME")]
        role: String,
    },
}

#[derive(Debug, Serialize)]
struct Report {
    role: String,
    sql: String,
}

pub(super) fn run(command: PostgresCommand, format: Format) -> ExitCode {
    let PostgresCommand::Grants { role } = command;
    let sql = sentinel_postgres::grants(&role);
    match format {
        Format::Text => output::result(sql.trim_end()),
        Format::Json => output::json(&Report { role, sql }),
    }
    ExitCode::Done
}
