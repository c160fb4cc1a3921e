//! Runs a demonstration for the command line: signals, what is printed where, and the exit code.
//!
//! Everything that was started ends before this returns, also after Ctrl-C.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{DemoError, system};
use super::options::DemoOptions;
use super::play::Play;
use super::report::{self, Object, Report};
use crate::cli::{Failure, Format};
use crate::exit::ExitCode;
use crate::output;

/// Runs it. Blocks until the end, which with `--stay` is Ctrl-C.
pub(crate) fn run(options: &DemoOptions, format: Format) -> Result<ExitCode, Failure> {
    let failed = |options: &DemoOptions, error: DemoError| {
        if format == Format::Json {
            output::json(&Object::of(&nothing(options, &error)));
        }
        Failure::from(&error)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system("no threads can be had"));
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(performance(options, format)),
        Err(error) => Err(error),
    };
    ended.map_err(|error| failed(options, error))
}

async fn performance(options: &DemoOptions, format: Format) -> Result<ExitCode, DemoError> {
    let mut terminate = stops(SignalKind::terminate())?;
    let mut interrupt = stops(SignalKind::interrupt())?;
    let mut stopped = std::pin::pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let (play, reports) = tokio::select! {
        performed = perform(options.clone()) => performed?,
        () = &mut stopped => return Err(DemoError::Interrupted),
    };
    show(&reports, format);
    if options.stay {
        output::note("everything stays up; Ctrl-C ends it");
        stopped.await;
    }
    drop(play);
    Ok(report::worst(&reports))
}

async fn perform(options: DemoOptions) -> Result<(Play, Vec<Report>), DemoError> {
    let mut play = Play::prepare(options).await?;
    let reports = play.perform().await?;
    Ok((play, reports))
}

fn stops(kind: SignalKind) -> Result<Signal, DemoError> {
    signal(kind).map_err(system("signals cannot be listened to"))
}

/// The object is the last line of stdout; the tables then go to stderr.
fn show(reports: &[Report], format: Format) {
    for report in reports {
        match format {
            Format::Text => report.table().iter().for_each(|line| output::result(line)),
            Format::Json => report.table().iter().for_each(|line| output::note(line)),
        }
        if let Some(error) = &report.error {
            output::note(&format!("error: {error}"));
        }
    }
    match format {
        Format::Text => {
            let stay = reports.first().and_then(|report| report.stay.as_ref());
            for resp in stay.iter().flat_map(|stay| &stay.endpoints.resp) {
                output::result(&format!("{:<22} {resp:>20}", "Sentinel endpoint"));
            }
        }
        Format::Json => output::json(&Object::of(reports)),
    }
}

/// What is known of a demonstration that never came to its fault.
fn nothing(options: &DemoOptions, error: &DemoError) -> Vec<Report> {
    let services = options.services().into_iter();
    services
        .map(|plan| Report {
            error: Some(error.to_string()),
            ..Report::empty(&plan, options)
        })
        .collect()
}
