//! A command that did not do what it was asked: what happened, what to do, and the exit code.
//!
//! Written as `error: …`, then the offending line of a file if there is one, then `hint: …`.

use crate::api::ErrorJson;
use crate::client::ClientError;
use crate::exit::ExitCode;
use crate::output;
use crate::run::RunError;
use crate::settings::SettingsFailure;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, and what to do in short.
    pub error: String,
    /// The offending line of a file.
    pub line: Option<String>,
    /// What to do.
    pub hint: String,
    /// What the shell sees.
    pub code: ExitCode,
}

impl Failure {
    /// A failure without a line to show.
    pub fn new(code: ExitCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            line: None,
            hint: hint.into(),
            code,
        }
    }

    /// Tells the user.
    pub fn report(&self) {
        output::note(&format!("error: {}", self.error));
        if let Some(line) = &self.line {
            output::note(line);
        }
        output::note(&format!("hint: {}", self.hint));
    }
}

impl From<SettingsFailure> for Failure {
    fn from(failure: SettingsFailure) -> Self {
        Self {
            line: failure
                .line
                .as_ref()
                .map(|line| format!("{:5} | {}", line.number, line.text)),
            ..Self::new(
                ExitCode::Usage,
                failure.to_string(),
                format!(
                    "then try `sentinel check --config {}`; sentinel.example.toml explains every field",
                    failure.file.display()
                ),
            )
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Address { .. } => Self::new(
                ExitCode::Usage,
                error.to_string(),
                "write it as http://HOST:PORT, as in the node's listen.http",
            ),
            ClientError::Unreachable { .. } => Self::new(
                ExitCode::NoQuorum,
                error.to_string(),
                "`sentinel run --config FILE` starts a node; SENTINEL_NODE and --node take http://HOST:PORT",
            ),
            ClientError::Foreign { .. } => Self::new(
                ExitCode::NoQuorum,
                error.to_string(),
                "is this the node's HTTP address (listen.http), and the same version as this command?",
            ),
            ClientError::Refused { status, answer } => {
                let code = match (status, answer.code.as_deref()) {
                    (_, Some("not_leader")) => ExitCode::NoQuorum,
                    (401 | 403 | 404, _) => ExitCode::Usage,
                    (409, _) if is_nobody_fit(&answer) => ExitCode::NoPrimary,
                    (503, None) => ExitCode::NoPrimary,
                    _other => ExitCode::Failed,
                };
                Self::new(code, answer.error, answer.hint)
            }
        }
    }
}

/// Whether it was refused because nobody could take over.
fn is_nobody_fit(answer: &ErrorJson) -> bool {
    answer
        .reasons
        .iter()
        .any(|reason| reason.code == "no_candidate")
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let hint = match &error {
            RunError::Bind(bind) => format!(
                "`ss -ltnp 'sport = :{}'` shows who has the port",
                bind.address.port()
            ),
            RunError::System(_) => "`ulimit -a` shows the limits".to_owned(),
            RunError::Start(_) => {
                "nothing was started and nothing was changed; correct it and start again".to_owned()
            }
            RunError::Agent(_) => {
                "the server was not touched; correct it and start the node again".to_owned()
            }
            RunError::Node(_) => "what was durable is still there; start the node again".to_owned(),
        };
        Self::new(ExitCode::Failed, error.to_string(), hint)
    }
}
