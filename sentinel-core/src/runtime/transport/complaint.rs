//! Warnings about peers: one line each, and not the same line again and again.
//!
//! Decides from the peer (or a stranger's address), the kind of error and the time. Does not know connections: the two
//! between a pair of voters break together, and are one complaint.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::Discriminant;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::id::NodeName;
use crate::runtime::Clock;
use crate::time::Instant;

use super::error::PeerError;

/// The same complaint about the same peer or stranger is made once in so long.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// Peers and addresses that are remembered; a stranger with many addresses must not fill the memory.
const REMEMBERED_MAX: usize = 256;
const LISTENERS_LAG_MAX: usize = 64;

/// Why a connection with somebody came to its end.
#[derive(Debug)]
pub struct Complaint {
    /// The address, without a port for somebody who connected to us.
    pub address: String,
    /// The peer, as far as it is known: who was called, or who proved the key.
    pub peer: Option<NodeName>,
    /// What happened.
    pub error: PeerError,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "peer {peer} at {}: {}", self.address, self.error),
            None => write!(f, "peer at {}: {}", self.address, self.error),
        }
    }
}

/// When which kinds of complaint were last made about somebody.
type Made = Vec<(Discriminant<PeerError>, Instant)>;

/// Where complaints go.
#[derive(Debug)]
pub(super) struct Complaints {
    clock: Clock,
    made: Mutex<BTreeMap<String, Made>>,
    heard_by: broadcast::Sender<Arc<Complaint>>,
}

impl Complaints {
    pub(super) fn new(clock: Clock) -> Self {
        let (heard_by, _) = broadcast::channel(LISTENERS_LAG_MAX);
        Self {
            clock,
            made: Mutex::default(),
            heard_by,
        }
    }

    pub(super) fn listen(&self) -> broadcast::Receiver<Arc<Complaint>> {
        self.heard_by.subscribe()
    }

    /// Logs a complaint, unless the same one was made a moment ago.
    pub(super) fn make(&self, complaint: Complaint) {
        if self.is_new(&complaint) {
            tracing::warn!("{complaint}");
        }
        // Without listeners the complaint is in the log alone.
        let _ = self.heard_by.send(complaint.into());
    }

    fn is_new(&self, complaint: &Complaint) -> bool {
        let now = self.clock.now();
        let kind = std::mem::discriminant(&complaint.error);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= REMEMBERED_MAX {
            made.retain(|_, kinds| kinds.iter().any(|(_, at)| now.since(*at) < REPEAT_AFTER));
        }
        let peer = complaint.peer.as_ref().map(NodeName::to_string);
        let about = peer.unwrap_or_else(|| complaint.address.clone());
        if made.len() >= REMEMBERED_MAX && !made.contains_key(&about) {
            return false;
        }
        let kinds = made.entry(about).or_default();
        kinds.retain(|(_, at)| now.since(*at) < REPEAT_AFTER);
        let is_new = kinds.iter().all(|(made, _)| *made != kind);
        if is_new {
            kinds.push((kind, now));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_complaint_is_made_once() {
        let complaints = Complaints::new(Clock::new());
        let about = |address: &str, error| Complaint {
            address: address.into(),
            peer: None,
            error,
        };
        assert!(complaints.is_new(&about("10.0.0.1", PeerError::WrongKey)));
        assert!(!complaints.is_new(&about("10.0.0.1", PeerError::WrongKey)));
        assert!(complaints.is_new(&about("10.0.0.1", PeerError::Forged)));
        assert!(complaints.is_new(&about("10.0.0.2", PeerError::WrongKey)));
        let of_s2 = |address: &str| Complaint {
            peer: Some("s2".into()),
            ..about(address, PeerError::Closed)
        };
        assert!(complaints.is_new(&of_s2("10.0.0.2:26380")));
        assert!(!complaints.is_new(&of_s2("10.0.0.2")));
        for n in 0..REMEMBERED_MAX {
            complaints.is_new(&about(&n.to_string(), PeerError::WrongKey));
        }
        assert!(!complaints.is_new(&about("one more", PeerError::WrongKey)));
    }
}
