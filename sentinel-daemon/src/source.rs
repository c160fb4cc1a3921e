//! Where the endpoints take their answers from: a view, a clock, and a stream of events.
//!
//! Closures instead of the running node, so that an endpoint can be served from a view made by hand.
//! Does not know any protocol.

use std::fmt;
use std::sync::Arc;

use sentinel_core::discovery::{Freshness, View};
use sentinel_core::event::Event;
use sentinel_core::time::Instant;
use tokio::sync::broadcast;

/// What a stale node answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StaleAnswers {
    /// Its last committed table, marked as stale where the protocol has room for a mark.
    #[default]
    Serve,
    /// That it knows no primary: for deployments in which an old address is worse than none.
    Refuse,
}

type Make<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// One node, as its endpoints see it. Clones share it.
#[derive(Clone)]
pub struct Source {
    view: Make<Arc<View>>,
    now: Make<Instant>,
    events: Make<broadcast::Receiver<Event>>,
    /// 40 hex digits that name this node to clients of the Sentinel protocol.
    pub myid: Arc<str>,
    /// What to answer when no leader was heard for `stale_after`.
    pub stale_answers: StaleAnswers,
}

impl Source {
    /// A source that asks these closures; each is called often and must not block.
    pub fn new(
        view: impl Fn() -> Arc<View> + Send + Sync + 'static,
        now: impl Fn() -> Instant + Send + Sync + 'static,
        events: impl Fn() -> broadcast::Receiver<Event> + Send + Sync + 'static,
        myid: impl Into<Arc<str>>,
        stale_answers: StaleAnswers,
    ) -> Self {
        Self {
            view: Arc::new(view),
            now: Arc::new(now),
            events: Arc::new(events),
            myid: myid.into(),
            stale_answers,
        }
    }

    /// The newest view and the moment at which it is answered from.
    pub fn moment(&self) -> Moment {
        Moment {
            view: (self.view)(),
            now: (self.now)(),
            myid: self.myid.clone(),
            stale_answers: self.stale_answers,
        }
    }

    /// Events from here on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        (self.events)()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("myid", &self.myid)
            .field("stale_answers", &self.stale_answers)
            .finish_non_exhaustive()
    }
}

/// A view at the moment of the answer: everything that an answer is made from.
#[derive(Clone, Debug)]
pub struct Moment {
    /// What the node knows.
    pub view: Arc<View>,
    /// When it answers.
    pub now: Instant,
    /// See [`Source::myid`].
    pub myid: Arc<str>,
    /// See [`Source::stale_answers`].
    pub stale_answers: StaleAnswers,
}

impl Moment {
    /// Whether a leader was heard recently enough.
    pub fn freshness(&self) -> Freshness {
        self.view.freshness(self.now)
    }

    /// Whether the node is stale and configured to say nothing rather than something old.
    pub fn refuses(&self) -> bool {
        match self.stale_answers {
            StaleAnswers::Serve => false,
            StaleAnswers::Refuse => self.freshness() != Freshness::Fresh,
        }
    }

    /// Milliseconds since a leader was last heard: the age of the answer. `None` if never.
    pub fn as_of_ms(&self) -> Option<u64> {
        self.view.leader_heard.map(|heard| self.ms_since(heard))
    }

    /// Milliseconds from then until the moment of the answer.
    pub fn ms_since(&self, earlier: Instant) -> u64 {
        u64::try_from(self.now.since(earlier).as_millis()).unwrap_or(u64::MAX)
    }
}
