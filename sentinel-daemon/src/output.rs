//! The one place that writes to the terminal: results to stdout, everything else to stderr.
//!
//! A reader that has gone away (`sentinel status | head -1`) ends the program quietly. No colours.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::exit::ExitCode;

/// Writes a line of the result.
pub(crate) fn result(line: &str) {
    let written = writeln!(io::stdout().lock(), "{line}");
    stop_if_unread(&written);
}

/// Writes the whole result as one line of JSON.
pub(crate) fn json<T: Serialize>(value: &T) {
    let line = serde_json::to_string(value).expect("our own types serialize without fail");
    result(&line);
}

/// Writes what is no result: progress, a warning, an error, a hint.
pub(crate) fn note(line: &str) {
    // Nobody is left to tell when stderr is gone.
    drop(writeln!(io::stderr().lock(), "{line}"));
}

fn stop_if_unread(written: &io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            std::process::exit(ExitCode::Done.number().into())
        }
        Err(error) => {
            note(&format!("error: cannot write the result: {error}"));
            note("hint: is the disk behind the redirection full?");
            std::process::exit(ExitCode::Failed.number().into())
        }
    }
}
