//! Says which test could not be run on this machine, so that nobody believes that it passed.
//!
//! Knows nothing of why: the caller has tried.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Names the file to which each skipped test adds a line; `make test` shows it at its end.
pub const FILE: &str = "SENTINEL_TEST_SKIPPED";

/// Notes that the calling test was not run to its end.
///
/// # Panics
/// When the file cannot be written: a skipped test must not look like one that passed.
#[expect(
    clippy::print_stderr,
    reason = "who reads the output must see what was not tested"
)]
pub fn note(reason: &str) {
    let thread = std::thread::current();
    let line = format!("skipped: {}: {reason}", thread.name().unwrap_or("a test"));
    eprintln!("{line}");
    if let Some(path) = std::env::var_os(FILE) {
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}"))
            .expect("the file of skipped tests is writable");
    }
}
