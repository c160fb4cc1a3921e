//! `sentinel demo redis`: a failover on real servers that it starts itself, measured and proved.
//!
//! One hop a file: `options` says what is asked for, `cluster` starts the processes, `writers` write and remember,
//! `timeline` hears what the voters publish, `play` decides the order, `readback` looks for what was lost, and
//! `report` says how it went. Uses nothing of the core but the addresses: it sees the voters as any client does.

mod cluster;
mod connect;
mod error;
mod journal;
mod layout;
mod leash;
mod options;
mod patience;
mod play;
mod proxy;
mod readback;
mod report;
mod stage;
mod timeline;
mod writers;

pub(crate) use options::DemoOptions;
pub(crate) use stage::run;
