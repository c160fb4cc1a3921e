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
