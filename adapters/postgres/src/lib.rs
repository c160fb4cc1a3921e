//! The PostgreSQL adapter, from 13 on: reports facts about servers and carries out steps on them,
//! over plain connections; what needs the host itself goes to an agent there, a [`Host`]. It never decides.
//!
//! `query` says what is asked of a server, `facts` what counts as a fact, `timeline` how the branch of
//! history is found, `act` what each step does, `session` when a step that went wrong is refused and
//! when it is unknown, `sync_names` where a server keeps its write quorum, `hazard` when a standby may be
//! pointed elsewhere by a mere reload, `supply` when a standby can never go on. `agent` is the host side.
mod act;
mod adapter;
pub mod agent;
mod connection;
mod conninfo;
mod credentials;
mod demote;
mod door;
mod facts;
mod follow;
mod grants;
mod greeting;
mod hazard;
mod history;
mod host;
mod line;
mod lsn;
mod orders;
mod promote;
mod pulse;
mod query;
mod replication;
mod room;
mod service;
mod session;
mod sightings;
mod supply;
mod sync_names;
mod timeline;

pub use adapter::{ENGINE, PostgresAdapter};
pub use credentials::Credentials;
pub use grants::grants;
pub use hazard::{Judgement, Places, judge_places};
pub use host::{Host, Hosts};
pub use sentinel_core::runtime::Secret;
pub use service::PostgresService;
