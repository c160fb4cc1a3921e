//! What waits to be sent to one peer: bounded, and never in the way of whoever fills it.
//!
//! When it is full the oldest message goes: Raft repeats what is lost, and an old message is worth less than a new one.
//! Does not know connections.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

const MESSAGES_MAX: usize = 256;
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// Encoded messages in order. One reader.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Outbox {
    /// Adds a message, and drops the oldest ones as long as there is too much.
    pub(super) fn push(&self, message: Vec<u8>) {
        let mut waiting = self.lock();
        waiting.bytes += message.len();
        waiting.messages.push_back(message);
        while waiting.messages.len() > MESSAGES_MAX || waiting.bytes > BYTES_MAX {
            waiting.pop();
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// The oldest message, if there is one.
    pub(super) fn pop(&self) -> Option<Vec<u8>> {
        self.lock().pop()
    }

    /// Waits for a message. Dropping the future loses none.
    pub(super) async fn next(&self) -> Vec<u8> {
        loop {
            if let Some(message) = self.pop() {
                return message;
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics half way, so a poisoned queue is a whole one.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Vec<u8>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_messages_go_first() {
        let outbox = Outbox::default();
        for n in 0..MESSAGES_MAX + 3 {
            outbox.push(n.to_le_bytes().to_vec());
        }
        assert_eq!(outbox.pop(), Some(3_usize.to_le_bytes().to_vec()));
        outbox.push(vec![0; BYTES_MAX]);
        assert_eq!(outbox.pop().map(|message| message.len()), Some(BYTES_MAX));
        assert_eq!(outbox.pop(), None);
    }
}
