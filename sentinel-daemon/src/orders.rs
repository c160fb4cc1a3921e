//! What operators may order of a node over its endpoints, and how they prove that they may.
//!
//! A closure in place of the running node, as in `source.rs`, so that an endpoint can be served without one. Follows an
//! order to its end by the events that every node tells. Does not know any protocol.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sentinel_core::discovery::StageView;
use sentinel_core::event::EventKind;
use sentinel_core::id::{Epoch, InstanceId, ServiceName, Token};
use sentinel_core::sentinel::AskError;
use tokio::sync::broadcast::error::RecvError;

use crate::resp::password::Password;
use crate::source::Source;

/// Longest time for a switchover from its order to its end; the leader gives up on each part of it much earlier.
pub const SWITCHOVER_MAX: Duration = Duration::from_secs(330);

type Ask = dyn Fn(ServiceName, Option<InstanceId>) -> BoxFuture<'static, Result<Token, AskError>>
    + Send
    + Sync;

/// What a node takes orders with. Clones share it.
#[derive(Clone)]
pub struct Orders {
    switchover: Arc<Ask>,
    /// What whoever orders something must give; without it nobody may.
    pub token: Option<Password>,
    /// How long the end of an order is waited for.
    pub patience: Duration,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// A switchover that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Who was primary; `None` if that was not told.
    pub from: Option<InstanceId>,
    /// Who is.
    pub to: InstanceId,
    /// Epoch of the answer from here on.
    pub epoch: Epoch,
    /// Token of the commit with which it began.
    pub token: Token,
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The leader did not grant it, or is another node. Nothing has changed.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It began and was given up. The primary is the one that it was.
    #[error("called off: {0}")]
    CalledOff(String),
    /// It did not come to its end in time. How it ended is told by the status.
    #[error("the switchover is not over after {} s", .0.as_secs())]
    TooLong(Duration),
}

impl Orders {
    /// Orders that are carried out by this closure; the token is that of the commit with which the switchover begins.
    pub fn new(
        switchover: impl Fn(
            ServiceName,
            Option<InstanceId>,
        ) -> BoxFuture<'static, Result<Token, AskError>>
        + Send
        + Sync
        + 'static,
        token: Option<Password>,
    ) -> Self {
        Self {
            switchover: Arc::new(switchover),
            token,
            patience: SWITCHOVER_MAX,
        }
    }

    /// Makes another instance primary, and waits for the end of it.
    pub async fn switchover(
        &self,
        source: &Source,
        service: &ServiceName,
        to: Option<InstanceId>,
    ) -> Result<Switched, SwitchError> {
        let over = self.follow_switchover(source, service, to);
        match tokio::time::timeout(self.patience, over).await {
            Ok(ended) => ended,
            Err(_) => Err(SwitchError::TooLong(self.patience)),
        }
    }

    async fn follow_switchover(
        &self,
        source: &Source,
        service: &ServiceName,
        to: Option<InstanceId>,
    ) -> Result<Switched, SwitchError> {
        // Listened to before it is ordered, so that an early end is not missed.
        let mut events = source.events();
        let from = primary(source, service);
        let token = (self.switchover)(service.clone(), to).await?;
        loop {
            let ended = match events.recv().await {
                Ok(event) if event.service == *service && event.token >= token => {
                    judge(event.kind, event.primary, event.token.epoch)
                }
                Ok(_) => None,
                Err(RecvError::Lagged(_)) => overlooked(source, service, from.as_ref(), token),
                Err(RecvError::Closed) => Some(Err(AskError::Stopped.into())),
            };
            if let Some(ended) = ended {
                let (to, epoch) = ended?;
                return Ok(Switched {
                    from,
                    to,
                    epoch,
                    token,
                });
            }
        }
    }
}

type Ended = Result<(InstanceId, Epoch), SwitchError>;

/// Whether an event of the service is the end of its switchover.
fn judge(kind: EventKind, primary: Option<InstanceId>, epoch: Epoch) -> Option<Ended> {
    match kind {
        EventKind::FailoverEnded => primary.map(|to| Ok((to, epoch))),
        EventKind::SwitchoverCalledOff { reason } | EventKind::FailoverAborted { reason } => {
            Some(Err(SwitchError::CalledOff(reason)))
        }
        EventKind::ServiceAdded
        | EventKind::PrimaryAdopted { .. }
        | EventKind::InstanceDiscovered { .. }
        | EventKind::InstanceDown { .. }
        | EventKind::InstanceUp { .. }
        | EventKind::InstanceRestarted { .. }
        | EventKind::PrimaryDown { .. }
        | EventKind::PrimaryDownRevoked { .. }
        | EventKind::SwitchoverStarted { .. }
        | EventKind::FailoverStarted { .. }
        | EventKind::TargetSelected { .. }
        | EventKind::PrimarySwitched { .. }
        | EventKind::InstanceStranded { .. }
        | EventKind::RebuildSent { .. }
        | EventKind::RepointSent { .. }
        | EventKind::RepointDone { .. }
        | EventKind::Demoted { .. }
        | EventKind::DivergedKept { .. }
        | EventKind::Admitted { .. }
        | EventKind::Excluded { .. }
        | EventKind::Readmitted { .. }
        | EventKind::Alarm { .. } => None,
    }
}

/// Whether the end went by unseen, among events that came faster than they were read.
fn overlooked(
    source: &Source,
    service: &ServiceName,
    from: Option<&InstanceId>,
    token: Token,
) -> Option<Ended> {
    let view = source.moment().view;
    let found = view.services.get(service)?;
    if found.token <= token || found.stage != StageView::Steady {
        return None;
    }
    let primary = found.primary.clone()?;
    Some(if Some(&primary) == from {
        let text = "the primary is the one that it was; `sentinel explain` shows the decisions";
        Err(SwitchError::CalledOff(text.to_owned()))
    } else {
        Ok((primary, found.primary_epoch))
    })
}

fn primary(source: &Source, service: &ServiceName) -> Option<InstanceId> {
    let view = source.moment().view;
    view.services.get(service)?.primary.clone()
}
