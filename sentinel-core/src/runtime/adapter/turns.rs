//! The turns of the actions on one instance: one at a time, and none with a lower token than one that has begun.
//!
//! Also the three ways in which an action ends early. Does not know what an action does, or to what kind of server.

use std::ops::{Deref, DerefMut};

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::action::{Action, Outcome};
use crate::id::Token;
use crate::runtime::Clock;

/// Why an action ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Nothing happened, for certain.
    Refused(String),
    /// It was told, answers, and is not there yet.
    UnderWay(String),
    /// It may have happened.
    Unknown(String),
}

impl From<Stop> for Outcome {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(text) => Self::Refused(text),
            Stop::UnderWay(text) => Self::UnderWay(text),
            Stop::Unknown(text) => Self::Unknown(text),
        }
    }
}

/// What the actions on one instance share, given to one after the other.
#[derive(Debug, Default)]
pub struct Turns<T>(Mutex<Held<T>>);

#[derive(Debug, Default)]
struct Held<T> {
    /// The highest token whose action began here.
    begun: Token,
    shared: T,
}

/// One action's turn.
#[derive(Debug)]
pub struct Turn<'a, T> {
    held: MutexGuard<'a, Held<T>>,
    token: Token,
}

impl<T> Turns<T> {
    /// Waits for the action's turn.
    ///
    /// # Errors
    /// A refusal: its deadline came first, or an action with a higher token has begun on this node.
    pub async fn take(&self, clock: &Clock, action: &Action) -> Result<Turn<'_, T>, Stop> {
        let refused = |why: &str| Err(Stop::Refused(format!("nothing was sent: {why}")));
        let left = clock.until(action.deadline);
        if left.is_zero() {
            return refused("the deadline had passed");
        }
        let Ok(held) = timeout(left, self.0.lock()).await else {
            return refused("another action on the instance was still under way at the deadline");
        };
        if action.token < held.begun {
            return refused(&format!(
                "token {} is older than {}, which this node has begun here",
                action.token, held.begun
            ));
        }
        let token = action.token;
        Ok(Turn { held, token })
    }
}

impl<T> Turn<'_, T> {
    /// From here on lower tokens are refused: to be called before the first byte is sent.
    pub fn begin(&mut self) {
        self.held.begun = self.token;
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held.shared
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held.shared
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::action::ActionKind;
    use crate::id::{ActionId, Epoch, InstanceId, ServiceName, Term};

    fn action(step: u64, within: Duration) -> Action {
        Action {
            id: ActionId {
                term: Term(1),
                sequence: step,
            },
            service: ServiceName::new("s"),
            instance: InstanceId::new("h", 1),
            token: Token {
                epoch: Epoch(1),
                step,
            },
            deadline: Clock::new().now() + within,
            kind: ActionKind::Freeze,
        }
    }

    fn refusal<T>(taken: Result<Turn<'_, T>, Stop>) -> String {
        match taken {
            Err(Stop::Refused(text)) => text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it got its turn"),
        }
    }

    #[tokio::test]
    async fn a_lower_token_is_refused_once_a_higher_one_has_begun() {
        let (turns, clock) = (Turns::<()>::default(), Clock::new());
        let long = Duration::from_secs(60);
        drop(turns.take(&clock, &action(2, long)).await);
        // The other one was given up before it began.
        assert!(turns.take(&clock, &action(1, long)).await.is_ok());
        turns
            .take(&clock, &action(2, long))
            .await
            .expect("its turn")
            .begin();
        assert!(turns.take(&clock, &action(2, long)).await.is_ok());
        let text = refusal(turns.take(&clock, &action(1, long)).await);
        assert!(text.contains("older than"), "{text}");
    }

    #[tokio::test]
    async fn who_waits_is_refused_at_its_deadline() {
        let (turns, clock) = (Turns::<()>::default(), Clock::new());
        let first = turns
            .take(&clock, &action(1, Duration::from_secs(60)))
            .await;
        let text = refusal(
            turns
                .take(&clock, &action(1, Duration::from_millis(5)))
                .await,
        );
        assert!(text.contains("still under way"), "{text}");
        drop(first);
        let text = refusal(turns.take(&clock, &action(1, Duration::ZERO)).await);
        assert!(text.contains("had passed"), "{text}");
    }
}
