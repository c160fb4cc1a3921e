//! The PostgreSQL adapter, from 13 on: reports facts about servers and carries out steps on them,
//! over plain connections; what needs the host itself goes to an agent there, a [`Host`]. It never decides.
//!
//! `sync_names` says where a server keeps its write quorum, `history` and `hazard` where a standby stands
//! to a server at which it is to be pointed.
#![expect(
    dead_code,
    reason = "the pure parts come first; the adapter that uses them follows"
)]

mod conninfo;
mod credentials;
mod hazard;
mod history;
mod host;
mod lsn;
mod service;
mod sync_names;

pub use credentials::{Credentials, Secret};
pub use host::{Host, Hosts};
pub use service::PostgresService;
