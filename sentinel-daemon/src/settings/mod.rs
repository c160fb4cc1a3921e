//! The settings file: its shape, its typed values, its relations, and errors that name the line.

mod error;
mod fields;
mod load;
mod place;
mod relations;
mod secret;
mod shape;
mod values;

pub use error::{SettingsFailure, SettingsProblem};
pub use fields::{Field, fields};
pub use load::http_default;
pub use load::{Announce, GuardedService, Listen, PasswordSource, Secrets, Security, Settings};
pub use place::Line;
pub use secret::{Secret, SecretError};
pub use values::check_name;

#[cfg(test)]
mod tests;
