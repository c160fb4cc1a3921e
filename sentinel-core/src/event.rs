//! Events: what is told to operators and to subscribed clients, one per change of state.
//!
//! An event is a statement of fact with fields; its wording is the business of whoever shows it.

use serde::{Deserialize, Serialize};

use crate::detector::Evidence;
use crate::id::{Epoch, InstanceId, NodeName, ServiceName, Token};

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The service that it concerns.
    pub service: ServiceName,
    /// Token of the service when it happened.
    pub token: Token,
    /// The service's primary in the discovery table when it happened, if any.
    pub primary: Option<InstanceId>,
    /// What changed.
    pub kind: EventKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    /// The service is guarded from here on.
    ServiceAdded,
    /// A first primary was adopted.
    PrimaryAdopted { instance: InstanceId },
    /// An instance was found.
    InstanceDiscovered { instance: InstanceId },
    /// This node thinks that an instance is down (Redis: SDOWN).
    InstanceDown {
        instance: InstanceId,
        evidence: Evidence,
    },
    /// This node sees it again.
    InstanceUp { instance: InstanceId },
    /// An instance started anew.
    InstanceRestarted { instance: InstanceId },
    /// A quorum of voters thinks that the primary is down (Redis: ODOWN). Told by the leader.
    PrimaryDown {
        instance: InstanceId,
        witnesses: Vec<NodeName>,
        quorum: u32,
    },
    /// It no longer does.
    PrimaryDownRevoked { instance: InstanceId },
    /// An operator wants another primary: its writes are about to be paused.
    SwitchoverStarted { target: InstanceId },
    /// The switchover was given up, and the primary stays.
    SwitchoverCalledOff { reason: String },
    /// A failover began: the commit to freeze.
    FailoverStarted { epoch: Epoch },
    /// The instance to promote was committed.
    TargetSelected { instance: InstanceId },
    /// The target was seen as primary; discovery answers it from here on.
    PrimarySwitched {
        from: Option<InstanceId>,
        to: InstanceId,
    },
    /// A replica cannot go on from its upstream, because what follows its own position is gone there.
    InstanceStranded { instance: InstanceId },
    /// A replica was ordered to be copied anew from the primary.
    RebuildSent { instance: InstanceId },
    /// A replica was ordered to follow the new primary.
    RepointSent { instance: InstanceId },
    /// A replica follows the new primary.
    RepointDone { instance: InstanceId },
    /// An instance that claimed to be primary was made a replica.
    Demoted { instance: InstanceId },
    /// What only this instance had was kept before it was made a replica: how much, from where to where, and in which
    /// folder.
    DivergedKept { instance: InstanceId, what: String },
    /// The failover is complete: the new primary takes writes.
    FailoverEnded,
    /// The failover was given up, and the old primary stays.
    FailoverAborted { reason: String },
    /// A replica entered the write quorum.
    Admitted { instance: InstanceId },
    /// A replica left the write quorum.
    Excluded { instance: InstanceId },
    /// A member's new incarnation was accepted.
    Readmitted { instance: InstanceId },
    /// Something that should be impossible, with the reasoning.
    Alarm { text: String },
}
