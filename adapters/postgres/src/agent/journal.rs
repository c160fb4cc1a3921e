//! The journal of a job: how far a rewind or a rebuild has got, on disk before the step that it names.
//!
//! As long as a journal is open, the data folder is never started but by the job itself: half rewound it would answer
//! and be wrong. A new agent goes on where the journal says. Knows no step's work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sentinel_core::id::{Incarnation, InstanceId};
use serde::{Deserialize, Serialize};

use super::desk::Aim;
use super::durable;

/// How far a job has got. Each step may be begun again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Step {
    /// Nothing was changed, but the server may have been stopped.
    Begun,
    /// The data folder is being rewound: it is neither the old nor the new one.
    Rewinding,
    /// The data are the primary's; so are the settings, and nothing says that it is a standby.
    Rewound,
    /// A copy is being made in this folder; the data folder is untouched.
    Copying { folder: PathBuf },
    /// The copy is whole, and takes the place of the data folder, which is kept in `old`.
    Swapping { folder: PathBuf, old: PathBuf },
    /// The data folder is a standby's, and can be started.
    Ready,
    /// The job is done; kept so that the order, repeated, is known to be fulfilled.
    Finished,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Layout of this file.
    version: u32,
    /// What became of the order.
    pub(super) step: Step,
    /// Whether a copy was ordered whatever the two histories say.
    pub(super) rebuild: bool,
    /// The incarnation whose data the copy replaces.
    #[serde(default)]
    pub(super) life: Option<Incarnation>,
    /// From whom the data come.
    pub(super) primary: InstanceId,
    /// Epoch of the order.
    pub(super) epoch: u64,
    /// How often a rewind was begun.
    pub(super) rewinds: u32,
    /// Where the diverged log was saved.
    pub(super) diverged: Option<PathBuf>,
    /// Where the former data folder is kept until the new one runs.
    old: Option<PathBuf>,
    /// Others of the kind, of a job that took another primary before its copy ran.
    #[serde(default)]
    older: Vec<PathBuf>,
}

const VERSION: u32 = 1;
const FILE: &str = "job.json";

/// A journal that cannot be used. Nothing was changed, and the server is not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// It is there and does not say what it should.
    #[error(
        "the journal `{}` of an unfinished rewind or rebuild is damaged: {problem}. The data folder may be half rewound and is not started. \
         Move the data folder and the journal away, and the agent makes a new copy of the primary; what only this instance had may be in that folder", .path.display()
    )]
    Damaged { path: PathBuf, problem: String },
    /// It cannot be read or written.
    #[error("the journal `{}` cannot be used: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Journal {
    /// A job that begins.
    pub(super) fn begin(primary: &InstanceId, aim: &Aim, epoch: u64) -> Self {
        Self {
            version: VERSION,
            step: Step::Begun,
            rebuild: aim.is_rebuild(),
            life: aim.life().cloned(),
            primary: primary.clone(),
            epoch,
            rewinds: 0,
            diverged: None,
            old: None,
            older: Vec::new(),
        }
    }

    /// Reads the journal; `None` when no job was ever begun.
    pub(super) fn open(state_dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = state_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Io { path, source }),
        };
        let journal: Self = match serde_json::from_slice(&text) {
            Ok(journal) => journal,
            Err(error) => {
                let problem = error.to_string();
                return Err(JournalError::Damaged { path, problem });
            }
        };
        if journal.version != VERSION {
            let problem = format!(
                "it has layout {}, this agent knows {VERSION}",
                journal.version
            );
            return Err(JournalError::Damaged { path, problem });
        }
        Ok(Some(journal))
    }

    /// Whether the data folder is in the job's hands.
    pub(super) fn is_open(&self) -> bool {
        self.step != Step::Finished
    }

    /// Whether this order, given again, has been carried out. One to follow is judged by whom the server follows. One to
    /// rebuild a later life is another order, also in the same epoch.
    pub(super) fn fulfils(&self, aim: &Aim, epoch: u64) -> bool {
        let same = aim.primary() == Some(&self.primary) && self.epoch == epoch;
        let gone = aim
            .life()
            .is_none_or(|life| self.life.as_ref() == Some(life));
        !self.is_open() && same && gone
    }

    /// Takes over the folders of a job that was given up before it could remove them.
    pub(super) fn inherit(&mut self, mut given_up: Self) {
        self.older.append(&mut given_up.take_former());
    }

    /// Takes another primary, or a copy where a rewind was ordered.
    pub(super) fn redirect(&mut self, primary: &InstanceId, aim: &Aim) {
        if self.primary != *primary {
            // Its history may part from ours earlier: what was kept is not all that only this folder has.
            self.diverged = None;
        }
        self.primary = primary.clone();
        self.rebuild = aim.is_rebuild();
        self.life = aim.life().cloned();
    }

    /// The former data folder is in `old` from here on.
    pub(super) fn set_aside(&mut self, old: PathBuf) {
        self.older.extend(self.old.replace(old));
    }

    /// The former data folders, which nobody needs once the new one runs.
    pub(super) fn take_former(&mut self) -> Vec<PathBuf> {
        let mut former = std::mem::take(&mut self.older);
        former.extend(self.old.take());
        former
    }

    /// Goes on to a step: it is on disk when this returns.
    pub(super) fn advance(&mut self, state_dir: &Path, step: Step) -> Result<(), JournalError> {
        self.step = step;
        let path = state_dir.join(FILE);
        let text = serde_json::to_vec_pretty(self).map_err(|error| JournalError::Damaged {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        durable::replace(&path, &text).map_err(|source| JournalError::Io { path, source })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_journal_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap(), None);
        let primary = InstanceId::new("::1", 5432);
        let follow = Aim::Follow {
            primary: primary.clone(),
        };
        let mut journal = Journal::begin(&primary, &follow, 3);
        journal.rewinds = 1;
        journal.advance(folder.path(), Step::Rewinding).unwrap();
        let found = Journal::open(folder.path()).unwrap().unwrap();
        assert_eq!(found, journal);
        assert!(found.is_open());
        journal.advance(folder.path(), Step::Finished).unwrap();
        let found = Journal::open(folder.path()).unwrap().unwrap();
        assert!(!found.is_open());
        assert!(found.fulfils(&follow, 3) && !found.fulfils(&follow, 4));
        let rebuild = |life: &str| Aim::Rebuild {
            primary: primary.clone(),
            life: life.into(),
        };
        assert!(!found.fulfils(&rebuild("first"), 3));
        let mut rebuilt = Journal::begin(&primary, &rebuild("first"), 3);
        rebuilt.advance(folder.path(), Step::Finished).unwrap();
        assert!(rebuilt.fulfils(&rebuild("first"), 3));
        assert!(!rebuilt.fulfils(&rebuild("second"), 3));
    }

    #[test]
    fn no_former_data_folder_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (InstanceId::new("::1", 5432), InstanceId::new("::1", 5433));
        let follow = |primary: &InstanceId| Aim::Follow {
            primary: primary.clone(),
        };
        let mut journal = Journal::begin(&first, &follow(&first), 3);
        for old in ["a", "b"] {
            journal.set_aside(old.into());
        }
        journal.advance(folder.path(), Step::Finished).unwrap();
        let given_up = Journal::open(folder.path()).unwrap().unwrap();
        let mut journal = Journal::begin(&second, &follow(&second), 4);
        journal.inherit(given_up);
        journal.set_aside("c".into());
        let former = journal.take_former();
        assert_eq!(former, ["a", "b", "c"].map(PathBuf::from));
        assert!(journal.take_former().is_empty());
    }

    #[test]
    fn a_journal_without_older_folders_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let primary = InstanceId::new("::1", 5432);
        let follow = Aim::Follow {
            primary: primary.clone(),
        };
        let mut journal = Journal::begin(&primary, &follow, 3);
        journal.advance(folder.path(), Step::Ready).unwrap();
        let path = folder.path().join(FILE);
        let mut json: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json.as_object_mut().unwrap().remove("older").unwrap();
        fs::write(&path, json.to_string()).unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap(), Some(journal));
    }

    #[test]
    fn what_parts_from_another_primary_is_kept_anew() {
        let (first, second) = (InstanceId::new("::1", 5432), InstanceId::new("::1", 5433));
        let rebuild = Aim::Rebuild {
            primary: first.clone(),
            life: "1".into(),
        };
        let follow = Aim::Follow {
            primary: second.clone(),
        };
        let mut journal = Journal::begin(&first, &follow, 3);
        let kept: PathBuf = "kept".into();
        journal.diverged = Some(kept.clone());
        journal.redirect(&first, &rebuild);
        assert_eq!(
            (journal.diverged.as_ref(), journal.rebuild),
            (Some(&kept), true)
        );
        journal.redirect(&second, &follow);
        assert_eq!((journal.diverged.as_ref(), journal.rebuild), (None, false));
    }

    #[test]
    fn a_damaged_journal_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for bad in ["", "{", "{\"version\":1}"] {
            fs::write(folder.path().join(FILE), bad).unwrap();
            let error = Journal::open(folder.path()).unwrap_err();
            assert!(matches!(error, JournalError::Damaged { .. }), "{bad}");
        }
    }
}
