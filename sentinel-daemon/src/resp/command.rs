//! Finds the command that a request asks for, and answers what `COMMAND` and `HELP` tell of commands.
//!
//! Knows the table, and nothing of what the commands do.

use crate::resp::command_table::COMMANDS;
pub use crate::resp::command_table::{Command, Entry};
use crate::resp::reply::Reply;
use crate::resp::request::Args;

/// Why there is no such command. Shown to the client word for word as Redis does.
#[derive(Clone, Copy, Debug)]
pub enum Unaccepted {
    /// Nobody knows the command.
    Unknown,
    /// The command has no such subcommand.
    UnknownSubcommand,
    /// It takes another number of arguments.
    Arity(&'static Entry),
}

/// Finds what a request asks for, and whether it has as many arguments as that takes.
pub fn find(args: &Args<'_>) -> Result<&'static Entry, Unaccepted> {
    let named = |name: &[u8]| {
        COMMANDS
            .iter()
            .find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(name))
    };
    let mut entry = args.get(0).and_then(named).ok_or(Unaccepted::Unknown)?;
    if !entry.subcommands.is_empty()
        && let Some(sub) = args.get(1)
    {
        entry = entry.subcommand(sub).ok_or(Unaccepted::UnknownSubcommand)?;
    }
    if entry.takes(args.len()) {
        Ok(entry)
    } else {
        Err(Unaccepted::Arity(entry))
    }
}

impl Entry {
    fn subcommand(&self, name: &[u8]) -> Option<&'static Entry> {
        self.subcommands.iter().find(|sub| {
            let (_, word) = sub.name.split_once('|').unwrap_or_default();
            word.as_bytes().eq_ignore_ascii_case(name)
        })
    }

    fn takes(&self, args: usize) -> bool {
        let least = self.arity.unsigned_abs() as usize;
        if self.arity < 0 {
            args >= least
        } else {
            args == least
        }
    }

    /// Whether a client that has not given the password may use it.
    pub fn needs_no_password(&self) -> bool {
        self.flags.contains(&"no_auth")
    }

    /// Whether it answers with pushes, and may be used by a RESP2 client that has subscribed.
    pub fn is_subscribing(&self) -> bool {
        self.flags.contains(&"pubsub")
    }

    fn describe(&self, reply: &mut Reply<'_>) {
        reply.array(10);
        reply.bulk(self.name);
        reply.signed(self.arity);
        words(reply, self.flags);
        // First key, last key and step: no command here has keys.
        (0..3).for_each(|_| reply.integer(0));
        words(reply, self.categories);
        // Tips and key specifications.
        reply.set(0);
        reply.set(0);
        if self.subcommands.is_empty() {
            reply.set(0);
        } else {
            reply.array(self.subcommands.len());
            self.subcommands.iter().for_each(|sub| sub.describe(reply));
        }
    }

    fn document(&self, reply: &mut Reply<'_>) {
        reply.bulk(self.name);
        let group = if self.is_subscribing() {
            "pubsub"
        } else if self.categories.contains(&"@connection") {
            "connection"
        } else {
            "server"
        };
        let pairs = [("summary", self.summary), ("group", group)];
        reply.map(pairs.len() + usize::from(!self.subcommands.is_empty()));
        for (key, value) in pairs {
            reply.bulk(key);
            reply.bulk(value);
        }
        if !self.subcommands.is_empty() {
            reply.bulk("subcommands");
            reply.map(self.subcommands.len());
            self.subcommands.iter().for_each(|sub| sub.document(reply));
        }
    }
}

fn words(reply: &mut Reply<'_>, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    COMMANDS
        .iter()
        .flat_map(|entry| std::iter::once(entry).chain(entry.subcommands))
}

/// The full name of a command that is kept as a number.
pub(crate) fn name_of(number: u8) -> &'static str {
    entries()
        .find(|entry| entry.command as u8 == number)
        .map_or("NULL", |entry| entry.name)
}

/// An entry by its full name, such as `client|id`.
fn by_full_name(name: &[u8]) -> Option<&'static Entry> {
    entries().find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(name))
}

/// `COMMAND COUNT`.
pub fn count(reply: &mut Reply<'_>) {
    reply.integer(COMMANDS.len() as u64);
}

/// `COMMAND` and `COMMAND INFO [name…]`.
pub fn details(reply: &mut Reply<'_>, args: Args<'_>) {
    if args.len() <= 2 {
        reply.array(COMMANDS.len());
        COMMANDS.iter().for_each(|entry| entry.describe(reply));
        return;
    }
    reply.array(args.len() - 2);
    for name in args.from(2) {
        match by_full_name(name) {
            Some(entry) => entry.describe(reply),
            None => reply.null(),
        }
    }
}

/// `COMMAND DOCS [name…]`; unknown names are left out.
pub fn documents(reply: &mut Reply<'_>, args: Args<'_>) {
    let entries: Vec<&Entry> = if args.len() <= 2 {
        COMMANDS.iter().collect()
    } else {
        args.from(2).filter_map(by_full_name).collect()
    };
    reply.map(entries.len());
    entries.iter().for_each(|entry| entry.document(reply));
}

/// `COMMAND LIST`.
pub fn names(reply: &mut Reply<'_>, args: Args<'_>) {
    if args.len() > 2 {
        return reply.error("ERR syntax error");
    }
    reply.array(
        COMMANDS
            .iter()
            .map(|entry| 1 + entry.subcommands.len())
            .sum(),
    );
    for entry in COMMANDS {
        reply.bulk(entry.name);
        entry
            .subcommands
            .iter()
            .for_each(|sub| reply.bulk(sub.name));
    }
}

/// `HELP` of a command that has subcommands.
pub fn help(reply: &mut Reply<'_>, container: &str) {
    let subcommands = by_full_name(container.as_bytes()).map_or(&[][..], |entry| entry.subcommands);
    reply.array(1 + 2 * subcommands.len());
    let title = container.to_ascii_uppercase();
    reply.simple(&format!(
        "{title} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for sub in subcommands {
        let (_, word) = sub.name.split_once('|').unwrap_or_default();
        reply.simple(&word.to_ascii_uppercase());
        reply.simple(&format!("    {}.", sub.summary.trim_end_matches('.')));
    }
}
