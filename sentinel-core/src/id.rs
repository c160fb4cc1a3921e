//! Names and numbers that identify things: services, instances, nodes, epochs, actions.
//!
//! Every id is its own type, so that two of them in a row cannot be mixed up. Nothing here knows
//! what an id refers to.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Wraps the given text; the caller has validated it.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text as given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $type {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

name! {
    /// The name of a replicated database that we guard.
    ServiceName
}
/// Lets services be looked up by a plain text: an answer to a client makes no key first.
impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

name! {
    /// The name of one of our nodes; unique in its cluster.
    NodeName
}
name! {
    /// The name of a cluster of nodes; nodes of different clusters never talk.
    ClusterName
}
name! {
    /// The name of a database engine, as its adapter registers it.
    EngineName
}
name! {
    /// One life of an instance with its data: it changes whenever data could have been lost.
    ///
    /// The adapter makes it from what the engine gives: the id that a server draws at start where a restart may
    /// lose data, the identity of the data folder where it cannot.
    Incarnation
}
name! {
    /// One server process, unique among all: two instances with the same one are one server under two names.
    ServerId
}

/// One server process of a service, identified by the address at which replicas and clients reach it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId {
    host: Arc<str>,
    port: u16,
}

impl InstanceId {
    /// An instance at the given host (name or IP address without brackets) and port.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Host name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `:port` at the end.
    #[error("`{0}` has no port; write host:port, for example 10.0.0.21:6379")]
    NoPort(String),
    /// What follows the last colon is no port number.
    #[error("`{0}` has a bad port; a port is a number from 1 to 65535")]
    BadPort(String),
    /// Nothing stands before the port, or an IPv6 address lacks its brackets.
    #[error(
        "`{0}` has a bad host; write a host name, an IPv4 address, or an IPv6 address in brackets"
    )]
    BadHost(String),
}

impl FromStr for InstanceId {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| AddressError::NoPort(text.into()))?;
        let port: u16 = port
            .parse()
            .map_err(|_| AddressError::BadPort(text.into()))?;
        if port == 0 {
            return Err(AddressError::BadPort(text.into()));
        }
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let bad = |host: &str| {
            host.is_empty()
                || host.contains(|c: char| c.is_whitespace() || c.is_control() || "[]/".contains(c))
        };
        match bracketed {
            Some(inner) if inner.contains(':') && !bad(inner) => Ok(Self::new(inner, port)),
            None if !host.contains(':') && !bad(host) => Ok(Self::new(host, port)),
            Some(_) | None => Err(AddressError::BadHost(text.into())),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(instance: InstanceId) -> Self {
        instance.to_string()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Number of a service's failover; it fences: an action of a lower epoch never takes effect.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fencing token of a service. The step rises with every commit of the service, so that two
/// actions of one epoch differ too (rule S14).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Token {
    /// Number of the failover.
    pub epoch: Epoch,
    /// Number of the commit of this service, over all epochs.
    pub step: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.step)
    }
}

/// Raft leadership number. Never mixed with [`Epoch`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One action of one leader; a term has one leader, so the pair is unique in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionId {
    /// Term of the leader that ordered the action.
    pub term: Term,
    /// Running number within the term.
    pub sequence: u64,
}

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.term, self.sequence)
    }
}

/// One probe of this node; never leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeId(pub u64);

/// An instance in one incarnation. Write quorums and authority are given to members, never to bare
/// instances: a restart that lost data must not inherit what its earlier life was trusted with (rule S4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Where it is.
    pub instance: InstanceId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.instance, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in [
            "10.0.0.21:6379",
            "db-1.example.org:6380",
            "[2001:db8::1]:6379",
        ] {
            assert_eq!(text.parse::<InstanceId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_name_what_is_wrong() {
        for (text, wanted) in [
            ("10.0.0.21", AddressError::NoPort("10.0.0.21".into())),
            ("10.0.0.21:0", AddressError::BadPort("10.0.0.21:0".into())),
            (
                "10.0.0.21:70000",
                AddressError::BadPort("10.0.0.21:70000".into()),
            ),
            (":6379", AddressError::BadHost(":6379".into())),
            (
                "2001:db8::1:6379",
                AddressError::BadHost("2001:db8::1:6379".into()),
            ),
            ("a b:6379", AddressError::BadHost("a b:6379".into())),
        ] {
            assert_eq!(text.parse::<InstanceId>().unwrap_err(), wanted);
        }
    }

    #[test]
    fn tokens_order_by_epoch_first() {
        let token = |epoch, step| Token {
            epoch: Epoch(epoch),
            step,
        };
        assert!(token(1, 9) < token(2, 3));
        assert!(token(2, 3) < token(2, 4));
    }
}
