//! By what a job is begun, and whether that still holds: nobody of more authority came, it is not too late, and nobody has
//! told the server anything else meanwhile.
//!
//! A freeze does not wait for agents: it comes over SQL, and the agent's highest token does not rise by it. But every order
//! over SQL sets something for good, so that the server writes the file of `ALTER SYSTEM` anew. A job that undid a freeze
//! would start the server as a follower of the primary that is being deposed, and what that server then acknowledges is
//! lost. Whoever else sets something by `ALTER SYSTEM` looks the same, and only costs another try. Knows nothing of the job.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sentinel_core::action::Action;
use sentinel_core::id::Token;
use sentinel_core::runtime::Clock;
use sentinel_core::time::Deadline;

use super::configuration;

/// What says that a job may be begun.
#[derive(Clone, Debug)]
pub(super) struct Mandate {
    /// The token of the order, or the highest accepted.
    pub(super) token: Token,
    /// After it nothing is begun; `None` where the policy has said so.
    deadline: Option<Deadline>,
    /// What the server had been told when this was given.
    pub(super) told: Told,
}

impl Mandate {
    /// That of an order, at the moment when it was accepted.
    pub(super) fn of(action: &Action, data_dir: &Path) -> Self {
        Self {
            token: action.token,
            deadline: Some(action.deadline),
            told: Told::look(data_dir),
        }
    }

    /// That of the policy, which goes by the committed table.
    pub(super) fn by_policy(highest: Token, data_dir: &Path) -> Self {
        Self {
            token: highest,
            deadline: None,
            told: Told::look(data_dir),
        }
    }

    /// Why nothing may be begun by it any more.
    pub(super) fn holds(
        &self,
        highest: Token,
        clock: &Clock,
        data_dir: &Path,
    ) -> Result<(), String> {
        if self.token < highest {
            return Err(format!("an order of {highest} came meanwhile"));
        }
        let late = |deadline| clock.until(deadline).is_zero();
        if self.deadline.is_some_and(late) {
            return Err(TOO_LATE.to_owned());
        }
        if self.told != Told::look(data_dir) {
            return Err("the server was given another order over SQL meanwhile, and may be frozen: nothing was begun".to_owned());
        }
        Ok(())
    }
}

/// Why an order is not carried out that waited too long, wherever it did.
pub(super) const TOO_LATE: &str = "its deadline passed before anything was begun";

/// Which file of `ALTER SYSTEM` lies in the data folder. Each `ALTER SYSTEM` makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told(Option<[i128; 4]>);

impl Told {
    pub(super) fn look(data_dir: &Path) -> Self {
        let found = fs::metadata(data_dir.join(configuration::OWN)).ok();
        Self(found.map(|file| {
            [
                file.ino().into(),
                file.mtime().into(),
                file.mtime_nsec().into(),
                file.size().into(),
            ]
        }))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::time::Duration;

    use sentinel_core::id::Epoch;

    use super::super::durable;
    use super::*;

    #[test]
    fn a_mandate_ends_with_its_deadline_its_authority_or_another_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(configuration::OWN);
        fs::write(&path, "primary_conninfo = ''\n").unwrap();
        let token = |step| Token {
            epoch: Epoch(3),
            step,
        };
        let clock = Clock::new();
        let mandate = |deadline| Mandate {
            token: token(5),
            deadline,
            told: Told::look(folder.path()),
        };
        let given = mandate(Some(clock.now() + Duration::from_secs(600)));
        let holds = |mandate: &Mandate, highest| mandate.holds(highest, &clock, folder.path());
        assert_eq!(holds(&given, token(5)), Ok(()));
        assert!(
            holds(&given, token(6))
                .unwrap_err()
                .contains("came meanwhile")
        );
        let late = mandate(Some(clock.now()));
        assert_eq!(holds(&late, token(5)), Err(TOO_LATE.to_owned()));
        let policy = mandate(None);
        assert_eq!(holds(&policy, token(5)), Ok(()));
        // The same words, said again.
        durable::replace(&path, b"primary_conninfo = ''\n").unwrap();
        for overtaken in [given, policy] {
            assert!(
                holds(&overtaken, token(5))
                    .unwrap_err()
                    .contains("another order")
            );
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(holds(&mandate(None), token(5)), Ok(()));
    }
}
