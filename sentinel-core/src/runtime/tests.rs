//! Nodes as a program runs them: the loop with a scripted machine, and whole clusters of the real one over loopback.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod scripted;
