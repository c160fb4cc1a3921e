//! Why a health path says no, in sentences that an operator reads in the body of the 503.
//!
//! Knows no path and decides nothing.

use sentinel_core::id::{InstanceId, ServiceName};

use super::local::Reach;

/// Why the answer is no. It is nobody's fault, and nothing was changed by asking.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The settings of the agent name a service that nobody guards, or that this node has not heard of yet.
    #[error("service `{0}` is not in the committed table of this node")]
    NoService(ServiceName),
    /// Whoever is primary may have changed meanwhile.
    #[error("no leader was heard {}, so nobody here knows whether the primary has changed",
        .0.map_or("since this node was started".to_owned(), |ms| format!("for {ms} ms")))]
    Stale(Option<u64>),
    /// There is another one, or none.
    #[error("{instance} is not the primary: {}", primary.as_ref()
        .map_or("none was adopted yet".to_owned(), |primary| format!("{primary} is")))]
    NotPrimary {
        /// The one that was asked about.
        instance: InstanceId,
        /// The primary.
        primary: Option<InstanceId>,
    },
    /// A failover has taken its authority away, and has not come to its end.
    #[error("{0} was the primary, and another one is being promoted")]
    Deposed(InstanceId),
    /// It was restarted with other data, or rebuilt.
    #[error("{0} is back in another life than the one that was made primary")]
    OtherIncarnation(InstanceId),
    /// The table names it, and it does not know.
    #[error("{0} is the primary, and says that it is a replica")]
    SaysReplica(InstanceId),
    /// It says that it is a primary.
    #[error("{0} says that it is a primary, so it is no replica")]
    SaysPrimary(InstanceId),
    /// Its data are not whole.
    #[error("{0} has no whole copy of the data yet")]
    NotSynced(InstanceId),
    /// Its process has ended.
    #[error("{0} does not run")]
    Stopped(InstanceId),
    /// It is down for this node.
    #[error("{0} is down ({1})")]
    Down(InstanceId, String),
    /// It has never answered this node.
    #[error("{0} has not answered this node yet")]
    NeverSeen(InstanceId),
    /// Nothing new came in.
    #[error("{instance} was last seen {ms} ms ago")]
    SeenLongAgo {
        /// Who.
        instance: InstanceId,
        /// When.
        ms: u64,
    },
    /// Writes are acknowledged without it.
    #[error("{0} does not hold every acknowledged write: its acknowledgement does not count")]
    NotInWriteQuorum(InstanceId),
    /// Writes may be acknowledged without it.
    #[error("{0} may miss an acknowledged write: others can acknowledge without it")]
    NotInEveryWrite(InstanceId),
    /// Writes wait for it, or for its like.
    #[error("{0} is not asynchronous: its acknowledgement counts")]
    InWriteQuorum(InstanceId),
    /// The state of its replication is another one.
    #[error("the replication of {instance} is {}, and not `{wanted}`", state.unwrap_or("not streaming"))]
    OtherState {
        /// Who.
        instance: InstanceId,
        /// As it is.
        state: Option<&'static str>,
        /// As it was asked for.
        wanted: String,
    },
    /// It is too far behind.
    #[error("{instance} has yet to {} {lag_bytes} bytes, and {lag_bytes_max} were allowed", match reach {
        Reach::Replayed => "replay",
        Reach::Received => "receive",
    })]
    Lags {
        /// Who.
        instance: InstanceId,
        /// What is counted.
        reach: Reach,
        /// How far.
        lag_bytes: u64,
        /// The limit.
        lag_bytes_max: u64,
    },
    /// Its position and the primary's do not compare, or one of them is not known.
    #[error("how far {0} is behind the primary is not known")]
    LagUnknown(InstanceId),
    /// Instances have no tags here.
    #[error("{0} has no tags, so none of them is `{1}`")]
    NoTags(InstanceId, String),
    /// Nothing here follows another cluster.
    #[error("{0} is no leader of a standby cluster, and there are none in this version")]
    NoStandbyClusters(InstanceId),
}
