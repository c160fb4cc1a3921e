//! Requests on their way from many callers to the one connection, in order of arrival.
//!
//! Bounded by the places that `WriteGuard` gives out, not here.

use tokio::sync::mpsc;

use super::request::Request;

/// The receiving end.
#[derive(Debug)]
pub(super) struct Queue {
    arriving: mpsc::UnboundedReceiver<Request>,
    /// Received while waiting, and not yet taken out.
    first: Option<Request>,
}

/// A queue and its sending end.
pub(super) fn queue() -> (mpsc::UnboundedSender<Request>, Queue) {
    let (sender, arriving) = mpsc::unbounded_channel();
    let first = None;
    (sender, Queue { arriving, first })
}

impl Queue {
    /// Waits until [`next`](Self::next) has something to give; `None` when nobody can send any more.
    /// Dropping the future loses nothing.
    pub(super) async fn arrival(&mut self) -> Option<()> {
        if self.first.is_none() {
            self.first = Some(self.arriving.recv().await?);
        }
        Some(())
    }

    /// Takes the next request out, if there is one.
    pub(super) fn next(&mut self) -> Option<Request> {
        self.first.take().or_else(|| self.arriving.try_recv().ok())
    }
}
