//! What the driver shows to the rest of its process: the newest view, and events as they happen.
//!
//! Readers never wait for the driver, nor it for them. One that is too slow for events is told how many it missed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};

use crate::discovery::View;
use crate::event::Event;

/// Events that a reader may lag behind before it misses some.
const EVENTS_LAG_MAX: usize = 1024;

/// The newest view and the stream of events of one node.
#[derive(Debug)]
pub(super) struct Board {
    view: ArcSwap<View>,
    views: watch::Sender<Arc<View>>,
    events: broadcast::Sender<Event>,
}

impl Board {
    pub(super) fn new(view: Arc<View>) -> Self {
        Self {
            view: ArcSwap::new(Arc::clone(&view)),
            views: watch::Sender::new(view),
            events: broadcast::Sender::new(EVENTS_LAG_MAX),
        }
    }

    pub(super) fn show(&self, view: Arc<View>) {
        self.view.store(Arc::clone(&view));
        self.views.send_replace(view);
    }

    pub(super) fn publish(&self, event: Event) {
        // An error says that nobody listens.
        let _ = self.events.send(event);
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    pub(super) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
