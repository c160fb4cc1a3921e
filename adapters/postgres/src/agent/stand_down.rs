//! Makes a standby of nobody of a primary: the freeze of a server that no statement can freeze as a primary.
//!
//! The server is stopped, keeps its data and its life, and starts as a standby without an upstream; as such it stays frozen
//! over every start that follows. Not journaled: broken off anywhere, it is begun again by the same order, and a server that
//! was started as a primary in between is stopped once more. Asks nobody whether it should: the order has said so.

use sentinel_core::id::{Epoch, Incarnation, Token};

use super::configuration;
use super::control;
use super::host::Shared;
use super::journal::Journal;
use super::rejoin::{RejoinError, SETTINGS, io, own_life};
use super::server::{self, StopMode};
use crate::act::SYNC_NAMES;
use crate::sync_names;

/// Looks before it touches anything, and goes on from wherever an earlier try ended.
pub(super) async fn run(
    shared: &Shared,
    life: &Incarnation,
    epoch: u64,
) -> Result<(), RejoinError> {
    let (settings, programs) = (&shared.settings, &shared.programs);
    let journal = Journal::open(&settings.state_dir)?;
    if journal.is_some_and(|journal| journal.is_open()) {
        return Err(RejoinError::Unfinished);
    }
    let control = control::read(programs, &settings.data_dir).await?;
    if own_life(&settings.data_dir, &control).as_ref() != Some(life) {
        return Err(RejoinError::OtherLife);
    }
    if !settings.is_standby() {
        shared.board.doing("stopping the server");
        // Smart would wait for clients, of whom none can be acknowledged anything.
        server::stop(settings, programs, StopMode::Fast).await?;
        let epoch = Epoch(epoch);
        let nobody = sync_names::nobody(Token { epoch, step: 0 });
        let set = [("primary_conninfo", ""), (SYNC_NAMES, nobody.as_str())];
        configuration::become_standby(&settings.data_dir, set, programs.account)
            .map_err(io(SETTINGS))?;
    }
    shared.board.doing("starting as a standby of nobody");
    server::start(settings, programs).await?;
    Ok(())
}
