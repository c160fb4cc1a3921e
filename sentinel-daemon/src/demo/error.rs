//! Why a demonstration did not come to its end, and the exit code and the hint that go with it.

use std::io;
use std::time::Duration;

use crate::cli::Failure;
use crate::client::ClientError;
use crate::exit::ExitCode;

/// Why a demonstration did not come to its end. Everything that it started has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// The server's programs are not to be found. Nothing of that engine was started.
    #[error("{what}, so there is nothing to guard")]
    NoServer {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Processes, ports, files or threads cannot be had.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process ended as soon as it was started.
    #[error("{what} ended right after its start:\n{log}")]
    Ended {
        /// Which one.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// Something did not happen in time.
    #[error("waited {} in vain until {what}{}", humantime::format_duration(*.bound), seen(.last))]
    InVain {
        /// What should have happened.
        what: String,
        /// For how long.
        bound: Duration,
        /// What was seen last; may be empty.
        last: String,
    },
    /// A server that should answer does not.
    #[error("{server} does not answer as it should: {source}")]
    Server {
        /// Which one.
        server: String,
        /// What the client said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The leader was asked for a switchover, and there was none.
    #[error("the switchover did not come about: {0}")]
    Order(ClientError),
    /// There is no fault in the instant of which the leader could be killed.
    #[error(
        "--with-leader goes with a fault, not with a switchover: the killed leader is the one that was asked"
    )]
    WithoutFault,
    /// The user asked for the end.
    #[error("interrupted; everything that was started has ended")]
    Interrupted,
}

fn seen(last: &str) -> String {
    if last.is_empty() {
        String::new()
    } else {
        format!("; last seen: {last}")
    }
}

/// Puts what was being done in front of what the system said.
pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> DemoError {
    let what = what.into();
    move |source| DemoError::System { what, source }
}

impl From<&DemoError> for Failure {
    fn from(error: &DemoError) -> Self {
        let (code, hint) = match error {
            DemoError::NoServer { remedy, .. } => (ExitCode::Usage, *remedy),
            DemoError::System { .. } => (
                ExitCode::Failed,
                "check free space in the temporary folder (TMPDIR) and `ulimit -a`",
            ),
            DemoError::Ended { .. } => (ExitCode::Failed, "the log above says why; try again"),
            DemoError::WithoutFault => (
                ExitCode::Usage,
                "leave --with-leader out, or choose --fault kill or hang",
            ),
            DemoError::Order(_) => (ExitCode::Failed, "the reason is above; try again"),
            DemoError::InVain { .. } | DemoError::Server { .. } => (
                ExitCode::Failed,
                "is the machine very busy? --stay leaves everything running to look at",
            ),
            DemoError::Interrupted => (ExitCode::Failed, "start it again"),
        };
        Self::new(code, error.to_string(), hint)
    }
}
