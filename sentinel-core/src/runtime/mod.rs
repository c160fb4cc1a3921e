//! The tokio driver: sockets, files, clocks and tasks.

pub mod adapter;
pub mod clock;

pub use adapter::{Adapter, AdapterContext, AdapterFactory};
pub use clock::Clock;
