//! The host side of PostgreSQL: supervises the server of one instance on this host, and turns it from a primary into a
//! standby and back to life. It knows one data folder; which instance is the primary it is told.

mod account;
mod boundary;
mod configuration;
mod control;
mod crossing;
mod desk;
mod diverged;
mod durable;
mod fence;
mod followers;
mod host;
mod journal;
mod mandate;
mod own_history;
mod own_slot;
mod pause;
mod pause_file;
mod pausing;
mod policy;
mod postmaster;
mod postmaster_file;
mod programs;
mod rebuild;
mod rejoin;
mod relation;
mod remnants;
mod reopening;
mod report;
mod rewind;
mod senders;
mod server;
mod settings;
mod slots;
mod space;
mod stand_down;
mod standing;
mod supervision;
mod upstream;
mod visitors;
mod wal;

pub use host::{AgentError, PostgresHost};
pub use report::{AgentStatus, Diverged, ServerState};
pub use settings::{AgentSettings, How, Limits, SettingsError};
pub use standing::{Failover, Silence, Standing};
