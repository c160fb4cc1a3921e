//! The command line: one file for each command, and what they share.

mod age;
mod args;
mod ask;
mod check;
mod connect;
mod dispatch;
mod drift;
mod dsn;
mod explain;
mod failure;
mod leader;
mod postgres;
mod primary;
mod quorum;
mod status;
mod switchover;

pub(crate) use args::Format;
pub use dispatch::main;
pub use failure::Failure;
