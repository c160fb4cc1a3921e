//! Redis in the demonstration: its servers, a client that writes through the write guard, and the reading back.

mod proxy;
mod readback;
mod servers;
mod settings;
mod writer;

pub(in crate::demo) use servers::{Servers, require};
pub(in crate::demo) use writer::Writer;
