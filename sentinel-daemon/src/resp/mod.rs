//! The Sentinel protocol: what clients of Redis Sentinel ask over RESP2 and RESP3.

pub mod limits;
pub mod reply;
pub mod request;

pub use limits::Limits;
