//! What the rest of a process holds of a running node: answers, news, and the way to stop it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::discovery::{Freshness, View};
use crate::event::Event;
use crate::id::{Epoch, InstanceId, ServiceName, Token};
use crate::sentinel::{Ask, AskError};

use super::board::Board;
use super::clock::Clock;
use super::log_file::LogError;
use super::questions::Question;

/// How long a node that stops may take to hand its leadership over.
const STOP_MAX: Duration = Duration::from_secs(1);

/// A node that was started.
#[derive(Debug)]
pub struct Running {
    /// To ask it and to stop it.
    pub handle: Handle,
    pub(super) task: JoinHandle<Result<(), LogError>>,
}

/// Why a node that was running no longer is, though nobody stopped it.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its log takes nothing more.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A fault of this program.
    #[error(
        "the node stopped by a fault of this program: {0}; please report it, and start it again"
    )]
    Panicked(String),
}

/// A node, to whoever asks it. Copies speak of the same node.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) board: Arc<Board>,
    pub(super) clock: Clock,
    pub(super) myid: Arc<str>,
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) stop: CancellationToken,
    /// Ends the driver wherever it is.
    pub(super) kill: CancellationToken,
    /// Cancelled by the driver when everything is closed.
    pub(super) ended: CancellationToken,
}

/// Where the primary of a service is, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAnswer {
    /// The primary of the last completed change.
    pub instance: InstanceId,
    /// Epoch of that change.
    pub epoch: Epoch,
    /// Whether the answer is current, as of now.
    pub freshness: Freshness,
}

/// The node was stopped while somebody waited for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node was stopped: start it again, or ask another one")]
pub struct NodeStopped;

impl Running {
    /// Waits until the node has ended, by [`Handle::stop`] or by itself. Nobody else tells why it did: wait for it.
    pub async fn ended(self) -> Result<(), RunError> {
        match self.task.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(RunError::Panicked(error.to_string())),
        }
    }
}

impl Handle {
    /// What the node knows.
    pub fn view(&self) -> Arc<View> {
        self.board.view()
    }

    /// What the node knows, each time that it changes. A reader that is slow skips to the newest.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.board.views()
    }

    /// Events from here on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.board.events()
    }

    /// The clock in which the instants of a view are given.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// 40 hex digits, kept in the data folder.
    pub fn myid(&self) -> &str {
        &self.myid
    }

    /// Where the primary is; `None` if the service is not known or never had one.
    pub fn primary(&self, service: &ServiceName) -> Option<PrimaryAnswer> {
        self.answer(&self.view(), service)
    }

    /// Waits until the primary of an epoch not below `epoch_min` is known. Give it a timeout of your own.
    pub async fn wait_primary(
        &self,
        service: &ServiceName,
        epoch_min: Epoch,
    ) -> Result<PrimaryAnswer, NodeStopped> {
        let mut views = self.views();
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            let answer = self.answer(&view, service);
            if let Some(answer) = answer.filter(|answer| answer.epoch >= epoch_min) {
                return Ok(answer);
            }
            tokio::select! {
                changed = views.changed() => changed.map_err(|_| NodeStopped)?,
                () = self.ended.cancelled() => return Err(NodeStopped),
            }
        }
    }

    /// Asks for another primary, without loss, while the primary is well; of the leader only. The token is that of the
    /// commit with which it begins: how it goes on is told by [`Self::views`] and [`Self::events`]. When it takes too
    /// long it is called off, and nothing has changed. Give it a timeout of your own.
    pub async fn switchover(
        &self,
        service: &ServiceName,
        to: Option<InstanceId>,
    ) -> Result<Token, AskError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Switchover {
            service: service.clone(),
            to,
        };
        tokio::select! {
            sent = self.questions.send((ask, answer)) => sent.map_err(|_| AskError::Stopped)?,
            () = self.ended.cancelled() => return Err(AskError::Stopped),
        }
        tokio::select! {
            answer = answered => answer.unwrap_or(Err(AskError::Stopped)),
            () = self.ended.cancelled() => Err(AskError::Stopped),
        }
    }

    /// Hands the leadership over and ends the node: sockets closed, data folder free. Takes about a second at most.
    pub async fn stop(&self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_MAX, self.ended.cancelled())
            .await
            .is_err()
        {
            self.kill.cancel();
            // The driver notices at its next step; a disk that hangs must not hold the caller.
            let _ = tokio::time::timeout(STOP_MAX, self.ended.cancelled()).await;
        }
    }

    fn answer(&self, view: &View, service: &ServiceName) -> Option<PrimaryAnswer> {
        let service = view.services.get(service)?;
        Some(PrimaryAnswer {
            instance: service.primary.clone()?,
            epoch: service.primary_epoch,
            freshness: view.freshness(self.clock.now()),
        })
    }
}
