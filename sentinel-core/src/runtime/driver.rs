//! The loop: waits, feeds the machine, carries out what it asks for, in order.
//!
//! Does not look at what passes through it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::id::{InstanceId, ServiceName};
use crate::sentinel::{Input, Output, Sentinel};
use crate::time::Instant;

use super::adapter::AgentNote;
use super::board::Board;
use super::clock::Clock;
use super::hands::Hands;
use super::log_file::LogError;
use super::questions::Questions;
use super::storage::Storage;
use super::transport::Peers;

/// The machine as its driver sees it.
pub(super) trait Machine {
    fn handle(&mut self, now: Instant, input: Input);
    fn poll_output(&mut self) -> Option<Output>;
    fn poll_timeout(&self) -> Instant;
}

impl Machine for Sentinel {
    fn handle(&mut self, now: Instant, input: Input) {
        self.handle(now, input);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.poll_output()
    }

    fn poll_timeout(&self) -> Instant {
        self.poll_timeout()
    }
}

/// A machine and everything that it acts with.
pub(super) struct Driver<M> {
    pub(super) machine: M,
    pub(super) clock: Clock,
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) disconnects: mpsc::Receiver<(ServiceName, InstanceId)>,
    pub(super) notes: mpsc::Receiver<AgentNote>,
    pub(super) questions: Questions,
    pub(super) stop: CancellationToken,
    pub(super) storage: Storage,
    pub(super) peers: Peers,
    pub(super) hands: Hands,
    pub(super) board: Arc<Board>,
}

/// Whether the machine goes on.
#[derive(PartialEq, Eq)]
enum Carried {
    All,
    Stopped,
}

impl<M: Machine> Driver<M> {
    /// Runs until the machine has stopped, or its log has failed.
    pub(super) async fn run(&mut self) -> Result<(), LogError> {
        let mut stopping = false;
        loop {
            if self.carry_out().await? == Carried::Stopped {
                return Ok(());
            }
            let wait = self.clock.until(self.machine.poll_timeout());
            let input = tokio::select! {
                Some(input) = self.inputs.recv() => input,
                Some((service, instance)) = self.disconnects.recv() => {
                    Input::Disconnected { service, instance }
                }
                Some(note) = self.notes.recv() => {
                    let AgentNote { service, instance, state } = note;
                    Input::Noted { service, instance, state }
                }
                input = self.questions.next() => input,
                input = self.hands.answer() => input,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    Input::Stop
                }
                () = tokio::time::sleep(wait) => Input::Tick,
            };
            self.machine.handle(self.clock.now(), input);
        }
    }

    async fn carry_out(&mut self) -> Result<Carried, LogError> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Persist(persist) => self.storage.append(persist).await?,
                Output::Send { to, message } => self.peers.send(&to, &message),
                Output::Probe(request) => self.hands.probe(request),
                Output::Act(action) => self.hands.act(*action),
                Output::Publish(event) => self.board.publish(*event),
                Output::View(view) => self.board.show(view),
                Output::Answered { id, answer } => self.questions.answer(id, answer),
                Output::Stopped => return Ok(Carried::Stopped),
            }
        }
        Ok(Carried::All)
    }
}
