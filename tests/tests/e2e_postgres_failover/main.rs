#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Failovers of a real cluster: three nodes that vote and mind a PostgreSQL server each, writers that go on through the
//! fault.
//!
//! Each test ends with the cluster whole again without a hand, and with every acknowledged row on every server.

mod cascades;
mod crashes;
mod diverged;
mod full_disk;
mod in_a_row;
mod interrupted;
mod killed;
mod paused;
mod quick_succession;
mod quorum_lost;
mod shortage;
mod standbys;
mod standing_down;
mod stopped;
mod stranded;
mod strangers;
mod switchovers;
