//! Follows the leader: whether the asked node answers, or the leader that it names.
//!
//! Blockers, verdicts and the age of every voter are the leader's knowledge alone. A stale node has lost its leader and
//! answers for itself: that it is cut off is what there is to say of it. One hop, never two.

use sentinel_core::id::{InstanceId, NodeName};
use serde::de::DeserializeOwned;

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
pub(super) enum Unheard {
    #[error("no leader is known")]
    Nobody,
    #[error("leader {0} announced no HTTP address")]
    NoAddress(NodeName),
    #[error("leader {0} gave no answer: {1}")]
    Unanswered(NodeName, ClientError),
    #[error(
        "leader {leader} is announced at {address}, where {found} answers: set node.announce_http on {leader} to an address that others reach"
    )]
    SomebodyElse {
        leader: NodeName,
        address: InstanceId,
        found: NodeName,
    },
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
    let way = Way::to(asked.leader.as_ref(), asked.leader_http.as_ref())?;
    let status: StatusJson = way.get("/v1/status")?;
    way.is_the_end(&status.node)?;
    if status.leader.as_ref() != Some(&status.node) {
        return Err(Unheard::Deposed(status.node));
    }
    let services = services(&way.client, service).map_err(|error| way.unanswered(error))?;
    Ok(Told { status, services })
}

/// The way to the leader that an asked node names.
#[derive(Debug)]
pub(super) struct Way {
    leader: NodeName,
    client: Client,
}

impl Way {
    pub(super) fn to(
        leader: Option<&NodeName>,
        address: Option<&InstanceId>,
    ) -> Result<Self, Unheard> {
        let leader = leader.ok_or(Unheard::Nobody)?.clone();
        match address {
            Some(address) => Ok(Self {
                leader,
                client: Client::new(address.clone()),
            }),
            None => Err(Unheard::NoAddress(leader)),
        }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Unheard> {
        self.client
            .get(path)
            .map_err(|error| self.unanswered(error))
    }

    /// To ask it more.
    pub(super) fn into_client(self) -> Client {
        self.client
    }

    /// Refuses the answer of another node: a leader that announces loopback is, from another host, whoever is there.
    pub(super) fn is_the_end(&self, found: &NodeName) -> Result<(), Unheard> {
        if *found == self.leader {
            return Ok(());
        }
        Err(Unheard::SomebodyElse {
            leader: self.leader.clone(),
            address: self.client.node().clone(),
            found: found.clone(),
        })
    }

    fn unanswered(&self, error: ClientError) -> Unheard {
        Unheard::Unanswered(self.leader.clone(), error)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_answers_in_the_place_of_the_leader_is_not_believed() {
        let (leader, address) = (NodeName::new("s2"), InstanceId::new("127.0.0.1", 26381));
        let way = Way::to(Some(&leader), Some(&address)).expect("a leader with an address");
        assert!(way.is_the_end(&leader).is_ok());
        let found = way
            .is_the_end(&NodeName::new("s1"))
            .map_err(|error| error.to_string());
        let text = "leader s2 is announced at 127.0.0.1:26381, where s1 answers: \
                    set node.announce_http on s2 to an address that others reach";
        assert_eq!(found, Err(text.to_owned()));
    }
}
