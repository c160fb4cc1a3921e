//! PostgreSQL in the demonstration: its servers, a client that writes rows, and the reading back.

mod account;
mod installation;
mod making;
mod processes;
mod readback;
mod servers;
mod session;
mod settings;
mod whereabouts;
mod writer;

pub(in crate::demo) use servers::{Servers, require};
pub(in crate::demo) use writer::Writer;
