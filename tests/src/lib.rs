//! Support for the tests: real servers, and waiting for conditions with a bound.

pub mod binary;
pub mod cluster;
pub mod demonstration;
pub mod haproxy;
pub mod port;
pub mod postgres_cluster;
pub mod postgres_server;
pub mod redis_sentinel;
pub mod redis_server;
pub mod sentinel_node;
#[cfg(feature = "planted-bugs")]
pub mod sim;
pub mod skipped;
pub mod wait;
pub mod wal_proxy;
