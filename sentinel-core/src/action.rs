//! Actions: what the leader orders an adapter to do to one instance, and what came of it.
//!
//! Every action carries the fencing token, an id and a deadline, is idempotent, and is read back.
//! An adapter checks the deadline again on a connection that stands, before the first byte, and in
//! the same transaction closes every other administrative connection to the instance (rule S6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ActionId, Incarnation, InstanceId, Member, ServiceName, Token};
use crate::observation::{Facts, WriteQuorum};
use crate::position::Position;
use crate::time::Deadline;

/// One order to one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Comes back with the outcome.
    pub id: ActionId,
    /// The service to which the instance belongs.
    pub service: ServiceName,
    /// The instance to act upon.
    pub instance: InstanceId,
    /// Fencing token of the commit that authorised the action.
    pub token: Token,
    /// After this instant the action must not begin, and one that has begun is [`Outcome::Unknown`].
    pub deadline: Deadline,
    /// What to do.
    pub kind: ActionKind,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionKind {
    /// Stop receiving from anybody, keep the position and the lineage. On a primary: stop being one.
    /// Executed also when the instance is found frozen (rule S5).
    Freeze,
    /// The freeze of a server that cannot be frozen as a primary, carried out by its host: stop being one, and receive from
    /// nobody. Refused unless it is in this incarnation.
    StandDown {
        /// The incarnation that is trusted.
        life: Incarnation,
    },
    /// Receive from this primary again after an aborted failover.
    Unfreeze {
        /// The primary that stays.
        primary: InstanceId,
    },
    /// Put this write quorum in force on the primary, and cut its clients' connections.
    Configure {
        /// What to put in force.
        quorum: WriteQuorum,
    },
    /// Put this write quorum in force, read it back, then become primary.
    Promote {
        /// Refused unless this incarnation is read on the very connection that promotes (rule S4).
        expect: Member,
        /// Refused unless this position is read there too.
        position: Position,
        /// The write quorum of the new primary (rule S9).
        quorum: WriteQuorum,
    },
    /// Stop being a primary and receive from this one; first save what only this instance has.
    Demote {
        /// The authorised primary.
        primary: InstanceId,
    },
    /// Receive from this primary.
    Repoint {
        /// The authorised primary.
        primary: InstanceId,
    },
    /// Give up all data for a full copy of this primary's, whatever the two histories are called; first save what only
    /// this instance has. For an instance that may have begun a history under a name that another one bears (rule S12),
    /// and for one that is stranded.
    Rebuild {
        /// The authorised primary.
        primary: InstanceId,
        /// The incarnation whose data are given up. An instance that was rebuilt has another one, so that the order,
        /// given again, does nothing, and one that is meant for its new life does.
        life: Incarnation,
    },
    /// Take no more writes for a switchover, and say where the last one is. Ends by itself after this time at the
    /// latest, or by [`ActionKind::Resume`]. The facts of the outcome are the last that the primary had.
    Pause {
        /// How long at most.
        limit: Duration,
    },
    /// Take writes again after a switchover that was called off.
    Resume,
    /// Refuse writes with an error: too few replicas are there to acknowledge them.
    RefuseWrites,
    /// Take writes again: enough replicas are back.
    AcceptWrites,
}

impl ActionKind {
    /// One word for logs and reports.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::StandDown { .. } => "stand_down",
            Self::Unfreeze { .. } => "unfreeze",
            Self::Configure { .. } => "configure",
            Self::Promote { .. } => "promote",
            Self::Demote { .. } => "demote",
            Self::Repoint { .. } => "repoint",
            Self::Rebuild { .. } => "rebuild",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::RefuseWrites => "refuse_writes",
            Self::AcceptWrites => "accept_writes",
        }
    }

    /// Who carries it out.
    pub fn hand(&self) -> Hand {
        match self {
            Self::Repoint { .. }
            | Self::Demote { .. }
            | Self::Rebuild { .. }
            | Self::StandDown { .. }
            | Self::Pause { .. }
            | Self::Resume => Hand::Agent,
            Self::Freeze
            | Self::Unfreeze { .. }
            | Self::Configure { .. }
            | Self::Promote { .. }
            | Self::RefuseWrites
            | Self::AcceptWrites => Hand::Leader,
        }
    }
}

/// Who carries an action out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// The leader's own adapter, over the network: it must not wait for a host that may be gone.
    Leader,
    /// The agent on the instance's host, if there is one and it was heard lately; else the leader.
    Agent,
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Executed, and read back: these facts were read after it, on the same connection.
    Done(Box<Facts>),
    /// Not executed, for certain. The text names the cause and holds no secret.
    Refused(String),
    /// Begun, and goes on by itself: the same order, given again, tells how it stands. The text is for people.
    UnderWay(String),
    /// Executed or not: nobody knows. Resolved by reading, never assumed to have failed.
    Unknown(String),
}
