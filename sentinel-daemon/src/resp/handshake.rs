//! What a client says of itself: `AUTH`, `HELLO` and `CLIENT …`.
//!
//! Decides who is let in, which version is spoken and what a client is called. Texts are those of Redis.

use sentinel_core::time::Instant;

use crate::resp::clients::Client;
use crate::resp::command::{self, Command};
use crate::resp::info::REDIS_VERSION;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::request::{Args, Trust, strict_integer};
use crate::resp::session::{Session, Wanted};

/// The only user that there is.
const USER: &[u8] = b"default";
const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const SYNTAX: &str = "ERR syntax error";
const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// `AUTH [user] password`.
pub(crate) fn auth(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let (user, password) = match (args.get(1), args.get(2), args.get(3)) {
        (Some(password), None, None) => {
            if session.endpoint.password.is_none() {
                return reply.error(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure \
                     your configuration is correct?",
                );
            }
            (USER, password)
        }
        (Some(user), Some(password), None) => (user, password),
        (_, _, _) => return reply.error(SYNTAX),
    };
    if authenticate(session, user, password) {
        reply.simple("OK");
    } else {
        reply.error(WRONG);
    }
}

fn authenticate(session: &mut Session, user: &[u8], given: &[u8]) -> bool {
    let right = match &session.endpoint.password {
        Some(password) => password.matches(given),
        None => true,
    };
    if right && user == USER {
        session.trust = Trust::Authenticated;
    }
    right && user == USER
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub(crate) fn hello(session: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let protocol = match args.get(1).map(strict_integer) {
        None => session.protocol,
        Some(Some(2)) => Protocol::Resp2,
        Some(Some(3)) => Protocol::Resp3,
        Some(Some(_)) => return reply.error("NOPROTO unsupported protocol version"),
        Some(None) => {
            return reply.error("ERR Protocol version is not an integer or out of range");
        }
    };
    let options = match HelloOptions::read(args) {
        Ok(options) => options,
        Err(text) => return reply.error(text),
    };
    if let Some((user, password)) = options.credentials
        && !authenticate(session, user, password)
    {
        return reply.error(WRONG);
    }
    if session.trust == Trust::Unauthenticated {
        return reply.error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
             time",
        );
    }
    let client = &session.connected.client;
    if let Some(name) = options.name {
        client.traits().name = name;
    }
    client.traits().protocol = protocol;
    session.protocol = protocol;
    reply.switch(protocol);
    reply.map(6);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key);
        reply.bulk(value);
    }
    reply.bulk("proto");
    reply.integer(match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    });
    reply.bulk("id");
    reply.integer(client.id);
    reply.bulk("mode");
    reply.bulk("sentinel");
    reply.bulk("modules");
    reply.array(0);
}

struct HelloOptions<'a> {
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<String>,
}

impl<'a> HelloOptions<'a> {
    fn read(args: Args<'a>) -> Result<Self, Vec<u8>> {
        let mut options = Self {
            credentials: None,
            name: None,
        };
        let mut at = 2;
        while let Some(word) = args.get(at) {
            match (args.get(at + 1), args.get(at + 2)) {
                (Some(user), Some(password)) if word.eq_ignore_ascii_case(b"auth") => {
                    options.credentials = Some((user, password));
                    at += 3;
                }
                (Some(name), _) if word.eq_ignore_ascii_case(b"setname") => {
                    options.name = Some(printable(name).ok_or(BAD_NAME)?);
                    at += 2;
                }
                (_, _) => {
                    return Err([b"ERR Syntax error in HELLO option '", word, b"'"].concat());
                }
            }
        }
        Ok(options)
    }
}

/// `CLIENT …`.
pub(crate) fn client(
    session: &mut Session,
    command: Command,
    args: Args<'_>,
    now: Instant,
    reply: &mut Reply<'_>,
) {
    let client = &session.connected.client;
    let word = args.get(2).unwrap_or_default();
    if command == Command::ClientGetname {
        let traits = client.traits();
        if traits.name.is_empty() {
            reply.null();
        } else {
            reply.bulk(&traits.name);
        }
    } else if command == Command::ClientId {
        reply.integer(client.id);
    } else if command == Command::ClientInfo {
        let mut text = String::new();
        client.describe(now, &mut text);
        reply.verbatim(&text);
    } else if command == Command::ClientList {
        list(session, args, now, reply);
    } else if command == Command::ClientNoEvict {
        // Nothing is ever evicted here.
        if [b"on".as_slice(), b"off"]
            .iter()
            .any(|on| on.eq_ignore_ascii_case(word))
        {
            reply.simple("OK");
        } else {
            reply.error(SYNTAX);
        }
    } else if command == Command::ClientReply {
        wanted(session, word, reply);
    } else if command == Command::ClientSetinfo {
        set_info(client, word, args.get(3).unwrap_or_default(), reply);
    } else if command == Command::ClientSetname {
        match printable(word) {
            Some(name) => {
                client.traits().name = name;
                reply.simple("OK");
            }
            None => reply.error(BAD_NAME),
        }
    } else {
        command::help(reply, "client");
    }
}

fn list(session: &Session, args: Args<'_>, now: Instant, reply: &mut Reply<'_>) {
    let clients = &session.endpoint.clients;
    let option = args.get(2);
    let text = match (option, args.get(3)) {
        (None, _) => clients.list(now, |_| true),
        (Some(option), Some(kind)) if option.eq_ignore_ascii_case(b"type") && args.len() == 4 => {
            let is = |name: &[u8]| kind.eq_ignore_ascii_case(name);
            if is(b"normal") {
                clients.list(now, |client| !client.is_subscriber())
            } else if is(b"pubsub") {
                clients.list(now, Client::is_subscriber)
            } else if is(b"master") || is(b"replica") || is(b"slave") {
                String::new()
            } else {
                return reply.error([b"ERR Unknown client type '", kind, b"'"].concat());
            }
        }
        (Some(option), Some(_)) if option.eq_ignore_ascii_case(b"id") => {
            let ids: Option<Vec<i64>> = args.from(3).map(strict_integer).collect();
            let Some(ids) = ids else {
                return reply.error("ERR Invalid client ID");
            };
            clients.list(now, |client| {
                ids.iter().any(|&id| u64::try_from(id) == Ok(client.id))
            })
        }
        (Some(_), _) => return reply.error(SYNTAX),
    };
    reply.verbatim(&text);
}

fn wanted(session: &mut Session, word: &[u8], reply: &mut Reply<'_>) {
    if word.eq_ignore_ascii_case(b"on") {
        session.wanted = Wanted::On;
        reply.simple("OK");
    } else if word.eq_ignore_ascii_case(b"off") {
        session.wanted = Wanted::Off;
    } else if word.eq_ignore_ascii_case(b"skip") {
        if session.wanted == Wanted::On {
            session.wanted = Wanted::SkipThis;
        }
    } else {
        reply.error(SYNTAX);
    }
}

/// Redis 7.2 and newer; clients send it unasked and take an error for no harm.
fn set_info(client: &Client, option: &[u8], value: &[u8], reply: &mut Reply<'_>) {
    let lib_name = option.eq_ignore_ascii_case(b"lib-name");
    if !lib_name && !option.eq_ignore_ascii_case(b"lib-ver") {
        return reply.error([b"ERR Unrecognized option '", option, b"'"].concat());
    }
    let Some(value) = printable(value) else {
        let option = option.to_ascii_lowercase();
        let rest = b" cannot contain spaces, newlines or special characters.";
        return reply.error([b"ERR ", option.as_slice(), rest].concat());
    };
    let mut traits = client.traits();
    if lib_name {
        traits.lib_name = value;
    } else {
        traits.lib_version = value;
    }
    reply.simple("OK");
}

/// A name goes into a line of text: graphic ASCII only, as in Redis.
fn printable(name: &[u8]) -> Option<String> {
    if !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}
