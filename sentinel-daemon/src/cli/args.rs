//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use sentinel_core::id::InstanceId;

use super::postgres::PostgresCommand;
use crate::demo::DemoOptions;
use crate::run::LogFormat;

/// Quorum failover for replicated databases.
#[derive(Debug, Parser)]
#[command(name = "sentinel", version, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage or settings, 3 no quorum or node unreachable, \
                        4 no primary or nobody fit to be one, 5 an acknowledged write was lost."
)]
pub(super) struct Args {
    /// Node to ask: http://HOST:PORT. Otherwise the one in --config, or http://127.0.0.1:26381
    #[arg(
        long,
        global = true,
        env = "SENTINEL_NODE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) node: Option<String>,
    /// Print one JSON object or array for machines
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a node until SIGTERM or Ctrl-C
    Run {
        /// The node's settings
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Form of the log on stderr; RUST_LOG chooses what is logged
        #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
        log_format: LogFormat,
        /// Leave a rule out, for tests
        #[cfg(feature = "planted-bugs")]
        #[arg(long, hide = true, value_enum, value_name = "BUG")]
        plant: Option<crate::planted::PlantedBug>,
    },
    /// Check a settings file; start nothing
    Check {
        /// The node's settings
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Look at the instances too, without changing anything on them
        #[arg(long)]
        connect: bool,
    },
    /// Show a failover on real servers, which are started and cleaned up
    Demo(DemoOptions),
    /// Show how the services are
    Status {
        /// This one only
        service: Option<String>,
        #[command(flatten)]
        settings: SettingsArg,
    },
    /// Print the primary as host:port
    Primary {
        /// The service
        service: String,
        /// Print a connection string of libpq with all instances, the primary first (PostgreSQL)
        #[arg(long)]
        dsn: bool,
        #[command(flatten)]
        settings: SettingsArg,
    },
    /// Show what was decided and why, and why nothing is
    Explain {
        /// The service
        service: String,
        #[command(flatten)]
        settings: SettingsArg,
    },
    /// Make another instance primary, without loss, while the primary is well
    Switchover {
        /// The service
        service: String,
        /// Who is to be primary; the leader chooses when absent
        #[arg(long, value_name = "HOST:PORT")]
        to: Option<InstanceId>,
        /// File with the admin token; otherwise the one that --config names
        #[arg(long, value_name = "FILE", env = "SENTINEL_ADMIN_TOKEN_FILE")]
        token_file: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsArg,
    },
    /// What a person has to do on servers of PostgreSQL
    Postgres {
        #[command(subcommand)]
        command: PostgresCommand,
    },
    /// Print how many votes a number of voters needs, and how many failures it tolerates
    Quorum {
        /// Number of voters; 1 to 9 when absent
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        voters: Option<u32>,
    },
}

/// Where the address of the node to ask may come from.
#[derive(Debug, clap::Args)]
pub(super) struct SettingsArg {
    /// Settings of the node to ask, for its HTTP address
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people.
    Text,
    /// JSON for machines.
    Json,
}

impl Args {
    pub(super) fn format(&self) -> Format {
        if self.json {
            Format::Json
        } else {
            Format::Text
        }
    }
}
