//! Our own Raft structs to raft-rs's protobuf structs and back, and which messages raft-rs may be shown.
//!
//! raft-rs trusts its peers: a message that no correct peer sends can end the process from inside the
//! library. [`check`] refuses those before they are stepped, from the message and a few facts about the
//! node ([`Receiver`]). Bytes and names are not known here.

use raft::eraftpb;
use raft::eraftpb::{EntryType, MessageType};

use crate::peer::{HardState, LogEntry, RaftMessage, SnapshotRecord};

/// The messages that voters send one another. Proposals, reads and orders to transfer the leadership are
/// never forwarded, and the rest is raft-rs's talk to itself.
const KINDS: [MessageType; 10] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Largest index or term that is believed; raft-rs adds to them without looking for an overflow.
const NUMBER_MAX: u64 = u64::MAX / 4;

/// Why a message was not taken. The node is as it was before, but for [`StepError::CommitBeyondLog`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// It comes from no voter, or from this node itself.
    #[error("raft message from `{0}`, which is no other voter: compare [voters] on both nodes")]
    UnknownSender(crate::id::NodeName),
    /// Voters do not send such messages.
    #[error("raft message of kind {0}, which voters do not send")]
    Kind(i32),
    /// A term or index that no log reaches, or none where one is needed.
    #[error("raft message with {field} {value}, which no correct voter sends")]
    Number {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Entries that do not follow one another, or are of a kind that this version does not know.
    #[error("raft message whose entry at index {index} does not belong there")]
    Entry {
        /// Index of the offending entry.
        index: u64,
    },
    /// The leader counts on entries that this node does not have: its data folder was emptied, or its disk lost
    /// what it had acknowledged. The leader is followed and asked to send them again; until then, every vote
    /// of this node is one that it may have given differently before.
    #[error(
        "the leader counts on entry {commit}, and the log ends at {last}: this node's data folder lost acknowledged entries, which are fetched again; check its disk unless the folder was emptied on purpose"
    )]
    CommitBeyondLog {
        /// The commit index in the message.
        commit: u64,
        /// This node's last index.
        last: u64,
    },
    /// A follower claims entries that this leader never made.
    #[error("a follower acknowledges entry {index}, and the log ends at {last}")]
    AcknowledgedBeyondLog {
        /// The index in the message.
        index: u64,
        /// This node's last index.
        last: u64,
    },
    /// The snapshot is of a cluster with other voters.
    #[error("snapshot of other voters than this node's: compare [voters] on both nodes")]
    ForeignVoters,
    /// raft-rs itself refused it.
    #[error("raft refused the message: {0}")]
    Refused(String),
}

/// What a check must know of the node that received a message.
pub(super) struct Receiver<'a> {
    /// Last index of its log.
    pub(super) last_index: u64,
    /// Its term, if it leads.
    pub(super) leads_term: Option<u64>,
    /// Raft numbers of all voters, ascending.
    pub(super) voters: &'a [u64],
}

impl RaftMessage {
    /// Whether only a follower sends it, in answer to its leader.
    pub(crate) fn answers_leader(&self) -> bool {
        let answers = [
            MessageType::MsgAppendResponse,
            MessageType::MsgHeartbeatResponse,
        ];
        answers.iter().any(|kind| self.kind == *kind as i32)
    }
}

/// Refuses what no correct voter sends; what passes cannot make raft-rs panic, once [`without_lost_commit`] has
/// seen it.
pub(super) fn check(message: &RaftMessage, receiver: &Receiver<'_>) -> Result<(), StepError> {
    let kind = kind_of(message.kind).ok_or(StepError::Kind(message.kind))?;
    check_numbers(message)?;
    check_entries(message)?;
    let last = receiver.last_index;
    let acknowledges = kind == MessageType::MsgAppendResponse
        && !message.reject
        && receiver.leads_term == Some(message.term);
    if acknowledges && message.index > last {
        let index = message.index;
        return Err(StepError::AcknowledgedBeyondLog { index, last });
    }
    if kind == MessageType::MsgSnapshot {
        check_snapshot(message, receiver.voters)?;
    }
    Ok(())
}

/// Takes out of a heartbeat a commit index beyond the log, which would make raft-rs panic, and reports it.
pub(super) fn without_lost_commit(message: &mut RaftMessage, last: u64) -> Result<(), StepError> {
    let commit = message.commit;
    if message.kind != MessageType::MsgHeartbeat as i32 || commit <= last {
        return Ok(());
    }
    message.commit = 0;
    Err(StepError::CommitBeyondLog { commit, last })
}

/// Whether a follower's refusal says that its log ends before `matched`, which it had acknowledged in this term.
pub(super) fn takes_back(message: &RaftMessage, matched: u64) -> bool {
    message.kind == MessageType::MsgAppendResponse as i32
        && message.reject
        && message.reject_hint < matched
}

/// The refusal that makes a leader begin again with a follower whose log ends at `last`.
pub(super) fn refusal(term: u64, last: u64) -> RaftMessage {
    RaftMessage {
        kind: MessageType::MsgAppendResponse as i32,
        term,
        index: last,
        reject: true,
        reject_hint: last,
        ..RaftMessage::default()
    }
}

fn kind_of(number: i32) -> Option<MessageType> {
    KINDS.into_iter().find(|kind| *kind as i32 == number)
}

fn check_numbers(message: &RaftMessage) -> Result<(), StepError> {
    let fail = |field, value| Err(StepError::Number { field, value });
    for (field, value) in [
        ("term", message.term),
        ("log_term", message.log_term),
        ("index", message.index),
        ("commit", message.commit),
        ("commit_term", message.commit_term),
        ("reject_hint", message.reject_hint),
    ] {
        if value > NUMBER_MAX {
            return fail(field, value);
        }
    }
    // raft-rs takes term 0 for a message of the node to itself.
    if message.term == 0 {
        return fail("term", 0);
    }
    // No priorities here; a negative one makes a fresh node answer with term 0, which raft-rs forbids itself.
    if message.priority != 0 {
        return fail("priority", message.priority.unsigned_abs());
    }
    // Nobody asks for a snapshot by index; raft-rs would insist that one exists.
    if message.request_snapshot != 0 {
        return fail("request_snapshot", message.request_snapshot);
    }
    Ok(())
}

fn check_entries(message: &RaftMessage) -> Result<(), StepError> {
    if message.kind == MessageType::MsgAppend as i32 {
        // raft-rs gives term 0 to every index outside its log, so that only index 0 may claim it.
        if (message.index == 0) != (message.log_term == 0) {
            return Err(StepError::Number {
                field: "log_term",
                value: message.log_term,
            });
        }
    } else if let Some(entry) = message.entries.first() {
        return Err(StepError::Entry { index: entry.index });
    }
    let mut before = (message.index, message.log_term.max(1));
    for entry in &message.entries {
        let follows = entry.index == before.0 + 1
            && entry.term >= before.1
            && entry.term <= message.term
            && entry.kind == EntryType::EntryNormal as i32;
        if !follows {
            return Err(StepError::Entry { index: entry.index });
        }
        before = (entry.index, entry.term);
    }
    Ok(())
}

fn check_snapshot(message: &RaftMessage, voters: &[u64]) -> Result<(), StepError> {
    let fail = |field, value| Err(StepError::Number { field, value });
    let Some(snapshot) = &message.snapshot else {
        return fail("snapshot", 0);
    };
    if snapshot.index == 0 || snapshot.index > NUMBER_MAX {
        return fail("snapshot.index", snapshot.index);
    }
    if snapshot.term == 0 || snapshot.term > message.term {
        return fail("snapshot.term", snapshot.term);
    }
    let mut named = snapshot.voters.clone();
    named.sort_unstable();
    if named != voters {
        return Err(StepError::ForeignVoters);
    }
    Ok(())
}

/// Both ends of a message, by Raft number.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    /// The sender.
    pub(super) from: u64,
    /// The receiver.
    pub(super) to: u64,
}

/// raft-rs's form of a message; `None` if its kind is none that voters send.
pub(super) fn message_to_raft(message: RaftMessage, ends: Ends) -> Option<eraftpb::Message> {
    let mut raft = eraftpb::Message::default();
    raft.set_msg_type(kind_of(message.kind)?);
    raft.from = ends.from;
    raft.to = ends.to;
    raft.term = message.term;
    raft.log_term = message.log_term;
    raft.index = message.index;
    raft.set_entries(message.entries.into_iter().map(entry_to_raft).collect());
    raft.commit = message.commit;
    raft.commit_term = message.commit_term;
    if let Some(snapshot) = message.snapshot {
        raft.set_snapshot(snapshot_to_raft(snapshot));
    }
    raft.request_snapshot = message.request_snapshot;
    raft.reject = message.reject;
    raft.reject_hint = message.reject_hint;
    raft.context = message.context.into();
    raft.priority = message.priority;
    Some(raft)
}

/// Our form of a message; who sent it and to whom is left to the caller.
pub(super) fn message_from_raft(raft: &eraftpb::Message) -> RaftMessage {
    RaftMessage {
        kind: raft.get_msg_type() as i32,
        term: raft.term,
        log_term: raft.log_term,
        index: raft.index,
        entries: raft.get_entries().iter().map(entry_from_raft).collect(),
        commit: raft.commit,
        commit_term: raft.commit_term,
        snapshot: raft
            .has_snapshot()
            .then(|| snapshot_from_raft(raft.get_snapshot())),
        request_snapshot: raft.request_snapshot,
        reject: raft.reject,
        reject_hint: raft.reject_hint,
        context: raft.context.to_vec(),
        priority: raft.priority,
    }
}

/// raft-rs's form of an entry. A kind that is unknown becomes a command: [`check`] and the check of a
/// restored log refuse those before.
pub(super) fn entry_to_raft(entry: LogEntry) -> eraftpb::Entry {
    let kind = [EntryType::EntryConfChange, EntryType::EntryConfChangeV2]
        .into_iter()
        .find(|kind| *kind as i32 == entry.kind)
        .unwrap_or(EntryType::EntryNormal);
    eraftpb::Entry {
        entry_type: kind,
        term: entry.term,
        index: entry.index,
        data: entry.data.into(),
        context: entry.context.into(),
        ..eraftpb::Entry::default()
    }
}

/// Our form of an entry.
pub(super) fn entry_from_raft(entry: &eraftpb::Entry) -> LogEntry {
    LogEntry {
        index: entry.index,
        term: entry.term,
        kind: entry.entry_type as i32,
        data: entry.data.to_vec(),
        context: entry.context.to_vec(),
    }
}

/// raft-rs's form of a snapshot.
pub(super) fn snapshot_to_raft(record: SnapshotRecord) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot {
        data: record.data.into(),
        ..eraftpb::Snapshot::default()
    };
    let metadata = snapshot.mut_metadata();
    metadata.index = record.index;
    metadata.term = record.term;
    metadata.mut_conf_state().voters = record.voters;
    snapshot
}

/// Our form of a snapshot.
pub(super) fn snapshot_from_raft(snapshot: &eraftpb::Snapshot) -> SnapshotRecord {
    let metadata = snapshot.get_metadata();
    SnapshotRecord {
        index: metadata.index,
        term: metadata.term,
        voters: metadata.get_conf_state().voters.clone(),
        data: snapshot.data.to_vec(),
    }
}

/// raft-rs's form of a hard state.
pub(super) fn hard_state_to_raft(hard_state: HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: hard_state.term,
        vote: hard_state.vote,
        commit: hard_state.commit,
        ..eraftpb::HardState::default()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn full() -> RaftMessage {
        RaftMessage {
            kind: MessageType::MsgAppend as i32,
            term: 7,
            log_term: 6,
            index: 41,
            entries: vec![
                LogEntry {
                    index: 42,
                    term: 6,
                    kind: 0,
                    data: vec![1, 2, 3],
                    context: vec![4],
                },
                LogEntry {
                    index: 43,
                    term: 7,
                    kind: 2,
                    data: Vec::new(),
                    context: Vec::new(),
                },
            ],
            commit: 40,
            commit_term: 5,
            snapshot: Some(SnapshotRecord {
                index: 39,
                term: 4,
                voters: vec![3, 9, 27],
                data: vec![8; 100],
            }),
            request_snapshot: 11,
            reject: true,
            reject_hint: 12,
            context: vec![13, 14],
            priority: -15,
        }
    }

    #[test]
    fn every_field_comes_back() {
        for kind in KINDS {
            for message in [
                RaftMessage {
                    kind: kind as i32,
                    ..full()
                },
                RaftMessage {
                    kind: kind as i32,
                    ..RaftMessage::default()
                },
            ] {
                let raft = message_to_raft(message.clone(), Ends { from: 1, to: 2 }).unwrap();
                assert_eq!((raft.from, raft.to), (1, 2));
                assert_eq!(message_from_raft(&raft), message);
            }
        }
    }

    const RECEIVER: Receiver<'static> = Receiver {
        last_index: 50,
        leads_term: Some(7),
        voters: &[3, 9, 27],
    };

    fn good() -> RaftMessage {
        RaftMessage {
            snapshot: None,
            request_snapshot: 0,
            reject: false,
            reject_hint: 0,
            priority: 0,
            entries: full().entries[..1].to_vec(),
            ..full()
        }
    }

    fn bare(kind: MessageType) -> RaftMessage {
        RaftMessage {
            kind: kind as i32,
            entries: Vec::new(),
            ..good()
        }
    }

    fn refused(base: RaftMessage, change: impl Fn(&mut RaftMessage)) -> StepError {
        let mut message = base;
        change(&mut message);
        check(&message, &RECEIVER).unwrap_err()
    }

    #[test]
    fn impossible_kinds_and_numbers_are_refused() {
        assert_eq!(check(&good(), &RECEIVER), Ok(()));
        let number = |field, value| StepError::Number { field, value };
        assert_eq!(refused(good(), |m| m.kind = 99), StepError::Kind(99));
        assert_eq!(
            refused(bare(MessageType::MsgPropose), |_| {}),
            StepError::Kind(2)
        );
        assert_eq!(refused(good(), |m| m.term = 0), number("term", 0));
        assert_eq!(
            refused(good(), |m| m.commit = u64::MAX),
            number("commit", u64::MAX)
        );
        assert_eq!(refused(good(), |m| m.log_term = 0), number("log_term", 0));
        assert_eq!(refused(good(), |m| m.priority = -1), number("priority", 1));
        assert_eq!(
            refused(good(), |m| m.request_snapshot = 3),
            number("request_snapshot", 3)
        );
    }

    #[test]
    fn entries_that_do_not_belong_are_refused() {
        for change in [
            (|entry: &mut LogEntry| entry.index = 44) as fn(&mut LogEntry),
            |entry| entry.term = 5,
            |entry| entry.term = 8,
            |entry| entry.kind = 1,
        ] {
            let error = refused(good(), |m| change(&mut m.entries[0]));
            assert!(matches!(error, StepError::Entry { .. }), "{error}");
        }
        let error = refused(good(), |m| m.kind = MessageType::MsgHeartbeat as i32);
        assert_eq!(error, StepError::Entry { index: 42 });
    }

    #[test]
    fn claims_beyond_the_log_are_refused() {
        let mut heartbeat = RaftMessage {
            commit: 51,
            ..bare(MessageType::MsgHeartbeat)
        };
        assert_eq!(check(&heartbeat, &RECEIVER), Ok(()));
        assert_eq!(
            without_lost_commit(&mut heartbeat, 50),
            Err(StepError::CommitBeyondLog {
                commit: 51,
                last: 50
            })
        );
        assert_eq!(heartbeat.commit, 0);
        assert_eq!(without_lost_commit(&mut heartbeat, 50), Ok(()));
        assert_eq!(
            refused(bare(MessageType::MsgAppendResponse), |m| m.index = 51),
            StepError::AcknowledgedBeyondLog {
                index: 51,
                last: 50
            }
        );
    }

    #[test]
    fn impossible_snapshots_are_refused() {
        let with = |change: fn(&mut SnapshotRecord)| {
            refused(bare(MessageType::MsgSnapshot), |m| {
                let mut snapshot = full().snapshot.unwrap();
                change(&mut snapshot);
                m.snapshot = Some(snapshot);
            })
        };
        let number = |field, value| StepError::Number { field, value };
        assert_eq!(
            refused(bare(MessageType::MsgSnapshot), |_| {}),
            number("snapshot", 0)
        );
        assert_eq!(with(|s| s.index = 0), number("snapshot.index", 0));
        assert_eq!(with(|s| s.term = 8), number("snapshot.term", 8));
        assert_eq!(with(|s| s.voters.truncate(2)), StepError::ForeignVoters);
    }
}
