//! The channels and patterns of one client, and what they let through.
//!
//! Bounded, so that a client that subscribes to everything there could be costs a known amount of memory.

use std::collections::BTreeSet;

use crate::resp::events::Message;
use crate::resp::glob;
use crate::resp::limits::{SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::resp::reply::Reply;

/// What a client listens to.
///
/// Invariant: `bytes` is the length of all names together.
#[derive(Debug, Default)]
pub struct Subscriptions {
    channels: BTreeSet<Box<[u8]>>,
    patterns: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

/// Which of both a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name, taken literally.
    Channel,
    /// A pattern.
    Pattern,
}

impl Subscriptions {
    /// Channels of the client.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Patterns of the client.
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Whether it listens to nothing.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// `SUBSCRIBE` and `PSUBSCRIBE`: one acknowledgement each, in order.
    pub fn add<'a>(
        &mut self,
        kind: Kind,
        names: impl Iterator<Item = &'a [u8]>,
        reply: &mut Reply<'_>,
    ) {
        for name in names {
            if !self.names(kind).contains(name) {
                let full = self.channels.len() + self.patterns.len() >= SUBSCRIPTIONS_MAX
                    || self.bytes + name.len() > SUBSCRIPTION_BYTES_MAX;
                if full {
                    reply.error("ERR too many subscriptions of one client");
                    continue;
                }
                self.bytes += name.len();
                self.names(kind).insert(name.into());
            }
            self.acknowledge(reply, kind.subscribed(), Some(name));
        }
    }

    /// `UNSUBSCRIBE` and `PUNSUBSCRIBE`; without names: all.
    pub fn remove<'a>(
        &mut self,
        kind: Kind,
        names: impl Iterator<Item = &'a [u8]>,
        reply: &mut Reply<'_>,
    ) {
        let mut names = names.peekable();
        if names.peek().is_some() {
            for name in names {
                if self.names(kind).remove(name) {
                    self.bytes -= name.len();
                }
                self.acknowledge(reply, kind.unsubscribed(), Some(name));
            }
            return;
        }
        let mut any = false;
        while let Some(name) = self.names(kind).pop_first() {
            self.bytes -= name.len();
            self.acknowledge(reply, kind.unsubscribed(), Some(&name));
            any = true;
        }
        if !any {
            self.acknowledge(reply, kind.unsubscribed(), None);
        }
    }

    /// Passes a message on once for its channel and once for each pattern that covers it.
    pub fn deliver(&self, message: &Message, reply: &mut Reply<'_>) {
        let channel = message.channel.as_bytes();
        if self.channels.contains(channel) {
            reply.push(3);
            reply.bulk("message");
            reply.bulk(channel);
            reply.bulk(&message.payload);
        }
        for pattern in &self.patterns {
            if glob::matches(pattern, channel) {
                reply.push(4);
                reply.bulk("pmessage");
                reply.bulk(pattern);
                reply.bulk(channel);
                reply.bulk(&message.payload);
            }
        }
    }

    fn names(&mut self, kind: Kind) -> &mut BTreeSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    fn acknowledge(&self, reply: &mut Reply<'_>, word: &str, name: Option<&[u8]>) {
        reply.push(3);
        reply.bulk(word);
        match name {
            Some(name) => reply.bulk(name),
            None => reply.null(),
        }
        reply.integer((self.channels.len() + self.patterns.len()) as u64);
    }
}

impl Kind {
    fn subscribed(self) -> &'static str {
        match self {
            Self::Channel => "subscribe",
            Self::Pattern => "psubscribe",
        }
    }

    fn unsubscribed(self) -> &'static str {
        match self {
            Self::Channel => "unsubscribe",
            Self::Pattern => "punsubscribe",
        }
    }
}
