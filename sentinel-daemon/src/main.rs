//! The `sentinel` binary.

fn main() -> std::process::ExitCode {
    sentinel_daemon::cli::main()
}
