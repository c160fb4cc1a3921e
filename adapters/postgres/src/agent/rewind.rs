//! The rewind of a folder that diverged: recovery first, then `pg_rewind`, as often as it takes, and a copy where it fails
//! while the primary is well.
//!
//! Two steps of a job (`rejoin.rs`). Knows that what only this folder had is kept; not how it was decided to rewind.

use std::time::Duration;

use super::configuration;
use super::control::{self, Left};
use super::diverged;
use super::journal::Step;
use super::mandate::Told;
use super::programs::{ProgramError, lend_password};
use super::rebuild;
use super::rejoin::{Rejoin, RejoinError, SETTINGS, io};
use super::relation::{Own, OwnRole};
use super::report::percent_of;
use super::server::{self, StopMode};
use super::upstream;

/// A rewind that was broken off is tried again so often before a copy is made.
const REWINDS_MAX: u32 = 2;
/// Recovery of a server that was killed under load takes minutes.
const RECOVERY_LIMIT: Duration = Duration::from_secs(1800);
const SYNC_LIMIT: Duration = Duration::from_secs(600);

impl Rejoin<'_> {
    /// A rewind needs a folder that was left cleanly. The settings are kept before anything overwrites them.
    pub(super) async fn prepare_rewind(&mut self, own: &Own) -> Result<(), RejoinError> {
        match (own.control.left, own.role) {
            (Left::ShutDown | Left::ShutDownInRecovery, _) => {}
            (Left::InProduction | Left::InRecovery | Left::Between, OwnRole::Primary) => {
                self.recover().await?;
            }
            // A standby recovers only as one; without an upstream it receives nothing meanwhile.
            (Left::InProduction | Left::InRecovery | Left::Between, OwnRole::Standby) => {
                self.board.doing("recovering the standby before the rewind");
                let account = self.programs.account;
                configuration::set(&self.settings.data_dir, [("primary_conninfo", "")], account)
                    .map_err(io(SETTINGS))?;
                self.told = Told::look(&self.settings.data_dir);
                server::start(self.settings, self.programs).await?;
                server::stop(self.settings, self.programs, StopMode::Fast).await?;
                // It could be frozen as soon as it answered.
                if self.is_overtaken() {
                    return self.stand_back().await;
                }
            }
        }
        configuration::save(&self.settings.data_dir, &self.aside()).map_err(io(SETTINGS))?;
        self.advance(Step::Rewinding)
    }

    /// Crash recovery in single-user mode, as `pg_rewind` would do it, but with its own limit and its own error.
    async fn recover(&self) -> Result<(), RejoinError> {
        self.board.doing("recovering before the rewind");
        let mut command = self.programs.command("postgres");
        command
            .arg("--single")
            .arg("-F")
            .arg("-D")
            .arg(&self.settings.data_dir);
        if let Some(path) = &self.settings.config_file {
            command
                .arg("-c")
                .arg(format!("config_file={}", path.display()));
        }
        // Nobody is there to acknowledge, and nothing of this is acknowledged to anybody.
        command.args(["-c", "synchronous_standby_names="]);
        // Its last checkpoint must not remove the log since the parting, of which the rewind lives.
        command.args(["-c", "wal_keep_size=1TB", "template1"]);
        self.programs
            .run("postgres", command, RECOVERY_LIMIT)
            .await?;
        Ok(())
    }

    pub(super) async fn rewind(&mut self) -> Result<(), RejoinError> {
        let from = self.journal.primary.clone();
        server::stop(self.settings, self.programs, StopMode::Immediate).await?;
        if self.journal.rewinds >= REWINDS_MAX {
            return self.give_up_rewind("it was broken off too often").await;
        }
        self.board
            .doing(format!("rewinding from {from}: waiting for its checkpoint"));
        upstream::await_checkpoint(self.settings, &from).await?;
        if let Some(kept) = self
            .journal
            .diverged
            .clone()
            .filter(|_| self.journal.rewinds > 0)
        {
            let control = control::read(self.programs, &self.settings.data_dir).await?;
            let account = self.programs.account;
            diverged::put_back(
                &kept,
                &self.settings.data_dir,
                control.segment_size,
                account,
            )
            .map_err(io("the kept log could not be put back"))?;
        }
        self.journal.rewinds += 1;
        self.advance(Step::Rewinding)?;
        match self.run_rewind().await {
            Ok(()) => {}
            Err(ProgramError::Failed { text, .. }) => {
                // From a primary that is gone, nothing can be concluded about the folder.
                upstream::ask(self.settings, &from).await?;
                return self.give_up_rewind(&text).await;
            }
            Err(error) => return Err(error.into()),
        }
        // One that was broken off after its last step is found complete, but was never flushed.
        let mut command = self.programs.command("initdb");
        command
            .arg("--sync-only")
            .arg("-D")
            .arg(&self.settings.data_dir);
        self.programs.run("initdb", command, SYNC_LIMIT).await?;
        self.advance(Step::Rewound)
    }

    async fn run_rewind(&self) -> Result<(), ProgramError> {
        let from = &self.journal.primary;
        let role = self.settings.rewind_role();
        let database = &self.settings.postgres.dbname;
        let words = rebuild::connection_words(from, role, Some(database));
        let mut command = self.programs.command("pg_rewind");
        command.arg("--target-pgdata").arg(&self.settings.data_dir);
        command.arg(format!("--source-server={words}"));
        command.args(["--progress", "--no-ensure-shutdown"]);
        lend_password(&mut command, role);
        self.board.doing(format!("rewinding from {from}: copying"));
        let progress = |line: &str| {
            tracing::debug!(line, "pg_rewind");
            if let Some(percent) = percent_of(line) {
                self.board.percent(percent);
            }
        };
        self.programs.follow("pg_rewind", command, progress).await
    }

    async fn give_up_rewind(&mut self, reason: &str) -> Result<(), RejoinError> {
        tracing::warn!(instance = %self.settings.instance, reason, "the rewind failed; a copy is made");
        let primary = upstream::ask(self.settings, &self.journal.primary).await?;
        rebuild::check(self.settings, primary.bytes)?;
        // The settings in the folder may be the primary's by now; the kept ones are its own.
        configuration::restore(
            &self.aside(),
            &self.settings.data_dir,
            self.programs.account,
        )
        .map_err(io(SETTINGS))?;
        self.advance_to_copy()
    }
}
