//! The engines that can be shown: everything of the demonstration that knows what kind of server it deals with.

mod fleet;
mod postgres;
mod redis;

pub(super) use fleet::{Fleet, SERVERS, Writer};
