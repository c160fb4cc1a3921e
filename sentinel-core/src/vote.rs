//! Collects opinions on one primary and counts them into a verdict.
//!
//! Knows who the voters are and how long an opinion holds. Observers' opinions are kept and shown,
//! and count towards nothing. Does not know what follows from a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::detector::Evidence;
use crate::id::{Member, NodeName};
use crate::peer::{Opinion, OpinionState};
use crate::quorum::Tally;
use crate::time::Instant;

/// The quorum's view of a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether enough voters think that it is down.
    pub down: Tally,
    /// Who thinks so, and why.
    pub witnesses: BTreeMap<NodeName, Evidence>,
    /// How many of them make a verdict.
    pub needed: usize,
    /// How many voters there are.
    pub voters: usize,
}

impl Verdict {
    /// Whether the primary is down, as a quorum sees it.
    pub fn is_down(&self) -> bool {
        self.down == Tally::Won
    }

    /// Names of the witnesses.
    pub fn witness_names(&self) -> BTreeSet<NodeName> {
        self.witnesses.keys().cloned().collect()
    }
}

#[derive(Clone, Debug)]
struct Held {
    opinion: Opinion,
    until: Instant,
}

/// Opinions on the primary of one service.
///
/// Invariant: at most one opinion per node, its newest (a node cannot be counted twice).
#[derive(Clone, Debug, Default)]
pub struct Ballot {
    held: BTreeMap<NodeName, Held>,
}

impl Ballot {
    /// A node's newest opinion, its own one included.
    pub fn cast(&mut self, now: Instant, node: NodeName, opinion: Opinion, expiry: Duration) {
        self.held.retain(|_, held| held.until > now);
        self.held.insert(
            node,
            Held {
                opinion,
                until: now + expiry,
            },
        );
    }

    /// When the next opinion expires.
    pub fn next_expiry(&self, now: Instant) -> Option<Instant> {
        self.held
            .values()
            .map(|held| held.until)
            .filter(|until| *until > now)
            .min()
    }

    /// Counts the voters' opinions on this very primary that have not expired.
    pub fn verdict(
        &self,
        now: Instant,
        primary: &Member,
        voters: &BTreeSet<NodeName>,
        needed: usize,
    ) -> Verdict {
        let mut witnesses = BTreeMap::new();
        let mut up = 0;
        for (node, held) in &self.held {
            let about_it = held.opinion.about == primary.instance
                && held.opinion.incarnation == primary.incarnation;
            if !voters.contains(node) || held.until <= now || !about_it {
                continue;
            }
            match &held.opinion.state {
                OpinionState::Down(evidence) => {
                    witnesses.insert(node.clone(), evidence.clone());
                }
                OpinionState::Up => up += 1,
            }
        }
        let down = Tally::count(voters.len(), needed, witnesses.len(), up);
        Verdict {
            down,
            witnesses,
            needed,
            voters: voters.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;

    fn primary() -> Member {
        Member {
            instance: InstanceId::new("a", 1),
            incarnation: "x".into(),
        }
    }

    fn opinion(of: &Member, state: OpinionState) -> Opinion {
        Opinion {
            about: of.instance.clone(),
            incarnation: of.incarnation.clone(),
            state,
        }
    }

    fn voters() -> BTreeSet<NodeName> {
        ["s1", "s2", "s3"].map(NodeName::from).into()
    }

    const EXPIRY: Duration = Duration::from_millis(400);

    fn ballot(down: &[&str], up: &[&str]) -> Ballot {
        let mut ballot = Ballot::default();
        for node in down {
            let state = OpinionState::Down(Evidence::Silence);
            ballot.cast(
                Instant::ORIGIN,
                NodeName::from(*node),
                opinion(&primary(), state),
                EXPIRY,
            );
        }
        for node in up {
            ballot.cast(
                Instant::ORIGIN,
                NodeName::from(*node),
                opinion(&primary(), OpinionState::Up),
                EXPIRY,
            );
        }
        ballot
    }

    #[test]
    fn only_a_quorum_of_voters_makes_a_verdict() {
        for (down, up, wanted) in [
            (&["s1"][..], &[][..], Tally::Pending),
            (&["s1", "o1", "o2"], &[], Tally::Pending),
            (&["s1", "s2"], &[], Tally::Won),
            (&["s1"], &["s2", "s3"], Tally::Lost),
        ] {
            let verdict = ballot(down, up).verdict(Instant::ORIGIN, &primary(), &voters(), 2);
            assert_eq!(verdict.down, wanted, "{down:?} {up:?}");
        }
    }

    #[test]
    fn opinions_expire_and_do_not_pass_to_another_primary() {
        let ballot = ballot(&["s1", "s2"], &[]);
        assert!(
            !ballot
                .verdict(Instant::ORIGIN + EXPIRY, &primary(), &voters(), 2)
                .is_down()
        );
        let next = Member {
            incarnation: "y".into(),
            ..primary()
        };
        assert!(
            !ballot
                .verdict(Instant::ORIGIN, &next, &voters(), 2)
                .is_down()
        );
    }

    #[test]
    fn a_node_counts_once() {
        let mut ballot = ballot(&["s1"], &[]);
        ballot.cast(
            Instant::ORIGIN,
            "s1".into(),
            opinion(&primary(), OpinionState::Down(Evidence::Refusal)),
            EXPIRY,
        );
        let verdict = ballot.verdict(Instant::ORIGIN, &primary(), &voters(), 2);
        assert_eq!(verdict.witnesses.len(), 1);
        assert_eq!(verdict.witnesses[&NodeName::from("s1")], Evidence::Refusal);
    }
}
