//! `sentinel switchover SERVICE [--to HOST:PORT]`: orders it of the leader, shows the stages, and says how it ended.
//!
//! Follows the leader, also to a new one while nothing was granted yet. The token goes to a node only once that has
//! answered under the leader's name.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use sentinel_core::id::InstanceId;
use sentinel_core::reason::Reason;
use sentinel_core::runtime::Secret;

use super::age::age;
use super::args::{Format, SettingsArg};
use super::ask;
use super::failure::Failure;
use super::leader::{Unheard, Way};
use crate::api::{ErrorJson, ServiceJson, StatusJson, SwitchoverAskJson, SwitchoverJson};
use crate::client::{Client, ClientError};
use crate::exit::ExitCode;
use crate::output;
use crate::settings::{Settings, read_secret_file};

/// How long a leader that grants it is looked for: a few elections, or the end of another change.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the next look.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the stage is looked at while it goes on.
const STAGE_PACE: Duration = Duration::from_millis(50);

/// What is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) service: String,
    pub(super) to: Option<InstanceId>,
}

/// Where the token may come from.
#[derive(Debug)]
pub(super) struct TokenFrom {
    pub(super) file: Option<PathBuf>,
    pub(super) settings: SettingsArg,
}

pub(super) fn run(
    wanted: &Wanted,
    node: Option<&str>,
    token: &TokenFrom,
    format: Format,
) -> Result<ExitCode, Failure> {
    let service = ask::service_name(&wanted.service)?;
    let settings = ask::load(&token.settings)?;
    let secret = secret(token, settings.as_ref())?;
    let client = ask::client_of(node, settings.as_ref())?;
    let began = Instant::now();
    let answer = loop {
        let leader = match leader(&client) {
            Ok(leader) => leader,
            Err(NoLeader::Asked(error)) => return Err(error.into()),
            Err(NoLeader::Unheard(_)) if began.elapsed() < PATIENCE => {
                thread::sleep(PAUSE);
                continue;
            }
            Err(NoLeader::Unheard(unheard)) => return Err(without_leader(&client, &unheard)),
        };
        match order(&leader, service, wanted.to.as_ref(), &secret) {
            Err(ClientError::Refused { answer, .. })
                if is_early(&answer) && began.elapsed() < PATIENCE =>
            {
                thread::sleep(PAUSE);
            }
            answer => break answer?,
        }
    };
    match format {
        Format::Text => output::result(&line(&answer)),
        Format::Json => output::json(&answer),
    }
    if let Some(asked) = wanted.to.as_ref().filter(|asked| **asked != answer.to) {
        output::note(&format!(
            "warning: {asked} was lost on the way, and the failover went to another instance"
        ));
    }
    Ok(ExitCode::Done)
}

/// Whether it may be granted in a moment: somebody else begins to lead, or another change comes to its end.
fn is_early(answer: &ErrorJson) -> bool {
    let is_under_way = |reason: &Reason| reason.code == "not_steady";
    matches!(answer.code.as_deref(), Some("not_leader" | "moved_on"))
        || answer.reasons.iter().any(is_under_way)
}

fn secret(token: &TokenFrom, settings: Option<&Settings>) -> Result<Secret, Failure> {
    let hint =
        "it holds the same text as security.admin_token_file of the voters, and has mode 0600";
    if let Some(file) = &token.file {
        return read_secret_file(file).map_err(|error| {
            Failure::new(ExitCode::Usage, format!("--token-file: {error}"), hint)
        });
    }
    let named = settings.map(Settings::admin_token).transpose()?;
    named.flatten().ok_or_else(|| {
        let error = "an order needs the admin token: give --token-file, or --config with a file that sets \
                     security.admin_token_file";
        Failure::new(ExitCode::Usage, error, hint)
    })
}

/// Why there is nobody to order it of.
#[derive(Debug)]
enum NoLeader {
    /// The asked node itself does not answer.
    Asked(ClientError),
    /// It knows of no leader that can be asked.
    Unheard(Unheard),
}

fn leader(asked: &Client) -> Result<Client, NoLeader> {
    let status: StatusJson = asked.get("/v1/status").map_err(NoLeader::Asked)?;
    if status.leader.as_ref() == Some(&status.node) {
        return Ok(Client::new(asked.node().clone()));
    }
    let heard = status.leader.as_ref().filter(|_| !status.freshness.stale);
    let way = Way::to(heard, status.leader_http.as_ref()).map_err(NoLeader::Unheard)?;
    let found: StatusJson = way.get("/v1/status").map_err(NoLeader::Unheard)?;
    way.is_the_end(&found.node).map_err(NoLeader::Unheard)?;
    Ok(way.into_client())
}

fn without_leader(asked: &Client, unheard: &Unheard) -> Failure {
    Failure::new(
        ExitCode::NoQuorum,
        format!("node {} cannot pass the order on: {unheard}", asked.node()),
        "nothing was changed; `sentinel status` shows the voters, and --node names the leader itself",
    )
}

/// Orders it, and shows its stages while it goes on.
fn order(
    leader: &Client,
    service: &str,
    to: Option<&InstanceId>,
    token: &Secret,
) -> Result<SwitchoverJson, ClientError> {
    let ask = SwitchoverAskJson { to: to.cloned() };
    let path = format!("/v1/services/{service}/switchover");
    thread::scope(|scope| {
        let (over, end) = mpsc::channel::<()>();
        scope.spawn(move || show_stages(leader, service, &end));
        let answer = leader.post(&path, token, &ask);
        drop(over);
        answer
    })
}

fn show_stages(leader: &Client, service: &str, end: &mpsc::Receiver<()>) {
    let path = format!("/v1/services/{service}");
    let mut shown = String::from("steady");
    while end.recv_timeout(STAGE_PACE) == Err(RecvTimeoutError::Timeout) {
        let Ok(seen) = leader.get::<ServiceJson>(&path) else {
            continue;
        };
        if seen.stage == shown {
            continue;
        }
        let target = seen.target.map_or(String::new(), |to| format!(" {to}"));
        output::note(&format!("{service}: {}{target}", seen.stage));
        shown = seen.stage;
    }
}

fn line(answer: &SwitchoverJson) -> String {
    let was = match &answer.from {
        Some(from) => format!(" (was {from})"),
        None => String::new(),
    };
    format!(
        "{}: {} is primary{was}, epoch {}, after {}",
        answer.service,
        answer.to,
        answer.epoch,
        age(answer.took_ms)
    )
}
