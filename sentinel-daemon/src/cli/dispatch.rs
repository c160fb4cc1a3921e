//! From the command line to the command, and from its end to the exit code.

use std::path::Path;
use std::process;

use clap::Parser as _;
use sentinel_core::planted::Bugs;

use super::args::{Args, Command};
use super::check::Scope;
use super::failure::Failure;
use super::primary::Wanted;
use super::{check, explain, postgres, primary, quorum, status, switchover};
use crate::demo;
use crate::exit::ExitCode;
use crate::output;
use crate::run::{self, LogFormat};
use crate::settings::Settings;

/// Runs the command that the process was started with.
pub fn main() -> process::ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return refuse(&error).into(),
    };
    match command(args) {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.report();
            failure.code.into()
        }
    }
}

/// Help and version are results; everything else that clap says is an error of usage.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let text = text.trim_end();
    if error.use_stderr() {
        output::note(&text.replace("For more information, try '--help'.", "hint: try '--help'"));
        ExitCode::Usage
    } else {
        output::result(text);
        ExitCode::Done
    }
}

fn command(args: Args) -> Result<ExitCode, Failure> {
    let format = args.format();
    let node = args.node;
    match args.command {
        #[cfg(not(feature = "planted-bugs"))]
        Command::Run { config, log_format } => start(&config, log_format, Bugs::none()),
        #[cfg(feature = "planted-bugs")]
        Command::Run {
            config,
            log_format,
            plant,
        } => {
            let bugs = plant.map_or_else(Bugs::none, crate::planted::PlantedBug::bugs);
            start(&config, log_format, bugs)
        }
        Command::Demo(options) => demo::run(&options, format),
        Command::Check { config, connect } => {
            let scope = if connect {
                Scope::Instances
            } else {
                Scope::Files
            };
            check::run(&config, scope, format)
        }
        Command::Status { service, settings } => {
            status::run(service.as_deref(), node.as_deref(), &settings, format)
        }
        Command::Primary {
            service,
            dsn,
            settings,
        } => {
            let wanted = if dsn { Wanted::Dsn } else { Wanted::Address };
            primary::run(&service, wanted, node.as_deref(), &settings, format)
        }
        Command::Explain { service, settings } => {
            explain::run(&service, node.as_deref(), &settings, format)
        }
        Command::Switchover {
            service,
            to,
            token_file,
            settings,
        } => {
            let wanted = switchover::Wanted { service, to };
            let token = switchover::TokenFrom {
                file: token_file,
                settings,
            };
            switchover::run(&wanted, node.as_deref(), &token, format)
        }
        Command::Postgres { command } => Ok(postgres::run(command, format)),
        Command::Quorum { voters } => Ok(quorum::run(voters, format)),
    }
}

fn start(config: &Path, log: LogFormat, bugs: Bugs) -> Result<ExitCode, Failure> {
    let mut settings = Settings::load(config)?;
    settings.node.bugs = bugs;
    let secrets = settings.secrets()?;
    run::run(&settings, &secrets, log)?;
    Ok(ExitCode::Done)
}
