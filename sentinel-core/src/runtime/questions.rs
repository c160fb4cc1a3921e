//! Questions to the leader on their way into the machine, and the answers on their way back.
//!
//! Knows who waits for which answer. Does not look at either.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, oneshot};

use crate::id::Token;
use crate::sentinel::{Ask, AskError, Input};

/// Questions that may wait at the same time; whoever has more waits.
const QUESTIONS_MAX: usize = 64;

/// One question, and where its answer goes.
pub(super) type Question = (Ask, oneshot::Sender<Result<Token, AskError>>);

/// The machine's side.
pub(super) struct Questions {
    /// Kept, so that waiting for the next one never ends.
    sender: mpsc::Sender<Question>,
    asked: mpsc::Receiver<Question>,
    open: BTreeMap<u64, oneshot::Sender<Result<Token, AskError>>>,
    next_id: u64,
}

impl Questions {
    pub(super) fn new() -> Self {
        let (sender, asked) = mpsc::channel(QUESTIONS_MAX);
        Self {
            sender,
            asked,
            open: BTreeMap::new(),
            next_id: 0,
        }
    }

    /// Where to put questions.
    pub(super) fn sender(&self) -> mpsc::Sender<Question> {
        self.sender.clone()
    }

    /// The next question.
    pub(super) async fn next(&mut self) -> Input {
        let Some((ask, answer)) = self.asked.recv().await else {
            return std::future::pending().await;
        };
        self.open.retain(|_, waiting| !waiting.is_closed());
        let id = self.next_id;
        self.next_id += 1;
        self.open.insert(id, answer);
        Input::Ask { id, ask }
    }

    pub(super) fn answer(&mut self, id: u64, answer: Result<Token, AskError>) {
        if let Some(waiting) = self.open.remove(&id) {
            // Whoever asked may have gone.
            let _ = waiting.send(answer);
        }
    }
}
