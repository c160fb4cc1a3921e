//! The Sentinel protocol: what clients of Redis Sentinel ask over RESP2 and RESP3.

pub mod clients;
pub mod command;
mod command_table;
pub mod events;
pub mod glob;
pub mod handshake;
pub mod info;
pub mod limits;
pub mod password;
pub mod reply;
pub mod request;
pub mod rows;
pub mod sentinel;
pub mod server;
pub mod session;
pub mod subscriptions;

pub use limits::Limits;
pub use password::Password;
pub use server::{Options, serve};
