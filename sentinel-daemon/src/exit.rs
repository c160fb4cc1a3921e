//! Exit codes of the `sentinel` command, all of them, in one place.
//!
//! Scripts depend on them: a code never changes its meaning.

use std::process;

/// What a command ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done as asked.
    Done,
    /// Failed for a reason that none of the others names: a port in use, a damaged data folder,
    /// an instance that cannot be guarded.
    Failed,
    /// The command line or the settings file is wrong, or names a service that there is not; nothing was started.
    Usage,
    /// The node cannot be reached, or it has lost the quorum of voters, so that its answer may be out of date.
    NoQuorum,
    /// There is no primary, or nothing that could be promoted.
    NoPrimary,
    /// A write that had been acknowledged was lost. Of the demonstration and the simulator only.
    WriteLost,
}

impl ExitCode {
    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoQuorum => 3,
            Self::NoPrimary => 4,
            Self::WriteLost => 5,
        }
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}
