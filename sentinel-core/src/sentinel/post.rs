//! What a node keeps of one service besides the committed state: all of it soft.

use std::sync::Arc;

use crate::discovery::ServiceView;
use crate::failover::Desk;
use crate::id::Member;
use crate::monitor::Monitor;
use crate::peer::OpinionState;
use crate::reason::Reason;
use crate::time::Instant;
use crate::vote::{Ballot, Verdict};

/// One service at one node.
#[derive(Debug)]
pub(super) struct Post {
    /// Watches the instances.
    pub(super) monitor: Monitor,
    /// Collects opinions; complete on the leader only.
    pub(super) ballot: Ballot,
    /// Orders under way, while this node leads.
    pub(super) desk: Option<Desk>,
    /// The primary of which opinions speak, and since when this node knows that it is the primary.
    pub(super) authority: Option<(Member, Instant)>,
    /// What was last told to the leader, and when.
    pub(super) told: Option<(OpinionState, Instant)>,
    /// The newest verdict, on the leader.
    pub(super) verdict: Option<Verdict>,
    /// Why the leader does what it does.
    pub(super) report: Vec<Reason>,
    /// What is shown.
    pub(super) view: Option<Arc<ServiceView>>,
    /// Something shown has changed.
    pub(super) view_stale: bool,
}

impl Post {
    pub(super) fn new() -> Self {
        Self {
            monitor: Monitor::default(),
            ballot: Ballot::default(),
            desk: None,
            authority: None,
            told: None,
            verdict: None,
            report: Vec::new(),
            view: None,
            view_stale: true,
        }
    }
}
