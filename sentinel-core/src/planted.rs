//! Planted bugs: each leaves out one rule of the protocol, so that a test can show that its
//! invariant would notice.
//!
//! Without the feature `planted-bugs` the set is always empty and [`Bugs::has`] is a constant, so
//! that a release build has no trace of them.

/// A rule left out. The letters are those of the rule in `docs/safety.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// S1: positions of different lineages compare by offset alone. The checks of admission, which would hide it,
    /// are left out with it.
    OffsetOnly,
    /// S2: a candidate below the floor may be promoted.
    NoFloor,
    /// S3: a joint change drops the old configuration without catch-up.
    NoCatchUp,
    /// S4: a member that restarted, or is in a sync, counts and may be promoted.
    AnyIncarnation,
    /// S5: a replica found frozen counts without a freeze of this epoch.
    StaleFreeze,
    /// S6: actions do not close the other administrative connections (simulated instances honour this).
    NoConnectionClosing,
    /// S7: the guard counts every connected replica (simulated guards honour this).
    AnonymousCount,
    /// S9: the target is promoted without its write quorum.
    PromoteWithoutQuorum,
    /// S10: after an Unknown promotion another target is chosen in the same epoch.
    RetargetSameEpoch,
    /// S11: a policy veto lowers the bar for the others.
    VetoLowersBar,
    /// S13: the unfreeze is sent before the abort is committed.
    UnfreezeBeforeCommit,
    /// L1: a promotion counts as observed only when a write was acknowledged.
    ObserveByWrite,
    /// L2: the old primary is part of the new write quorum at once.
    OldPrimaryInQuorum,
    /// L3: a replica is admitted before it has caught up.
    AdmitBeforeData,
    /// A target is promoted without a seal.
    SkipSeal,
    /// Clients are told the target while it is being promoted, as if that had been committed.
    AnswerBeforePromoted,
    /// A voter answers before its vote and log are durable.
    SendBeforePersist,
    /// A minority leader goes on acting.
    ActWithoutQuorum,
    /// An action of a lower token is executed (simulated instances honour this).
    AcceptLowerToken,
    /// A freeze is not persisted by the server (simulated instances honour this).
    FreezeNotPersisted,
    /// S9: the write quorum is put in force on a target after its promotion (simulated instances honour this).
    QuorumAfterPromote,
    /// S16: a standby that has just started is believed the position up to which it has replayed (simulated instances
    /// honour this).
    UnderstatedPosition,
    /// A standby is re-pointed without comparing the histories (simulated instances honour this).
    RepointUnchecked,
    /// S12: an instance that was told to promote and may bear the name of another's history is not rebuilt.
    RepointTold,
    /// A switchover freezes the replicas while the primary takes writes.
    SwitchWithoutPause,
    /// A new branch is taken to begin where its primary was frozen, not where it says that it begins.
    ForkFromFreeze,
}

/// The bugs planted in one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bugs {
    #[cfg(feature = "planted-bugs")]
    planted: std::collections::BTreeSet<Bug>,
}

impl Bugs {
    /// No bug at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Plants these.
    #[cfg(feature = "planted-bugs")]
    pub fn planted(bugs: impl IntoIterator<Item = Bug>) -> Self {
        Self {
            planted: bugs.into_iter().collect(),
        }
    }

    /// Whether none is planted: only then are plans checked a second time.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this one is planted; always false without the feature.
    #[cfg(feature = "planted-bugs")]
    pub fn has(&self, bug: Bug) -> bool {
        self.planted.contains(&bug)
    }

    /// Whether this one is planted; always false without the feature.
    #[cfg(not(feature = "planted-bugs"))]
    pub const fn has(&self, _bug: Bug) -> bool {
        false
    }
}
