//! Decides from a server's error reply whether the write behind it was executed: the table of all cases.
//!
//! The one question is whether the error is definite. The default is that it is not: a code that is
//! not in the table leaves the fate of the write unknown. Knows nothing of connections and counts.

use redis::ServerError;

use super::error::{UnknownCause, WriteError};

/// How a command may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandKind {
    /// A command of the server: it executes whole or answers with an error.
    Plain,
    /// A script, a function or a module's command: it can answer with an error after it wrote something.
    Programmed,
}

/// Errors that the server gives before it looks at the command, or at the first write of a script.
/// None of them can arise behind a successful write of the same script, because none of these states
/// begins while a script runs. (A script that makes up such a reply itself deceives its caller.)
const BEFORE_ANYTHING: [&str; 10] = [
    "READONLY",    // It is a replica.
    "NOREPLICAS",  // Fewer than min-replicas-to-write replicas are connected.
    "LOADING",     // It reads its data from disk.
    "MASTERDOWN",  // It is a replica without a link.
    "NOAUTH",      // The connection is not authenticated.
    "NOSCRIPT",    // The script is not known.
    "BUSY",        // Another script runs too long.
    "MOVED",       // Cluster: the key is elsewhere.
    "ASK",         // Cluster: the key is moving.
    "CLUSTERDOWN", // Cluster: no slots.
];

/// Errors after which a plain command has left nothing behind. A script can get them in its middle.
const BEFORE_A_PLAIN_COMMAND: [&str; 16] = [
    "ERR",        // Syntax, arity, range, unknown command.
    "WRONGTYPE",  // The key holds another type.
    "OOM",        // Over maxmemory.
    "MISCONF",    // The last save failed.
    "NOPERM",     // The user may not.
    "EXECABORT",  // A transaction with a bad command, discarded whole.
    "CROSSSLOT",  // Cluster: keys of several slots.
    "TRYAGAIN",   // Cluster: keys are being moved.
    "BUSYKEY",    // RESTORE onto an existing key.
    "BUSYGROUP",  // XGROUP CREATE of an existing group.
    "NOGROUP",    // No such consumer group.
    "NOTBUSY",    // Nothing to kill.
    "INVALIDOBJ", // HyperLogLog is corrupt.
    "DENIED",     // Protected mode.
    "NOPROTO",    // Unsupported protocol version.
    "NOSUB",      // Not in subscribed mode.
];

/// What this error reply means for the write.
pub(super) fn of_reply(kind: CommandKind, error: ServerError) -> WriteError {
    let definite = match kind {
        CommandKind::Plain => {
            BEFORE_ANYTHING.contains(&error.code())
                || BEFORE_A_PLAIN_COMMAND.contains(&error.code())
        }
        CommandKind::Programmed => BEFORE_ANYTHING.contains(&error.code()),
    };
    if definite {
        WriteError::Rejected(error)
    } else {
        WriteError::Unknown {
            cause: UnknownCause::Ambiguous(error),
        }
    }
}

/// What an error reply says about the server, beyond the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Nothing.
    None,
    /// A failover may be under way: ask the source of addresses again, and keep the connection.
    AskAgain,
    /// This server is not the primary, or not ours: leave it.
    Leave,
}

/// Reads the hint in an error reply.
pub(super) fn hint(error: &ServerError) -> Hint {
    match error.code() {
        "READONLY" | "MASTERDOWN" | "LOADING" | "UNBLOCKED" | "NOAUTH" => Hint::Leave,
        "NOREPLICAS" | "MISCONF" => Hint::AskAgain,
        _ => Hint::None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::super::error::{Fate, NotAllowed, QuorumFault, Trouble};
    use super::*;
    use sentinel_core::id::InstanceId;
    use std::time::Duration;

    fn reply(line: &str) -> ServerError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let redis::Value::ServerError(error) = value else {
            panic!("{value:?} is no error");
        };
        error
    }

    /// The codes of the rows, each once; the texts behind them do not matter.
    #[test]
    fn every_row_of_both_tables() {
        let rows = |table: &[&str]| -> Vec<String> {
            table.iter().map(|code| format!("{code} text")).collect()
        };
        for line in rows(&BEFORE_ANYTHING) {
            for kind in [CommandKind::Plain, CommandKind::Programmed] {
                assert_eq!(
                    of_reply(kind, reply(&line)).fate(),
                    Fate::NotExecuted,
                    "{kind:?} {line}"
                );
            }
        }
        for line in rows(&BEFORE_A_PLAIN_COMMAND) {
            let fate = |kind| of_reply(kind, reply(&line)).fate();
            assert_eq!(fate(CommandKind::Plain), Fate::NotExecuted, "{line}");
            assert_eq!(fate(CommandKind::Programmed), Fate::Unknown, "{line}");
        }
    }

    #[test]
    fn whole_replies() {
        use CommandKind::{Plain, Programmed};
        use Fate::{NotExecuted, Unknown};
        for (kind, line, wanted) in [
            (
                Plain,
                "READONLY You can't write against a read only replica.",
                NotExecuted,
            ),
            (
                Plain,
                "ERR wrong number of arguments for 'set' command",
                NotExecuted,
            ),
            (
                Programmed,
                "ERR user_script:1: Script attempted something",
                Unknown,
            ),
            // MIGRATE may have moved the key although it says so.
            (
                Plain,
                "IOERR error or timeout reading to target instance",
                Unknown,
            ),
            (
                Plain,
                "UNBLOCKED force unblock from blocking operation",
                Unknown,
            ),
            (Plain, "SOMETHINGNEW of a later version", Unknown),
        ] {
            assert_eq!(of_reply(kind, reply(line)).fate(), wanted, "{line}");
        }
    }

    #[test]
    fn errors_of_the_guard() {
        let instance = InstanceId::new("10.0.0.1", 6379);
        let unknown = |cause| WriteError::Unknown { cause };
        let no_primary = |cause| WriteError::NoPrimary {
            waited: Duration::ZERO,
            cause,
        };
        let no_quorum = |fault| WriteError::NoWriteQuorum {
            instance: instance.clone(),
            fault,
        };
        let shortfall = WriteError::NotEnoughReplicas {
            acked: 0,
            needed: 1,
        };
        let not_allowed = WriteError::NotAllowed {
            command: "WATCH".into(),
            why: NotAllowed::Session,
        };
        let text = || "x".to_owned();
        for (error, wanted) in [
            (shortfall, Fate::Unprotected),
            (unknown(UnknownCause::ConnectionLost(text())), Fate::Unknown),
            (unknown(UnknownCause::Silent(Duration::ZERO)), Fate::Unknown),
            (
                unknown(UnknownCause::PrimaryMoved(instance.clone())),
                Fate::Unknown,
            ),
            (unknown(UnknownCause::Demoted), Fate::Unknown),
            (unknown(UnknownCause::RunIdChanged), Fate::Unknown),
            (unknown(UnknownCause::ReplicationIdChanged), Fate::Unknown),
            (unknown(UnknownCause::QuorumChanged), Fate::Unknown),
            (unknown(UnknownCause::Garbled(text())), Fate::Unknown),
            (
                unknown(UnknownCause::Ambiguous(reply("ERR x"))),
                Fate::Unknown,
            ),
            (unknown(UnknownCause::Stopped), Fate::Unknown),
            (WriteError::Rejected(reply("READONLY x")), Fate::NotExecuted),
            (no_primary(Trouble::Unnamed), Fate::NotExecuted),
            (
                no_primary(Trouble::NotPrimary(instance.clone())),
                Fate::NotExecuted,
            ),
            (no_quorum(QuorumFault::Missing), Fate::NotExecuted),
            (
                WriteError::Overloaded { in_flight_max: 1 },
                Fate::NotExecuted,
            ),
            (not_allowed, Fate::NotExecuted),
        ] {
            assert_eq!(error.fate(), wanted, "{error:?}");
        }
    }

    #[test]
    fn hints() {
        for (line, wanted) in [
            ("READONLY x", Hint::Leave),
            ("UNBLOCKED x", Hint::Leave),
            ("LOADING x", Hint::Leave),
            ("NOREPLICAS x", Hint::AskAgain),
            ("WRONGTYPE x", Hint::None),
        ] {
            assert_eq!(hint(&reply(line)), wanted, "{line}");
        }
    }
}
