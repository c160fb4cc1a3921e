//! The daemon: settings, command line, endpoints, and the adapters that this build has.
//!
//! Judges nothing: decisions are the core's, facts the adapters'.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!(
    "the feature planted-bugs breaks the protocol on purpose, for tests, and a release build must not have it: \
     build with `cargo build --release -p sentinel-daemon`"
);

pub mod api;
pub mod cli;
mod client;
mod demo;
pub mod engines;
pub mod exit;
pub mod http;
pub mod orders;
mod output;
#[cfg(feature = "planted-bugs")]
mod planted;
pub mod resp;
pub mod run;
pub mod settings;
pub mod source;
