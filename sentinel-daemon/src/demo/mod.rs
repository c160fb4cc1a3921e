//! `sentinel demo`: a failover on real servers that it starts itself, measured and proved.
//!
//! One hop a file: `options` says what is asked for, `plan` which services that means, `voters` and `engines` start the
//! processes, `writers` write and remember, `timeline` hears what the voters publish, `scene` knows each step for one
//! service, `play` the order of the steps, and `report` says how it went. What is particular to an engine is in its
//! folder of `engines`. Uses nothing of the core but the addresses: it sees the voters as any client does.

mod connect;
mod engines;
mod error;
mod journal;
mod leash;
mod options;
mod patience;
mod plan;
mod play;
mod report;
mod scene;
mod site;
mod stage;
mod timeline;
mod voters;
mod writers;

pub(crate) use options::DemoOptions;
pub(crate) use stage::run;
