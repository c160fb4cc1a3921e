//! HTTP: the same answers as JSON, for command lines, scripts and monitoring.

mod admin;
pub mod answers;
pub mod metrics;
mod patroni;
pub mod routes;
pub mod server;

pub use server::{Limits, Options, serve};
