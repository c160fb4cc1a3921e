//! How many votes decide, and how far a count has come.
//!
//! Knows numbers only: who voted and about what is the ballot's business.

use std::fmt;

/// Votes that decide among so many voters: more than half.
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Voters that may be lost while the rest still decides.
pub const fn failures_tolerated(voters: usize) -> usize {
    voters - majority(voters)
}

/// How far a count has come. Three-valued: what is not won yet need not be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// Enough have said yes.
    Won,
    /// Neither is certain yet.
    Pending,
    /// So many have said no that enough yes is out of reach.
    Lost,
}

impl Tally {
    /// Counts `yes` and `no` among `voters`, of whom `needed` decide.
    ///
    /// # Panics
    /// When more votes than voters are given: somebody was counted twice.
    pub fn count(voters: usize, needed: usize, yes: usize, no: usize) -> Self {
        assert!(yes + no <= voters, "{yes} + {no} votes of {voters} voters");
        if yes >= needed {
            Self::Won
        } else if voters - no < needed {
            Self::Lost
        } else {
            Self::Pending
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Won => "won",
            Self::Pending => "pending",
            Self::Lost => "lost",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quorum_table() {
        for (voters, votes, tolerated) in [
            (1, 1, 0),
            (2, 2, 0),
            (3, 2, 1),
            (4, 3, 1),
            (5, 3, 2),
            (7, 4, 3),
        ] {
            assert_eq!(
                (majority(voters), failures_tolerated(voters)),
                (votes, tolerated),
                "{voters} voters"
            );
        }
    }

    #[test]
    fn two_majorities_always_meet() {
        for voters in 1..100 {
            assert!(2 * majority(voters) > voters);
        }
    }

    #[test]
    fn a_count_is_three_valued() {
        for (yes, no, wanted) in [
            (0, 0, Tally::Pending),
            (1, 1, Tally::Pending),
            (2, 1, Tally::Won),
            (0, 2, Tally::Lost),
            (1, 2, Tally::Lost),
        ] {
            assert_eq!(Tally::count(3, 2, yes, no), wanted, "{yes} yes, {no} no");
        }
    }
}
