//! `sentinel explain SERVICE`: the newest decisions with their reasons, and why the leader does what it does, or nothing.
//!
//! Follows the leader, which alone has the report; where it cannot be reached, shows what the asked node knows and says so.

use super::age::age;
use super::args::{Format, SettingsArg};
use super::ask;
use super::failure::Failure;
use super::leader::{Unheard, Way};
use crate::api::ExplainJson;
use crate::exit::ExitCode;
use crate::output;

pub(super) fn run(
    service: &str,
    node: Option<&str>,
    settings: &SettingsArg,
    format: Format,
) -> Result<ExitCode, Failure> {
    let service = ask::service_name(service)?;
    let path = format!("/v1/services/{service}/explain");
    let client = ask::client(node, settings)?;
    let answer = from_leader(client.get(&path)?, &path);
    match format {
        Format::Text => lines(&answer).iter().for_each(|line| output::result(line)),
        Format::Json => output::json(&answer),
    }
    if answer.freshness.stale {
        output::note(
            "hint: no leader is heard, so nothing is being decided; `sentinel status` shows the voters",
        );
        return Ok(ExitCode::NoQuorum);
    }
    Ok(ExitCode::Done)
}

fn from_leader(answer: ExplainJson, path: &str) -> ExplainJson {
    if answer.leader.is_none() || answer.leader.as_ref() == Some(&answer.node) {
        return answer;
    }
    let ask = || -> Result<ExplainJson, Unheard> {
        let way = Way::to(answer.leader.as_ref(), answer.leader_http.as_ref())?;
        let from_leader: ExplainJson = way.get(path)?;
        way.is_the_end(&from_leader.node)?;
        Ok(from_leader)
    };
    match ask() {
        Ok(from_leader) => from_leader,
        Err(unheard) => {
            output::note(&format!(
                "hint: the leader's report is missing, because {unheard}; what follows is from {}",
                answer.node
            ));
            answer
        }
    }
}

fn lines(answer: &ExplainJson) -> Vec<String> {
    let leader = match &answer.leader {
        Some(leader) => format!("leader {leader}"),
        None => "no leader".to_owned(),
    };
    let mut lines = vec![format!(
        "{}: {}, {leader}, told by {}{}",
        answer.service,
        answer.stage,
        answer.node,
        match (answer.freshness.stale, answer.freshness.as_of_ms) {
            (false, _) => String::new(),
            (true, Some(milliseconds)) => format!(", stale for {}", age(milliseconds)),
            (true, None) => ", stale".to_owned(),
        }
    )];
    lines.push("now:".to_owned());
    if answer.report.is_empty() {
        lines.push("  nothing to do".to_owned());
    }
    lines.extend(
        answer
            .report
            .iter()
            .map(|reason| format!("  {reason} [{}]", reason.code)),
    );
    if !answer.blockers.is_empty() {
        lines.push("the next failover would block:".to_owned());
        lines.extend(
            answer
                .blockers
                .iter()
                .map(|reason| format!("  {reason} [{}]", reason.code)),
        );
    }
    lines.push("decisions, newest first:".to_owned());
    if answer.decisions.is_empty() {
        lines.push("  none".to_owned());
    }
    for decision in answer.decisions.iter().rev() {
        lines.push(format!(
            "  epoch {} step {} term {}: {}",
            decision.epoch, decision.step, decision.term, decision.decision
        ));
        lines.extend(
            decision
                .reasons
                .iter()
                .map(|reason| format!("    {reason}")),
        );
    }
    lines
}
