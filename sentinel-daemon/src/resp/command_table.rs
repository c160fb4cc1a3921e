//! The commands that are accepted, as a table: names, numbers of arguments, flags and categories.
//!
//! A subset of what Redis Sentinel 7.0.15 accepts, with its own values, and `CLIENT SETINFO` from Redis 7.2, which
//! newer clients send. Plain data: what a command does, and how it is found, is not known here.

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
    SentinelFailover,
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
    pub(super) arity: i32,
    /// Words of Redis's for when it may be used.
    pub(super) flags: &'static [&'static str],
    /// Words of Redis's for what it touches.
    pub(super) categories: &'static [&'static str],
    /// One line for people.
    pub(super) summary: &'static str,
    /// What it holds, if anything.
    pub(super) subcommands: &'static [Entry],
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

pub(super) static COMMANDS: &[Entry] = &[
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
        "sentinel|failover",
        Command::SentinelFailover,
        3,
        &["admin"],
        ADMIN,
        "Force a failover",
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
