//! The commands that are accepted: their names, how many arguments they take, and what `COMMAND` tells of them.
//!
//! A subset of what Redis Sentinel 7.0.15 accepts, with its own arities, flags and categories, and
//! `CLIENT SETINFO` from Redis 7.2, which newer clients send. What a command does is not known here.

use crate::resp::reply::Reply;
use crate::resp::request::Args;

/// A command or subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Command {
    Ping,
    Auth,
    Hello,
    Info,
    Role,
    Subscribe,
    Psubscribe,
    Unsubscribe,
    Punsubscribe,
    /// Holds subcommands and does nothing itself.
    Client,
    ClientGetname,
    ClientHelp,
    ClientId,
    ClientInfo,
    ClientList,
    ClientNoEvict,
    ClientReply,
    ClientSetinfo,
    ClientSetname,
    Commands,
    CommandCount,
    CommandDocs,
    CommandHelp,
    CommandInfo,
    CommandList,
    /// Holds subcommands and does nothing itself.
    Sentinel,
    SentinelCkquorum,
    SentinelGetMasterAddrByName,
    SentinelHelp,
    SentinelMaster,
    SentinelMasters,
    SentinelMyid,
    SentinelReplicas,
    SentinelSentinels,
}

/// What is told of a command.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The full name in lower case, a subcommand's behind its command's and a bar.
    pub name: &'static str,
    /// What it is.
    pub command: Command,
    /// How many arguments it takes, its name included; negative: at least so many.
    arity: i32,
    flags: &'static [&'static str],
    categories: &'static [&'static str],
    summary: &'static str,
    subcommands: &'static [Entry],
}

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

const CONNECTION: &[&str] = &["@slow", "@connection"];
const CONNECTION_FAST: &[&str] = &["@fast", "@connection"];
const CONNECTION_ADMIN: &[&str] = &["@admin", "@slow", "@dangerous", "@connection"];
const PUBSUB: &[&str] = &["@pubsub", "@slow"];
const SLOW: &[&str] = &["@slow"];
const ADMIN: &[&str] = &["@admin", "@slow", "@dangerous"];
const ANYTIME: &[&str] = &["loading", "stale"];
const NOSCRIPT: &[&str] = &["noscript", "loading", "stale"];
const ADMIN_NOSCRIPT: &[&str] = &["admin", "noscript", "loading", "stale"];
const NO_AUTH: &[&str] = &[
    "noscript",
    "loading",
    "stale",
    "fast",
    "no_auth",
    "allow_busy",
];
const PUBSUB_FLAGS: &[&str] = &["pubsub", "noscript", "loading", "stale"];

const fn entry(
    name: &'static str,
    command: Command,
    arity: i32,
    flags: &'static [&'static str],
    categories: &'static [&'static str],
    summary: &'static str,
) -> Entry {
    Entry {
        name,
        command,
        arity,
        flags,
        categories,
        summary,
        subcommands: &[],
    }
}

const fn container(plain: Entry, subcommands: &'static [Entry]) -> Entry {
    Entry {
        subcommands,
        ..plain
    }
}

static COMMANDS: &[Entry] = &[
    container(
        entry(
            "sentinel",
            Command::Sentinel,
            -2,
            &["admin"],
            ADMIN,
            "A container for Sentinel commands",
        ),
        SENTINEL,
    ),
    entry(
        "ping",
        Command::Ping,
        -1,
        &["fast"],
        CONNECTION_FAST,
        "Ping the server",
    ),
    entry(
        "auth",
        Command::Auth,
        -2,
        NO_AUTH,
        CONNECTION_FAST,
        "Authenticate to the server",
    ),
    entry(
        "hello",
        Command::Hello,
        -1,
        NO_AUTH,
        CONNECTION_FAST,
        "Handshake with Redis",
    ),
    container(
        entry(
            "client",
            Command::Client,
            -2,
            &[],
            SLOW,
            "A container for client connection commands",
        ),
        CLIENT,
    ),
    entry(
        "info",
        Command::Info,
        -1,
        ANYTIME,
        &["@slow", "@dangerous"],
        "Get information and statistics about the server",
    ),
    entry(
        "role",
        Command::Role,
        1,
        &["noscript", "loading", "stale", "fast"],
        &["@admin", "@fast", "@dangerous"],
        "Return the role of the instance in the context of replication",
    ),
    container(
        entry(
            "command",
            Command::Commands,
            -1,
            ANYTIME,
            CONNECTION,
            "Get array of Redis command details",
        ),
        COMMAND,
    ),
    entry(
        "subscribe",
        Command::Subscribe,
        -2,
        PUBSUB_FLAGS,
        PUBSUB,
        "Listen for messages published to the given channels",
    ),
    entry(
        "psubscribe",
        Command::Psubscribe,
        -2,
        PUBSUB_FLAGS,
        PUBSUB,
        "Listen for messages published to channels matching the given patterns",
    ),
    entry(
        "unsubscribe",
        Command::Unsubscribe,
        -1,
        PUBSUB_FLAGS,
        PUBSUB,
        "Stop listening for messages posted to the given channels",
    ),
    entry(
        "punsubscribe",
        Command::Punsubscribe,
        -1,
        PUBSUB_FLAGS,
        PUBSUB,
        "Stop listening for messages posted to channels matching the given patterns",
    ),
];

static CLIENT: &[Entry] = &[
    entry(
        "client|getname",
        Command::ClientGetname,
        2,
        NOSCRIPT,
        CONNECTION,
        "Get the current connection name",
    ),
    entry(
        "client|help",
        Command::ClientHelp,
        2,
        ANYTIME,
        CONNECTION,
        "Show helpful text about the different subcommands",
    ),
    entry(
        "client|id",
        Command::ClientId,
        2,
        NOSCRIPT,
        CONNECTION,
        "Returns the client ID for the current connection",
    ),
    entry(
        "client|info",
        Command::ClientInfo,
        2,
        NOSCRIPT,
        CONNECTION,
        "Returns information about the current client connection.",
    ),
    entry(
        "client|list",
        Command::ClientList,
        -2,
        ADMIN_NOSCRIPT,
        CONNECTION_ADMIN,
        "Get the list of client connections",
    ),
    entry(
        "client|no-evict",
        Command::ClientNoEvict,
        3,
        ADMIN_NOSCRIPT,
        CONNECTION_ADMIN,
        "Set client eviction mode for the current connection",
    ),
    entry(
        "client|reply",
        Command::ClientReply,
        3,
        NOSCRIPT,
        CONNECTION,
        "Instruct the server whether to reply to commands",
    ),
    entry(
        "client|setinfo",
        Command::ClientSetinfo,
        4,
        NOSCRIPT,
        CONNECTION,
        "Set client or connection specific info",
    ),
    entry(
        "client|setname",
        Command::ClientSetname,
        3,
        NOSCRIPT,
        CONNECTION,
        "Set the current connection name",
    ),
];

static COMMAND: &[Entry] = &[
    entry(
        "command|count",
        Command::CommandCount,
        2,
        ANYTIME,
        CONNECTION,
        "Get total number of Redis commands",
    ),
    entry(
        "command|docs",
        Command::CommandDocs,
        -2,
        ANYTIME,
        CONNECTION,
        "Get array of specific Redis command documentation",
    ),
    entry(
        "command|help",
        Command::CommandHelp,
        2,
        ANYTIME,
        CONNECTION,
        "Show helpful text about the different subcommands",
    ),
    entry(
        "command|info",
        Command::CommandInfo,
        -2,
        ANYTIME,
        CONNECTION,
        "Get array of specific Redis command details, or all when no argument is given.",
    ),
    entry(
        "command|list",
        Command::CommandList,
        -2,
        ANYTIME,
        CONNECTION,
        "Get an array of Redis command names",
    ),
];

static SENTINEL: &[Entry] = &[
    entry(
        "sentinel|get-master-addr-by-name",
        Command::SentinelGetMasterAddrByName,
        3,
        &["admin"],
        ADMIN,
        "Get port and address of a master instance",
    ),
    entry(
        "sentinel|masters",
        Command::SentinelMasters,
        2,
        &["admin"],
        ADMIN,
        "List the monitored masters",
    ),
    entry(
        "sentinel|master",
        Command::SentinelMaster,
        3,
        &["admin"],
        ADMIN,
        "Shows the state of a master",
    ),
    entry(
        "sentinel|replicas",
        Command::SentinelReplicas,
        3,
        &["admin"],
        ADMIN,
        "List the monitored replicas",
    ),
    entry(
        "sentinel|slaves",
        Command::SentinelReplicas,
        3,
        &["admin"],
        ADMIN,
        "List the monitored slaves",
    ),
    entry(
        "sentinel|sentinels",
        Command::SentinelSentinels,
        3,
        &["admin"],
        ADMIN,
        "List the Sentinel instances",
    ),
    entry(
        "sentinel|ckquorum",
        Command::SentinelCkquorum,
        3,
        &["admin"],
        ADMIN,
        "Check for a Sentinel quorum",
    ),
    entry(
        "sentinel|myid",
        Command::SentinelMyid,
        2,
        &["admin"],
        ADMIN,
        "Get the Sentinel instance ID",
    ),
    entry(
        "sentinel|help",
        Command::SentinelHelp,
        2,
        ANYTIME,
        SLOW,
        "Show helpful text about the different subcommands",
    ),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_belong_to_their_command() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in COMMANDS {
            assert!(seen.insert(entry.name), "{}", entry.name);
            for sub in entry.subcommands {
                assert!(seen.insert(sub.name), "{}", sub.name);
                assert!(
                    sub.name.starts_with(&format!("{}|", entry.name)),
                    "{}",
                    sub.name
                );
            }
        }
    }
}
