//! The settings file: its shape, its typed values, its relations, and errors that name the line.

mod agent;
mod error;
mod fields;
mod load;
mod place;
mod relations;
mod secret;
mod secrets;
mod service;
mod shape;
mod values;

pub use agent::{AgentEntry, RunSettings, StopLimits};
pub use error::{SettingsFailure, SettingsProblem};
pub use fields::{Field, fields};
pub use load::http_default;
pub use load::{Announce, Listen, Security, Settings};
pub use place::Line;
pub use secret::{SecretError, read_secret_file};
pub use secrets::Secrets;
pub use service::{GuardedService, PasswordSource, Replication};
pub use values::check_name;

#[cfg(test)]
mod postgres_tests;
#[cfg(test)]
mod tests;
