//! The daemon.

pub mod api;
pub mod resp;
pub mod source;
