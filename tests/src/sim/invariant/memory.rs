//! Invariant 10: no crash loses a committed decision or a vote. What a voter says is backed by its disk; it
//! votes once a term; and any two nodes that show one index show one table (`docs/safety.md`).

use std::collections::BTreeMap;

use sentinel_core::codec;
use sentinel_core::id::{Term, Token};
use sentinel_core::ledger::Table;
use sentinel_core::peer::{PeerMessage, RaftMessage};

use super::check::{Happening, Invariant};
use crate::sim::settings::service_name;
use crate::sim::world::World;

/// Raft's numbers of the messages that are promises: an append acknowledged, a vote asked for, a vote given.
const APPEND_ANSWER: i32 = 4;
const VOTE_REQUEST: i32 = 5;
const VOTE_ANSWER: i32 = 6;

/// What was shown and promised so far.
#[derive(Debug, Default)]
pub(super) struct NothingForgotten {
    tables: BTreeMap<u64, Vec<u8>>,
    decisions: BTreeMap<u64, (Token, Term, String)>,
    votes: BTreeMap<(usize, u64), u64>,
}

impl Invariant for NothingForgotten {
    fn name(&self) -> &'static str {
        "10 nothing is forgotten"
    }

    fn observe(&mut self, world: &World, seen: &Happening<'_>) -> Result<(), String> {
        if let Happening::Applied { node, table } = seen {
            return self.applied(*node, table);
        }
        if let Happening::Sent {
            node,
            message: PeerMessage::Raft(message),
        } = seen
        {
            return self.promised(world, *node, message);
        }
        Ok(())
    }
}

impl NothingForgotten {
    fn applied(&mut self, node: usize, table: &Table) -> Result<(), String> {
        let (name, index) = (node + 1, table.index);
        let bytes = codec::encode(table);
        let first = self.tables.entry(index).or_insert_with(|| bytes.clone());
        if *first != bytes {
            return Err(format!("s{name} shows another table at index {index}"));
        }
        let service = table.services.get(&service_name());
        for entry in service.iter().flat_map(|service| &service.history) {
            let decision = (entry.token, entry.term, entry.decision.clone());
            let step = entry.token.step;
            let known = self
                .decisions
                .entry(step)
                .or_insert_with(|| decision.clone());
            if *known != decision {
                return Err(format!(
                    "step {step} is {known:?} on one node, {decision:?} on s{name}"
                ));
            }
        }
        Ok(())
    }

    fn promised(
        &mut self,
        world: &World,
        node: usize,
        message: &RaftMessage,
    ) -> Result<(), String> {
        let name = node + 1;
        let disk = &world.nodes[node].disk;
        let hard_state = disk.restored().hard_state;
        let voted = match message.kind {
            APPEND_ANSWER if !message.reject && message.index > disk.last_index() => {
                return Err(format!(
                    "s{name} acknowledges entry {}, and its disk ends at {}",
                    message.index,
                    disk.last_index()
                ));
            }
            VOTE_REQUEST => true,
            VOTE_ANSWER => !message.reject,
            _other_message => false,
        };
        if !voted {
            return Ok(());
        }
        if hard_state.term < message.term || hard_state.vote == 0 {
            return Err(format!(
                "s{name} votes in term {}, and its disk says {hard_state:?}",
                message.term
            ));
        }
        if hard_state.term > message.term {
            return Ok(());
        }
        let key = (node, message.term);
        let first = self.votes.entry(key).or_insert(hard_state.vote);
        if *first != hard_state.vote {
            return Err(format!("s{name} votes twice in term {}", message.term));
        }
        Ok(())
    }
}
