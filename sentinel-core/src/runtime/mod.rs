//! The tokio driver: sockets, files, clocks and tasks.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place of this crate that does IO: it carries out what the machine asks for"
)]

pub mod adapter;
pub mod clock;
pub mod log_file;
pub mod transport;

pub use adapter::{Adapter, AdapterContext, AdapterFactory};
pub use clock::Clock;
