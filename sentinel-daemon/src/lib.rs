//! The daemon: settings, command line, endpoints, and the adapters that this build has.
//!
//! Judges nothing: decisions are the core's, facts the adapters'.

pub mod api;
pub mod cli;
mod client;
mod demo;
pub mod engines;
pub mod exit;
pub mod http;
mod output;
#[cfg(feature = "planted-bugs")]
mod planted;
pub mod resp;
pub mod run;
pub mod settings;
pub mod source;
