//! Says how a write failed, and with each failure what it left behind on the servers.
//!
//! Every variant has exactly one [`Fate`]. Which reply of a server leads to which variant is
//! decided in `fate`; nothing here looks at replies.

use std::time::Duration;

use redis::ServerError;
use sentinel_core::id::InstanceId;

/// What a failed write left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing. It was not executed anywhere and never will be; trying again is safe.
    NotExecuted,
    /// The primary executed it, but too few named replicas hold it: it may survive or be lost.
    Unprotected,
    /// Either of the two, or executed and protected with the proof lost. Read before trying again,
    /// unless the write is idempotent.
    Unknown,
}

/// Why a write was not acknowledged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// The primary executed the write, and at the last count fewer than `needed` members of the write
    /// quorum held it. It is visible to readers of the primary, and may survive a failover or be lost in
    /// one. Trying again executes it a second time.
    #[error(
        "{acked} of {needed} needed replicas hold the write: the primary executed it, but a failover may lose it; restore the replicas that the write quorum names, then read the key before trying again"
    )]
    NotEnoughReplicas {
        /// Members of the write quorum that held it.
        acked: u32,
        /// How many had to.
        needed: u32,
    },
    /// Bytes of the write were sent and no proof came back. It may have been executed or not, and may be
    /// on the new primary or not. Read it on the current primary before trying again.
    #[error(
        "the fate of the write is unknown, {cause}; read the key on the current primary before trying again"
    )]
    Unknown {
        /// What kept the proof from coming.
        cause: UnknownCause,
    },
    /// The primary answered with an error that it gives before it executes anything. Nothing is left
    /// behind; whether trying again helps depends on the error (`READONLY` and `NOREPLICAS` pass with the
    /// failover that causes them, `WRONGTYPE` does not).
    #[error("the primary rejected the write, which is not executed: {}", crate::connection::reply_text(.0))]
    Rejected(ServerError),
    /// No primary took the write within [`Timeouts::unsent`](crate::guard::Timeouts::unsent). Nothing was
    /// sent; trying again is safe.
    #[error("no primary took the write within {waited:?}, and nothing was sent: {cause}")]
    NoPrimary {
        /// How long the write waited.
        waited: Duration,
        /// What the last attempt to reach a primary ended in.
        cause: Trouble,
    },
    /// The primary does not say whose acknowledgement counts, so that no write can be acknowledged.
    /// Nothing was sent; trying again is safe, and helps once the coordinator has adopted the service.
    #[error("{instance} cannot acknowledge any write, and nothing was sent: {fault}")]
    NoWriteQuorum {
        /// The primary.
        instance: InstanceId,
        /// What is wrong with its record.
        fault: QuorumFault,
    },
    /// As many writes are in flight as the options allow, and none ended in time. Nothing was sent.
    #[error(
        "{in_flight_max} writes are in flight and none ended in time; nothing was sent: send fewer at once, or raise in_flight_max"
    )]
    Overloaded {
        /// The limit that was reached.
        in_flight_max: usize,
    },
    /// The command would break the connection that all writes share. Nothing was sent; send it on a
    /// connection of your own.
    #[error("`{command}` cannot go through the write guard, and nothing was sent: {why}")]
    NotAllowed {
        /// Name of the command.
        command: String,
        /// What it would break.
        why: NotAllowed,
    },
}

/// What kept the proof of a write from coming.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnknownCause {
    /// The connection broke after bytes of the write were sent.
    #[error("the connection broke before the proof came ({0})")]
    ConnectionLost(String),
    /// The primary was silent for longer than the write may take.
    #[error("the primary was silent for {0:?}")]
    Silent(Duration),
    /// The source of addresses named another primary while the write waited.
    #[error("the primary moved to {0} while the write waited")]
    PrimaryMoved(InstanceId),
    /// The server was no primary when it was asked behind the write.
    #[error("the server was demoted behind the write")]
    Demoted,
    /// The server restarted behind the connection, for instance behind a proxy.
    #[error("the server's run id is another than at connect")]
    RunIdChanged,
    /// The server's history is another than at connect, so that offsets do not compare.
    #[error("the primary's replication id is another than at connect")]
    ReplicationIdChanged,
    /// Others count than those that were read at connect.
    #[error("the write quorum is another than at connect")]
    QuorumChanged,
    /// The server answered something that cannot be understood.
    #[error("the primary's answer cannot be read ({0})")]
    Garbled(String),
    /// The server answered with an error that does not say whether something was executed, as scripts and
    /// modules do.
    #[error("the reply does not say whether a part was executed: {}", crate::connection::reply_text(.0))]
    Ambiguous(ServerError),
    /// The guard's own task ended, because its runtime shut down.
    #[error("the write guard stopped")]
    Stopped,
}

/// Why no primary could be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No attempt has ended yet.
    #[error("no attempt to reach a primary has ended yet")]
    NotTried,
    /// The source of addresses names none.
    #[error("no primary is known for the service; ask `sentinel explain` why")]
    Unnamed,
    /// No Sentinel endpoint answered; the text names the last one and what it did.
    #[error("no Sentinel endpoint answered ({0}); check their addresses")]
    NoEndpoint(String),
    /// The named primary could not be connected to.
    #[error("{instance} cannot be reached ({detail})")]
    Unreachable {
        /// The primary that was named.
        instance: InstanceId,
        /// What happened.
        detail: String,
    },
    /// The named primary is none.
    #[error("{0} is not a primary; the source of addresses is out of date")]
    NotPrimary(InstanceId),
    /// It refused the credentials, or a command that the guard needs.
    #[error(
        "{instance} refused the guard ({detail}); check user and password, and allow +info +role +wait +acl|getuser"
    )]
    Refused {
        /// The primary that was named.
        instance: InstanceId,
        /// The server's error.
        detail: String,
    },
    /// It answered something that cannot be understood.
    #[error("{instance} answered something that cannot be read ({detail})")]
    Garbled {
        /// The primary that was named.
        instance: InstanceId,
        /// What it was.
        detail: String,
    },
    /// The connection stood and ended before the write was sent on it.
    #[error("the connection to {instance} ended ({cause})")]
    Ended {
        /// The primary.
        instance: InstanceId,
        /// Why it ended.
        cause: String,
    },
}

/// What is wrong with the record of the write quorum on a primary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumFault {
    /// There is none.
    #[error(
        "it carries no record of a write quorum; the coordinator writes it when it adopts the service"
    )]
    Missing,
    /// It names fewer members than must hold a write.
    #[error("its write quorum needs {needed} replicas and names {named}; add replicas")]
    TooFewMembers {
        /// How many must hold a write.
        needed: u32,
        /// How many are named.
        named: u32,
    },
    /// It cannot be understood.
    #[error("its record of the write quorum cannot be read ({0})")]
    Unreadable(String),
}

/// What a command would break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// It changes the session that all writes share, or ends it.
    #[error("it changes the connection that all writes share")]
    Session,
    /// It may block, and everything behind it with it.
    #[error("it may block the connection that all writes share")]
    Blocking,
    /// A transaction that does not begin with `MULTI` and end with `EXEC` within one call.
    #[error("a transaction must be given whole, MULTI first and EXEC last")]
    TornTransaction,
    /// There is no command at all.
    #[error("there is nothing to write")]
    Empty,
}

impl WriteError {
    /// What the failed write left behind.
    pub fn fate(&self) -> Fate {
        match self {
            Self::NotEnoughReplicas { .. } => Fate::Unprotected,
            Self::Unknown { .. } => Fate::Unknown,
            Self::Rejected(_)
            | Self::NoPrimary { .. }
            | Self::NoWriteQuorum { .. }
            | Self::Overloaded { .. }
            | Self::NotAllowed { .. } => Fate::NotExecuted,
        }
    }
}
