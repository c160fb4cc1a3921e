//! The simulator: whole clusters of the real machine, in virtual time, from one seed.
//!
//! Everything around the machine is simulated here: clocks, network, disks, database servers, write
//! guards, and the faults of all of them. What must hold meanwhile is in [`invariant`], one file each.

pub mod admin;
pub mod agent;
pub mod budget;
pub mod chance;
pub mod commit;
pub mod disk;
pub mod event;
pub mod guard;
pub mod history;
pub mod instance;
pub mod invariant;
pub mod nemesis;
pub mod network;
pub mod node;
pub mod orders;
pub mod pause;
pub mod postgres;
pub mod replication;
pub mod run;
pub mod schedule;
pub mod script;
pub mod script_postgres;
pub mod settings;
pub mod sql_orders;
pub mod standby;
pub mod trace;
pub mod world;
