//! One client's conversation: what it may ask, and who answers it.
//!
//! Takes a request and a moment, writes the answer. Does not know sockets; a test talks to it in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use sentinel_core::time::Instant;

use crate::resp::clients::{Clients, Connected};
use crate::resp::command::{self, Command, Entry, Unaccepted};
use crate::resp::events::Message;
use crate::resp::handshake;
use crate::resp::info;
use crate::resp::password::Password;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::request::{Args, Trust};
use crate::resp::sentinel;
use crate::resp::subscriptions::{Kind, Subscriptions};
use crate::source::Moment;

/// What all clients of an endpoint share.
#[derive(Debug)]
pub struct Endpoint {
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// What a client must give, if anything.
    pub password: Option<Password>,
    /// Where the endpoint listens.
    pub port: u16,
    /// Since when.
    pub started: Instant,
}

/// Whether the conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It does.
    Continue,
    /// The client speaks another protocol: close without an answer, as Redis does.
    Close,
}

/// Whether answers are wanted, by `CLIENT REPLY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    On,
    Off,
    /// Not the one to `CLIENT REPLY SKIP` itself.
    SkipThis,
    /// Not the next one.
    SkipNext,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) connected: Connected,
    pub(crate) protocol: Protocol,
    pub(crate) trust: Trust,
    pub(crate) wanted: Wanted,
    subscriptions: Subscriptions,
}

impl Session {
    /// A client that has just come.
    pub fn new(endpoint: Arc<Endpoint>, connected: Connected) -> Self {
        let trust = if endpoint.password.is_some() {
            Trust::Unauthenticated
        } else {
            Trust::Authenticated
        };
        Self {
            endpoint,
            connected,
            protocol: Protocol::default(),
            trust,
            wanted: Wanted::default(),
            subscriptions: Subscriptions::default(),
        }
    }

    /// Whether it still has to give the password.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether it waits for messages.
    pub fn listens(&self) -> bool {
        !self.subscriptions.is_empty()
    }

    /// Passes a message on to it, if it listens to it.
    pub fn deliver(&self, message: &Message, out: &mut BytesMut) {
        self.subscriptions
            .deliver(message, &mut Reply::new(out, self.protocol));
    }

    /// Answers one request.
    pub fn answer(&mut self, args: Args<'_>, moment: &Moment, out: &mut BytesMut) -> Next {
        if args.is_empty() {
            return Next::Continue;
        }
        self.endpoint.clients.requests.fetch_add(1, Relaxed);
        let before = out.len();
        let mut reply = Reply::new(out, self.protocol);
        let entry = match command::find(&args) {
            Ok(entry) => entry,
            Err(unaccepted) => {
                if is_http(&args) {
                    return Next::Close;
                }
                refuse(unaccepted, args, &mut reply);
                self.withhold(before, out);
                return Next::Continue;
            }
        };
        self.connected.client.asked(moment.now, entry.command);
        match self.obstacle(entry) {
            Some(obstacle) => reply.error(obstacle),
            None => self.execute(entry.command, args, moment, &mut reply),
        }
        if !entry.is_subscribing() {
            self.withhold(before, out);
        }
        Next::Continue
    }

    /// Why the client may not use a command in the state that it is in.
    fn obstacle(&self, entry: &Entry) -> Option<String> {
        if self.trust == Trust::Unauthenticated && !entry.needs_no_password() {
            return Some("NOAUTH Authentication required.".to_owned());
        }
        let confined = self.protocol == Protocol::Resp2 && self.listens();
        if confined && !entry.is_subscribing() && entry.command != Command::Ping {
            return Some(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed \
                 in this context",
                entry.name
            ));
        }
        None
    }

    fn execute(
        &mut self,
        command: Command,
        args: Args<'_>,
        moment: &Moment,
        reply: &mut Reply<'_>,
    ) {
        let name = args.get(2).unwrap_or_default();
        match command {
            Command::SentinelGetMasterAddrByName => sentinel::address(moment, name, reply),
            Command::SentinelMasters => sentinel::primaries(moment, reply),
            Command::SentinelMaster => sentinel::primary(moment, name, reply),
            Command::SentinelReplicas => sentinel::replicas(moment, name, reply),
            Command::SentinelSentinels => sentinel::voters(moment, name, reply),
            Command::SentinelCkquorum => sentinel::quorum(moment, name, reply),
            Command::SentinelFailover => sentinel::failover(moment, name, reply),
            Command::SentinelMyid => reply.bulk(&*moment.myid),
            Command::SentinelHelp => command::help(reply, "sentinel"),
            Command::Ping => self.ping(args, reply),
            Command::Auth => handshake::auth(self, args, reply),
            Command::Hello => handshake::hello(self, args, reply),
            Command::Info => reply.bulk(info::render(moment, &self.endpoint, args)),
            Command::Role => sentinel::role(moment, reply),
            Command::Subscribe
            | Command::Psubscribe
            | Command::Unsubscribe
            | Command::Punsubscribe => self.subscribe(command, args, reply),
            Command::ClientGetname
            | Command::ClientHelp
            | Command::ClientId
            | Command::ClientInfo
            | Command::ClientList
            | Command::ClientNoEvict
            | Command::ClientReply
            | Command::ClientSetinfo
            | Command::ClientSetname => handshake::client(self, command, args, moment.now, reply),
            Command::Commands | Command::CommandInfo => command::details(reply, args),
            Command::CommandCount => command::count(reply),
            Command::CommandDocs => command::documents(reply, args),
            Command::CommandHelp => command::help(reply, "command"),
            Command::CommandList => command::names(reply, args),
            // Their arity asks for a subcommand, so that they are never reached alone.
            Command::Client | Command::Sentinel => reply.error("ERR syntax error"),
        }
    }

    fn ping(&self, args: Args<'_>, reply: &mut Reply<'_>) {
        let confined = self.protocol == Protocol::Resp2 && self.listens();
        match (args.len(), confined) {
            (1 | 2, true) => {
                reply.array(2);
                reply.bulk("pong");
                reply.bulk(args.get(1).unwrap_or_default());
            }
            (1, false) => reply.simple("PONG"),
            (2, false) => reply.bulk(args.get(1).unwrap_or_default()),
            (_, _) => reply.error("ERR wrong number of arguments for 'ping' command"),
        }
    }

    fn subscribe(&mut self, command: Command, args: Args<'_>, reply: &mut Reply<'_>) {
        let names = args.from(1);
        if command == Command::Subscribe {
            self.subscriptions.add(Kind::Channel, names, reply);
        } else if command == Command::Psubscribe {
            self.subscriptions.add(Kind::Pattern, names, reply);
        } else if command == Command::Unsubscribe {
            self.subscriptions.remove(Kind::Channel, names, reply);
        } else {
            self.subscriptions.remove(Kind::Pattern, names, reply);
        }
        let mut traits = self.connected.client.traits();
        traits.channels = self.subscriptions.channels();
        traits.patterns = self.subscriptions.patterns();
    }

    /// Takes back an answer that the client does not want.
    fn withhold(&mut self, before: usize, out: &mut BytesMut) {
        match self.wanted {
            Wanted::On => {}
            Wanted::Off => out.truncate(before),
            Wanted::SkipThis => {
                out.truncate(before);
                self.wanted = Wanted::SkipNext;
            }
            Wanted::SkipNext => {
                out.truncate(before);
                self.wanted = Wanted::On;
            }
        }
    }
}

/// A browser that was tricked into talking to this port must not get a command through.
fn is_http(args: &Args<'_>) -> bool {
    let name = args.get(0).unwrap_or_default();
    [b"post".as_slice(), b"host:"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(name))
}

/// Bytes of a name and of all arguments that an error repeats.
const SHOWN_BYTES_MAX: usize = 128;

fn refuse(unaccepted: Unaccepted, args: Args<'_>, reply: &mut Reply<'_>) {
    let mut text = Vec::new();
    match unaccepted {
        Unaccepted::Arity(entry) => {
            text.extend_from_slice(b"ERR wrong number of arguments for '");
            text.extend_from_slice(entry.name.as_bytes());
            text.extend_from_slice(b"' command");
        }
        Unaccepted::UnknownSubcommand => {
            text.extend_from_slice(b"ERR unknown subcommand '");
            text.extend_from_slice(shown(args.get(1), SHOWN_BYTES_MAX));
            text.extend_from_slice(b"'. Try ");
            text.extend(args.get(0).unwrap_or_default().to_ascii_uppercase());
            text.extend_from_slice(b" HELP.");
        }
        Unaccepted::Unknown => {
            text.extend_from_slice(b"ERR unknown command '");
            text.extend_from_slice(shown(args.get(0), SHOWN_BYTES_MAX));
            text.extend_from_slice(b"', with args beginning with: ");
            let start = text.len();
            for arg in args.from(1) {
                let used = text.len() - start;
                if used >= SHOWN_BYTES_MAX {
                    break;
                }
                text.push(b'\'');
                text.extend_from_slice(shown(Some(arg), SHOWN_BYTES_MAX - used));
                text.extend_from_slice(b"' ");
            }
        }
    }
    reply.error(text);
}

/// Cut off at a NUL and at so many bytes, as Redis shows what a client sent.
fn shown(bytes: Option<&[u8]>, bytes_max: usize) -> &[u8] {
    let bytes = bytes.unwrap_or_default();
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    &text[..text.len().min(bytes_max)]
}
