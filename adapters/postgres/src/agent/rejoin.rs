//! Turns the data folder into a standby of the given primary, whatever it was before: as it is where that is enough, by a
//! rewind where it diverged, by a copy where nothing else is safe. What only it had is kept first.
//!
//! Goes from step to step of the journal; each may have been broken off and is then done again. Asks nobody whether it
//! should: an order, or the committed table, has said so.

use std::path::{Path, PathBuf};

use sentinel_core::id::{Epoch, Incarnation, InstanceId, Token};

use super::boundary;
use super::configuration;
use super::control::{self, Control, ControlError};
use super::desk::Aim;
use super::diverged::{self, Extent, Keep};
use super::journal::{Journal, JournalError, Step};
use super::mandate::Told;
use super::own_history::own_history;
use super::own_slot;
use super::programs::{ProgramError, Programs};
use super::rebuild::{self, RebuildError};
use super::relation::{self, Own, OwnRole, Parting, Relation};
use super::report::Board;
use super::server::{self, Reached, StartError, StopError, StopMode};
use super::settings::AgentSettings;
use super::upstream::{self, Primary, UpstreamError};
use crate::act::SYNC_NAMES;
use crate::conninfo::Conninfo;
use crate::history::{DamagedHistory, SystemId};
use crate::sync_names::{self, Unwritable};

/// Why the folder is not a standby yet. The journal says how far it got; but for `Foreign` a later try goes on there.
#[derive(Debug, thiserror::Error)]
pub(super) enum RejoinError {
    /// The folder is another database's. Nothing was touched.
    #[error(
        "the data folder holds the database {own}, the primary {theirs}: this is not the same service. Nothing was touched; \
         move the data folder away if this instance is to become a copy of the primary"
    )]
    Foreign { own: String, theirs: String },
    /// The order to stand down is meant for other data. Nothing was touched.
    #[error(
        "the data folder is in another life than the one that is trusted: it was rewound or copied since, and does not count"
    )]
    OtherLife,
    /// A rewind or a copy has the data folder in its hands. Nothing was touched.
    #[error(
        "a rewind or a copy of the data folder is unfinished, so that what it holds does not count"
    )]
    Unfinished,
    /// Somebody told the server something over SQL after the job was ordered: a freeze, for all that is known here. A standby
    /// that was stopped meanwhile is started again as it was.
    #[error(
        "the server was given another order over SQL after this one, and may be frozen: its data and settings were not \
         touched; the order is to be given again if it still holds"
    )]
    Overtaken,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Stop(#[from] StopError),
    #[error(transparent)]
    Name(#[from] Unwritable),
    /// A history file in the folder is damaged.
    #[error(transparent)]
    History(#[from] DamagedHistory),
    /// A file of the folder or of the agent cannot be used.
    #[error("{what}: {source}")]
    Io {
        what: &'static str,
        source: std::io::Error,
    },
}

/// One job: the folder, the tools, and the journal.
#[derive(Debug)]
pub(super) struct Rejoin<'a> {
    pub(super) settings: &'a AgentSettings,
    pub(super) programs: &'a Programs,
    pub(super) board: &'a Board,
    pub(super) journal: Journal,
    /// What the server had been told when the job was ordered.
    pub(super) told: Told,
}

impl Rejoin<'_> {
    /// Goes on from the journal's step until the standby runs.
    pub(super) async fn run(&mut self) -> Result<(), RejoinError> {
        loop {
            match self.journal.step.clone() {
                Step::Begun => self.begin().await?,
                Step::Rewinding => self.rewind().await?,
                Step::Rewound => self.dress().await?,
                Step::Copying { folder } => self.copy(folder).await?,
                Step::Swapping { folder, old } => self.swap(&folder, old).await?,
                Step::Ready => self.start().await?,
                Step::Finished => return Ok(()),
            }
        }
    }

    /// Takes another primary, or a copy where a rewind was ordered. Half rewound from one primary, a folder holds pages
    /// that a rewind from another one would not replace.
    pub(super) fn redirect(
        &mut self,
        primary: &InstanceId,
        aim: &Aim,
        epoch: u64,
    ) -> Result<(), RejoinError> {
        let other = self.journal.primary != *primary || (aim.is_rebuild() && !self.journal.rebuild);
        self.journal.epoch = epoch;
        if !other {
            return Ok(());
        }
        tracing::info!(instance = %self.settings.instance, from = %self.journal.primary, to = %primary, "an unfinished job takes another primary");
        self.journal.redirect(primary, aim);
        match self.journal.step.clone() {
            Step::Rewinding | Step::Rewound => {
                configuration::restore(
                    &self.aside(),
                    &self.settings.data_dir,
                    self.programs.account,
                )
                .map_err(io(SETTINGS))?;
                self.advance_to_copy()
            }
            Step::Copying { folder } => {
                rebuild::remove(&folder)?;
                self.advance(Step::Begun)
            }
            Step::Swapping { folder, old } => {
                rebuild::swap(&self.settings.data_dir, &folder, &old)?;
                self.journal.set_aside(old);
                self.advance(Step::Begun)
            }
            Step::Begun | Step::Ready | Step::Finished => self.advance(Step::Begun),
        }
    }

    pub(super) fn advance(&mut self, step: Step) -> Result<(), RejoinError> {
        tracing::info!(instance = %self.settings.instance, primary = %self.journal.primary, ?step, "rejoin");
        Ok(self.journal.advance(&self.settings.state_dir, step)?)
    }

    /// Looks before it touches anything, then stops the server and judges what it left.
    async fn begin(&mut self) -> Result<(), RejoinError> {
        let primary = upstream::ask(self.settings, &self.journal.primary).await?;
        if !self.settings.data_dir.join("PG_VERSION").exists() {
            rebuild::check(self.settings, primary.bytes)?;
            return self.advance_to_copy();
        }
        let control = control::read(self.programs, &self.settings.data_dir).await?;
        if control.system_identifier != primary.theirs.system_identifier {
            return Err(foreign(&control, &primary));
        }
        if self.is_overtaken() {
            return Err(RejoinError::Overtaken);
        }
        self.spare_a_later_life(&control);
        self.advance(Step::Begun)?;
        self.board.doing("stopping the server");
        server::stop(self.settings, self.programs, StopMode::Smart).await?;
        // Nobody can tell it anything any more, and nothing of it has been changed.
        if self.is_overtaken() {
            return self.stand_back().await;
        }
        let own = self.own().await?;
        let judged = relation::judge(&own, &primary.theirs);
        tracing::info!(instance = %self.settings.instance, primary = %self.journal.primary, ?judged, "how the data folder stands to the primary");
        match judged {
            Relation::Foreign => Err(foreign(&own.control, &primary)),
            Relation::Follows(_) | Relation::Diverged(_) if self.journal.rebuild => {
                let parting = relation::parting_of(&own, &primary.theirs);
                self.replace(&own, parting, &primary).await
            }
            Relation::Follows(parting) => self.follow(&own, parting).await,
            Relation::Diverged(parting) => {
                self.keep(&own.control, parting).await?;
                self.prepare_rewind(&own).await
            }
            Relation::Replaced(reason, parting) => {
                tracing::warn!(instance = %self.settings.instance, reason, "a rewind is impossible; a copy is made");
                self.replace(&own, parting, &primary).await
            }
        }
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.told != Told::look(&self.settings.data_dir)
    }

    /// Gives up the job, and lets a standby go on as somebody else has told it. A primary is started by the policy only.
    pub(super) async fn stand_back(&mut self) -> Result<(), RejoinError> {
        tracing::warn!(instance = %self.settings.instance, "another order came over SQL before the server had stopped; the job is given up");
        // The order, given again, has not been carried out.
        self.journal.rebuild = false;
        self.journal.life = None;
        self.advance(Step::Finished)?;
        if self.settings.is_standby() {
            server::start(self.settings, self.programs).await?;
        }
        Err(RejoinError::Overtaken)
    }

    /// The order to rebuild was meant for data that are gone: what is here was made since, and only has to follow.
    fn spare_a_later_life(&mut self, control: &Control) {
        let own = own_life(&self.settings.data_dir, control);
        let meant = self.journal.life.as_ref();
        self.journal.rebuild &= meant.is_none() || own.is_none() || meant == own.as_ref();
    }

    async fn own(&self) -> Result<Own, RejoinError> {
        let control = control::read(self.programs, &self.settings.data_dir).await?;
        let role = match self.settings.is_standby() {
            true => OwnRole::Standby,
            false => OwnRole::Primary,
        };
        let history = own_history(self.settings, &control)?;
        Ok(Own {
            control,
            history,
            role,
        })
    }

    async fn keep(&mut self, control: &Control, parting: Parting) -> Result<(), RejoinError> {
        let before = self.journal.diverged.clone();
        if before.as_deref().is_some_and(diverged::is_whole) {
            return Ok(());
        }
        self.board.doing("keeping the diverged log");
        let data_dir = &self.settings.data_dir;
        let extent = diverged::extent(self.programs, data_dir, parting).await;
        if extent == Extent::Nothing {
            return Ok(());
        }
        // Named first: broken off, it is done again in the same place.
        let folder = before.unwrap_or_else(|| diverged::folder(self.settings, self.journal.epoch));
        self.journal.diverged = Some(folder.clone());
        self.advance(Step::Begun)?;
        let kept = diverged::keep(
            self.settings,
            &Keep {
                parting,
                extent: &extent,
                segment_size: control.segment_size,
                system_identifier: &control.system_identifier,
                epoch: self.journal.epoch,
            },
            &folder,
        )
        .map_err(io(
            "the diverged log could not be kept, so nothing was thrown away",
        ))?;
        tracing::warn!(
            instance = %self.settings.instance, from = kept.from, to = kept.to, bytes = kept.bytes,
            folder = %kept.folder.display(), "writes that only this instance had are kept"
        );
        self.board.update(|status| status.diverged = Some(kept));
        Ok(())
    }

    /// Nothing beyond the fork was replayed: at most the log itself is in the way.
    async fn follow(&mut self, own: &Own, parting: Option<Parting>) -> Result<(), RejoinError> {
        if let (Some(parting), OwnRole::Standby) = (parting, own.role) {
            let aside = self.settings.state_dir.join("set-aside");
            rebuild::remove(&aside)?;
            let size = own.control.segment_size;
            let moved = boundary::move_aside(&self.settings.data_dir, parting, size, &aside)
                .map_err(io("the log beyond the fork could not be moved aside"))?;
            tracing::info!(instance = %self.settings.instance, moved, fork = %parting.at, "log beyond the fork moved aside");
        }
        self.become_standby().await?;
        self.advance(Step::Ready)
    }

    async fn replace(
        &mut self,
        own: &Own,
        parting: Option<Parting>,
        primary: &Primary,
    ) -> Result<(), RejoinError> {
        rebuild::check(self.settings, primary.bytes)?;
        if let Some(parting) = parting {
            self.keep(&own.control, parting).await?;
        }
        self.advance_to_copy()
    }

    pub(super) fn advance_to_copy(&mut self) -> Result<(), RejoinError> {
        let folder = rebuild::beside(&self.settings.data_dir, "new");
        self.advance(Step::Copying { folder })
    }

    /// After a rewind: its own settings, a standby, and a birth of its own.
    async fn dress(&mut self) -> Result<(), RejoinError> {
        let data_dir = &self.settings.data_dir;
        configuration::restore(&self.aside(), data_dir, self.programs.account)
            .map_err(io(SETTINGS))?;
        self.become_standby().await?;
        let birth = configuration::birth(data_dir);
        configuration::renew_incarnation(data_dir, birth)
            .await
            .map_err(io(SETTINGS))?;
        self.advance(Step::Ready)
    }

    async fn become_standby(&self) -> Result<(), RejoinError> {
        let told = self.told().await?;
        let set = told.iter().map(|(name, value)| (*name, value.as_str()));
        configuration::become_standby(&self.settings.data_dir, set, self.programs.account)
            .map_err(io(SETTINGS))
    }

    /// Whom to follow, by which slot, and that nobody can acknowledge: a standby that is promoted gets its write quorum
    /// before, and must not have a moment without one.
    async fn told(&self) -> Result<Vec<(&'static str, String)>, RejoinError> {
        let (settings, primary) = (self.settings, &self.journal.primary);
        let conninfo = Conninfo::follow(&settings.instance, primary, &settings.postgres)?;
        let nobody = Token {
            epoch: Epoch(self.journal.epoch),
            step: 0,
        };
        let mut told = vec![
            ("primary_conninfo", conninfo.reveal().to_owned()),
            (SYNC_NAMES, sync_names::nobody(nobody)),
        ];
        let slot = own_slot::on(settings, primary).await;
        told.extend(slot.map(|slot| ("primary_slot_name", slot)));
        Ok(told)
    }

    async fn copy(&mut self, folder: PathBuf) -> Result<(), RejoinError> {
        server::stop(self.settings, self.programs, StopMode::Smart).await?;
        let primary = self.journal.primary.clone();
        rebuild::copy(self.settings, self.programs, &primary, &folder, self.board).await?;
        let copied = control::read(self.programs, &folder).await?;
        let theirs = upstream::ask(self.settings, &primary).await?;
        if copied.system_identifier != theirs.theirs.system_identifier {
            return Err(foreign(&copied, &theirs));
        }
        self.fit_copy(&folder).await?;
        let former = configuration::birth(&self.settings.data_dir);
        configuration::renew_incarnation(&folder, former)
            .await
            .map_err(io(SETTINGS))?;
        let old = rebuild::beside(&self.settings.data_dir, "old");
        self.advance(Step::Swapping { folder, old })
    }

    /// A copy has its primary's settings. A folder that had its own gets them back; a new one gets its port.
    async fn fit_copy(&self, folder: &Path) -> Result<(), RejoinError> {
        let account = self.programs.account;
        let told = self.told().await?;
        let mut set: Vec<_> = told
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let port = self.settings.instance.port().to_string();
        if self.settings.data_dir.join("PG_VERSION").exists() {
            configuration::save(&self.settings.data_dir, &self.aside()).map_err(io(SETTINGS))?;
            configuration::restore(&self.aside(), folder, account).map_err(io(SETTINGS))?;
        } else {
            if self.settings.config_file.is_none() {
                set.push(("port", &port));
            }
            let first = self.settings.first_settings.iter();
            set.extend(first.map(|(name, value)| (name.as_str(), value.as_str())));
        }
        configuration::become_standby(folder, set, account).map_err(io(SETTINGS))
    }

    async fn swap(&mut self, folder: &Path, old: PathBuf) -> Result<(), RejoinError> {
        server::stop(self.settings, self.programs, StopMode::Immediate).await?;
        rebuild::swap(&self.settings.data_dir, folder, &old)?;
        self.journal.set_aside(old);
        self.advance(Step::Ready)
    }

    async fn start(&mut self) -> Result<(), RejoinError> {
        self.board.doing("starting as a standby");
        // One that still recovers may yet turn out unusable: the former folder is kept until it answers.
        while server::start(self.settings, self.programs).await?.1 == Reached::Starting {
            tracing::info!(instance = %self.settings.instance, "the standby is still recovering");
        }
        for former in self.journal.take_former() {
            rebuild::remove(&former)?;
        }
        self.advance(Step::Finished)
    }

    pub(super) fn aside(&self) -> PathBuf {
        self.settings.state_dir.join("settings")
    }
}

/// The incarnation of the data in a folder; `None` of an empty one.
pub(super) fn own_life(data_dir: &Path, control: &Control) -> Option<Incarnation> {
    let system = SystemId(control.system_identifier.clone());
    configuration::birth(data_dir).map(|birth| system.incarnation(birth))
}

pub(super) const SETTINGS: &str = "the settings files could not be kept, put back or written";

pub(super) fn io(what: &'static str) -> impl Fn(std::io::Error) -> RejoinError {
    move |source| RejoinError::Io { what, source }
}

fn foreign(control: &Control, primary: &Primary) -> RejoinError {
    RejoinError::Foreign {
        own: control.system_identifier.clone(),
        theirs: primary.theirs.system_identifier.clone(),
    }
}
