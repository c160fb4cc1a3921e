//! Where the `sentinel` binary is: beside the tests, built by the same command.

use std::path::PathBuf;

/// Path of the binary.
///
/// # Panics
/// When it was not built; `cargo build --workspace --bins` does that, and `make test` runs it first.
pub fn sentinel() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    // target/debug/deps/TEST, or target/debug/BENCH.
    let path = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("sentinel"))
        .find(|path| path.is_file());
    path.expect("the sentinel binary is built: run `cargo build --workspace --bins`")
}
