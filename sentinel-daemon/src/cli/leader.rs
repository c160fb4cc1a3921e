//! Follows the leader: who answers `status`, the asked node or the leader that it names.
//!
//! Blockers, verdicts and the age of every voter are the leader's knowledge alone. A stale node has lost its leader and
//! answers for itself: that it is cut off is what there is to say of it. One hop, never two.

use sentinel_core::id::NodeName;

use crate::api::{ServiceJson, ServicesJson, StatusJson};
use crate::client::{Client, ClientError};
use crate::output;

/// What one node tells.
#[derive(Debug)]
pub(super) struct Told {
    /// The node, and the voters as it sees them.
    pub(super) status: StatusJson,
    /// The services as it sees them.
    pub(super) services: Vec<ServiceJson>,
}

/// Why the leader is not heard.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("no leader is known")]
    Nobody,
    #[error("leader {0} announced no HTTP address")]
    NoAddress(NodeName),
    #[error("leader {0} gave no answer: {1}")]
    Unanswered(NodeName, ClientError),
    #[error("{0} leads no longer")]
    Deposed(NodeName),
}

/// The leader's answer, or that of the asked node with a hint on what it lacks. Also says which node was asked.
pub(super) fn hear(
    client: &Client,
    service: Option<&str>,
) -> Result<(NodeName, Told), ClientError> {
    let status: StatusJson = client.get("/v1/status")?;
    let asked = status.node.clone();
    if status.freshness.stale || status.leader.as_ref() == Some(&asked) {
        let services = services(client, service)?;
        return Ok((asked, Told { status, services }));
    }
    let unheard = match from_leader(&status, service) {
        Ok(told) => return Ok((asked, told)),
        Err(unheard) => unheard,
    };
    let services = services(client, service)?;
    output::note(&format!(
        "hint: {unheard}; what follows is from {asked}, and what would block a failover is the leader's knowledge alone"
    ));
    Ok((asked, Told { status, services }))
}

fn from_leader(asked: &StatusJson, service: Option<&str>) -> Result<Told, Unheard> {
    let leader = asked.leader.as_ref().ok_or(Unheard::Nobody)?;
    let address = asked
        .leader_http
        .clone()
        .ok_or_else(|| Unheard::NoAddress(leader.clone()))?;
    let client = Client::new(address);
    let unanswered = |error| Unheard::Unanswered(leader.clone(), error);
    let status: StatusJson = client.get("/v1/status").map_err(unanswered)?;
    if status.leader.as_ref() != Some(&status.node) {
        return Err(Unheard::Deposed(leader.clone()));
    }
    let services = services(&client, service).map_err(unanswered)?;
    Ok(Told { status, services })
}

/// One service, or all.
pub(super) fn services(
    client: &Client,
    service: Option<&str>,
) -> Result<Vec<ServiceJson>, ClientError> {
    Ok(match service {
        Some(service) => vec![client.get(&format!("/v1/services/{service}"))?],
        None => client.get::<ServicesJson>("/v1/services")?.services,
    })
}
