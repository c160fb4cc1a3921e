//! Makes things durable without stopping the runtime's threads.

use crate::peer::Persist;

use super::log_file::{LogError, RaftFile};

/// The log file of a voter; an observer has none.
#[derive(Debug)]
pub(super) struct Storage {
    file: Option<RaftFile>,
}

impl Storage {
    pub(super) fn new(file: Option<RaftFile>) -> Self {
        Self { file }
    }

    /// Returns once `persist` is durable. When the disk did not confirm it, this process ends here: what the
    /// machine has said since its last record may rest on something that was never stored.
    pub(super) async fn append(&mut self, persist: Persist) -> Result<(), LogError> {
        let mut file = self
            .file
            .take()
            .expect("only a voter persists, and a log that failed has ended its driver");
        let append = tokio::task::spawn_blocking(move || {
            let result = file.append(&persist);
            (file, result)
        });
        let (file, result) = match append.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if let Err(error @ LogError::Sync { .. }) = &result {
            tracing::error!("{error}");
            std::process::abort();
        }
        result?;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::peer::HardState;
    use crate::runtime::log_file::{DataFolder, unconfirming};

    const DOOMED: &str = "SENTINEL_TEST_DOOMED_FOLDER";

    /// Runs itself again in a process that may die.
    #[test]
    fn an_unconfirmed_write_ends_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let doomed = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "runtime::storage::tests::doomed", "--nocapture"])
            .env(DOOMED, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(
            doomed.signal(),
            Some(rustix::process::Signal::ABORT.as_raw()),
            "{doomed}"
        );
    }

    /// Does nothing unless it runs in the process that may die.
    #[test]
    fn doomed() {
        let Some(folder) = std::env::var_os(DOOMED) else {
            return;
        };
        let data = DataFolder::open(folder.as_ref()).unwrap();
        let (file, _reader) = unconfirming(&data);
        let persist = Persist {
            hard_state: Some(HardState::default()),
            ..Persist::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let result = runtime.block_on(Storage::new(Some(file)).append(persist));
        panic!("still alive with {result:?}");
    }
}
