//! The Redis and Valkey adapter, from 6.2 on: reports facts about servers and carries out steps on
//! them, over plain connections and without an agent. It never decides.
//!
//! `reading` says what counts as a fact, `orders` what each step sends, `session` when a step
//! that went wrong is refused and when it is unknown, `record` where a server keeps its write quorum.
//! [`guard`] is the client that counts by that record.

mod act;
mod adapter;
mod connection;
mod copy;
mod credentials;
mod demote;
pub mod guard;
mod line;
mod orders;
mod overheard;
mod reading;
pub mod record;
mod reply;
mod service;
mod session;

pub use adapter::{ENGINE, RedisAdapter};
pub use credentials::Credentials;
pub use sentinel_core::runtime::Secret;
pub use service::RedisService;
