//! Quorum failover for replicated databases: the machine without IO, and its tokio driver.
//!
//! The straight path, one file a hop: an adapter's [`observation`] becomes a change of health in
//! [`detector`], an [`peer::Opinion`], a verdict, a plan, a committed [`ledger::Decision`], an [`action`], an
//! outcome, and an answer in [`discovery`]. Only [`sentinel`] knows all of them.

pub mod action;
pub mod codec;
pub mod config;
pub mod detector;
pub mod discovery;
pub mod event;
pub mod failover;
pub mod id;
pub mod ledger;
pub mod monitor;
pub mod observation;
pub mod peer;
pub mod planted;
pub mod position;
pub mod quorum;
pub mod ranking;
pub mod reason;
pub mod sentinel;
pub mod time;
pub mod timers;
pub mod vote;

#[cfg(feature = "runtime")]
pub mod runtime;
