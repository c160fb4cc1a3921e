//! Decides which commands may share the guard's connection, from their names and arguments alone.
//!
//! Writes of many callers follow each other on one connection and their replies are told apart by
//! order. A command that changes the session, blocks, or answers other than once would break that.
//! Does not know which commands write: a read is counted like a write, and comes back later for it.

use redis::{Arg, Cmd};

use super::error::{NotAllowed, WriteError};
use super::fate::CommandKind;

/// Commands that change the session, end it, or answer other than once.
const SESSION: [&str; 23] = [
    "ASKING",
    "AUTH",
    "CLIENT",
    "DEBUG",
    "DISCARD",
    "HELLO",
    "MONITOR",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SELECT",
    "SHUTDOWN",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WATCH",
];

/// Commands that may block the connection.
const BLOCKING: [&str; 10] = [
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "WAIT",
    "WAITAOF",
];

/// Commands that block only with this option.
const BLOCKING_WITH_BLOCK: [&str; 2] = ["XREAD", "XREADGROUP"];

/// Commands that run a program of the caller's, or call one.
const PROGRAMS: [&str; 4] = ["EVAL", "EVALSHA", "FCALL", "MIGRATE"];

/// Judges the commands of one call and says how each may fail.
///
/// # Errors
/// [`WriteError::NotAllowed`] for the first command that may not go.
pub(super) fn admit(commands: &[Cmd]) -> Result<Vec<CommandKind>, WriteError> {
    let names: Vec<String> = commands.iter().map(name).collect();
    if commands.is_empty() || names.iter().any(String::is_empty) {
        return Err(refusal("", NotAllowed::Empty));
    }
    for (command, name) in commands.iter().zip(&names) {
        if SESSION.contains(&name.as_str()) {
            return Err(refusal(name, NotAllowed::Session));
        }
        let blocks = BLOCKING.contains(&name.as_str())
            || (BLOCKING_WITH_BLOCK.contains(&name.as_str()) && has_argument(command, "BLOCK"));
        if blocks {
            return Err(refusal(name, NotAllowed::Blocking));
        }
    }
    transaction_is_whole(&names)?;
    Ok(names.iter().map(|name| kind(name)).collect())
}

/// `MULTI` without its `EXEC` would swallow the check behind it.
fn transaction_is_whole(names: &[String]) -> Result<(), WriteError> {
    let is_bracket = |name: &&String| matches!(name.as_str(), "MULTI" | "EXEC");
    let Some(bracket) = names.iter().find(is_bracket) else {
        return Ok(());
    };
    let whole = names.len() >= 2
        && names[0] == "MULTI"
        && names[names.len() - 1] == "EXEC"
        && names.iter().filter(is_bracket).count() == 2;
    if whole {
        Ok(())
    } else {
        Err(refusal(bracket, NotAllowed::TornTransaction))
    }
}

/// Commands of modules have a dot in their names by convention.
fn kind(name: &str) -> CommandKind {
    if PROGRAMS.contains(&name) || name.contains('.') {
        CommandKind::Programmed
    } else {
        CommandKind::Plain
    }
}

fn name(command: &Cmd) -> String {
    match command.args_iter().next() {
        Some(Arg::Simple(name)) => String::from_utf8_lossy(name).to_uppercase(),
        Some(_) | None => String::new(),
    }
}

fn has_argument(command: &Cmd, wanted: &str) -> bool {
    command.args_iter().any(
        |argument| matches!(argument, Arg::Simple(text) if text.eq_ignore_ascii_case(wanted.as_bytes())),
    )
}

fn refusal(command: &str, why: NotAllowed) -> WriteError {
    WriteError::NotAllowed {
        command: command.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(lines: &[&str]) -> Vec<Cmd> {
        let command = |line: &&str| {
            let mut command = Cmd::new();
            for word in line.split_whitespace() {
                command.arg(word);
            }
            command
        };
        lines.iter().map(command).collect()
    }

    #[test]
    fn what_may_not_share_the_connection() {
        for (lines, wanted) in [
            (&["watch a"][..], NotAllowed::Session),
            (&["SET a 1", "SUBSCRIBE x"][..], NotAllowed::Session),
            (&["CLIENT REPLY OFF"][..], NotAllowed::Session),
            (&["BLPOP a 0"][..], NotAllowed::Blocking),
            (&["WAIT 1 0"][..], NotAllowed::Blocking),
            (
                &["XREADGROUP GROUP g c BLOCK 0 STREAMS s >"][..],
                NotAllowed::Blocking,
            ),
            (&["MULTI"][..], NotAllowed::TornTransaction),
            (&["MULTI", "SET a 1"][..], NotAllowed::TornTransaction),
            (&["SET a 1", "EXEC"][..], NotAllowed::TornTransaction),
            (&["MULTI", "MULTI", "EXEC"][..], NotAllowed::TornTransaction),
            (
                &["MULTI", "SET a 1", "EXEC", "MULTI", "EXEC"][..],
                NotAllowed::TornTransaction,
            ),
            (&[][..], NotAllowed::Empty),
            (&[""][..], NotAllowed::Empty),
        ] {
            let result = admit(&commands(lines));
            assert!(
                matches!(&result, Err(WriteError::NotAllowed { why, .. }) if *why == wanted),
                "{lines:?}: {result:?}"
            );
        }
    }

    #[test]
    fn what_may() {
        use CommandKind::{Plain, Programmed};
        for (lines, wanted) in [
            (&["set a 1"][..], vec![Plain]),
            (&["MULTI", "INCR a", "EXEC"][..], vec![Plain; 3]),
            (&["XREADGROUP GROUP g c STREAMS s >"][..], vec![Plain]),
            (&["EVAL x 0", "JSON.SET a $ 1"][..], vec![Programmed; 2]),
        ] {
            assert_eq!(admit(&commands(lines)), Ok(wanted), "{lines:?}");
        }
    }
}
