//! What a server of PostgreSQL's shape does when it is ordered something over SQL, by a leader or by its own agent.
//!
//! Knows the engine's semantics and what an adapter checks before it acts: incarnation and position of a promotion
//! (rule S4), histories before a re-pointing. Does not know whether the order is wise.

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{InstanceId, Member, Token};
use sentinel_core::observation::{WriteQuorum, Writes};
use sentinel_core::planted::Bug;
use sentinel_core::position::Position;

use super::agent::Via;
use super::event::{Event, PostgresEvent};
use super::instance::Duty;
use super::invariant::{Happening, Was};
use super::network::Place;
use super::postgres::Entry;
use super::world::World;

/// What an order led to at once.
pub(super) enum Effect {
    /// It is carried out.
    Done,
    /// It goes on by itself, and is answered at its end.
    Later,
    /// The agent begins to rewind it from this server.
    Rewind(usize),
}

/// How long before its deadline an order that goes on is answered so, in milliseconds.
const ANSWER_MILLIS: u64 = 60;

impl World {
    /// A server just before it is ordered something.
    pub(super) fn was(&self, i: usize) -> Was {
        let instance = &self.instances[i];
        Was {
            // Told to promote, it is as good as a primary: a repeated order adds nothing.
            duty: match instance.postgres.promoting {
                Some(_) => Duty::Primary,
                None => instance.duty,
            },
            whole: instance.whole,
            incarnation: instance.incarnation(),
            position: instance.position(),
        }
    }

    /// Carries an action out on a server that runs; `None` when it is answered later.
    pub(super) fn carry_out_sql(&mut self, i: usize, via: Via, action: &Action) -> Option<Outcome> {
        let was = self.was(i);
        let result = match &action.kind {
            ActionKind::Freeze | ActionKind::StandDown { .. } => self.freeze_standby(i),
            ActionKind::Unfreeze { primary } | ActionKind::Repoint { primary } => {
                self.repoint_standby(i, via, primary)
            }
            ActionKind::Demote { primary } if self.is_standby(i) => {
                self.repoint_standby(i, via, primary)
            }
            ActionKind::Demote { .. } | ActionKind::Rebuild { .. } => {
                self.fence_by_sql(i, action.token);
                Err("needs an agent or a hand".to_owned())
            }
            ActionKind::Configure { quorum } => self.configure_primary(i, quorum),
            ActionKind::Promote {
                expect,
                position,
                quorum,
            } => self.promote_standby(i, expect, position, quorum),
            ActionKind::Pause { .. } | ActionKind::Resume => Err("needs an agent".to_owned()),
            ActionKind::RefuseWrites => self.take_writes(i, Writes::Refused),
            ActionKind::AcceptWrites => self.take_writes(i, Writes::Taken),
        };
        self.trace_order(
            i,
            action,
            result.as_ref().map_or_else(String::as_str, |_| "executes"),
        );
        let effect = match result {
            Ok(effect) => effect,
            Err(why) => return Some(Outcome::Refused(why)),
        };
        let instance = &mut self.instances[i];
        let forgets = action.kind == ActionKind::Freeze
            && self.settings.bugs.contains(&Bug::FreezeNotPersisted);
        if !forgets && instance.whole {
            instance.saved.duty = instance.duty;
        }
        instance.saved.quorum = instance.quorum.clone();
        instance.saved.writes = instance.postgres.writes;
        self.tell(&Happening::Executed {
            instance: i,
            action,
            was: &was,
        });
        match effect {
            Effect::Done => Some(Outcome::Done(self.read_facts(i))),
            Effect::Rewind(upstream) => {
                self.begin_job(i, upstream);
                Some(goes_on("rewinding"))
            }
            Effect::Later => {
                self.await_end(i, via, action);
                None
            }
        }
    }

    /// An order that goes on is answered when it has ended, and shortly before its deadline in any case.
    pub(super) fn await_end(&mut self, i: usize, via: Via, action: &Action) {
        self.awaited.push(super::agent::Awaited {
            instance: i,
            via,
            id: action.id,
        });
        let patience = self.settings.service().action_deadline;
        let patience = patience.saturating_sub(std::time::Duration::from_millis(ANSWER_MILLIS));
        let event = PostgresEvent::AnswerDue { id: action.id };
        self.schedule.after(patience, Event::Postgres(event));
    }

    pub(super) fn trace_order(&mut self, i: usize, action: &Action, done: &str) {
        self.trace.line(self.schedule.now(), || {
            format!(
                "{} at {:?}: {done} {} {}",
                self.addresses[i],
                self.instances[i].position(),
                action.token,
                action.kind.word()
            )
        });
    }

    fn freeze_standby(&mut self, i: usize) -> Result<Effect, String> {
        if !self.is_standby(i) {
            return Err("a primary cannot be frozen".to_owned());
        }
        self.turn(i, Duty::Frozen)?;
        Ok(Effect::Done)
    }

    /// The histories are compared first: a standby that has replayed beyond the fork would never stream again.
    fn repoint_standby(
        &mut self,
        i: usize,
        via: Via,
        primary: &InstanceId,
    ) -> Result<Effect, String> {
        if !self.is_standby(i) || self.instances[i].postgres.promoting.is_some() {
            return Err("a primary, or about to be one".to_owned());
        }
        let upstream = self.upstream_named(i, primary)?;
        if !self.has(Bug::RepointUnchecked) {
            match self.entry_seen(i, via, upstream)? {
                Entry::From(_) | Entry::Ahead => {}
                Entry::Diverged => {
                    let Via::Agent { .. } = via else {
                        return Err("has replayed beyond the fork: needs an agent".to_owned());
                    };
                    return Ok(Effect::Rewind(upstream));
                }
            }
        }
        self.turn(i, Duty::Follow(upstream))?;
        Ok(Effect::Done)
    }

    pub(super) fn upstream_named(&self, i: usize, primary: &InstanceId) -> Result<usize, String> {
        match self.index_of(primary) {
            Some(upstream) if upstream != i => Ok(upstream),
            Some(_) => Err("cannot follow itself".to_owned()),
            None => Err(format!("{primary} is unknown")),
        }
    }

    /// What the primary would say to this standby, as far as the one who orders can read the primary's history.
    pub(super) fn entry_seen(&self, i: usize, via: Via, upstream: usize) -> Result<Entry, String> {
        let node = match via {
            Via::Agent { node, .. } => node,
            Via::Connection(number) => self.connections.get(&number).map_or(0, |c| c.node),
        };
        let open = self
            .network
            .open_both(Place::Node(node), Place::Instance(upstream));
        if open && self.is_ready(upstream) {
            Ok(self.instances[upstream].entry_of(&self.instances[i]))
        } else {
            Err("the primary's history cannot be read".to_owned())
        }
    }

    /// The write quorum is the engine's own: whoever waits for it is judged by the new one at once.
    fn configure_primary(&mut self, i: usize, quorum: &WriteQuorum) -> Result<Effect, String> {
        if self.is_standby(i) {
            return Err("not a primary".to_owned());
        }
        self.instances[i].quorum = Some(quorum.clone());
        self.settle(i);
        Ok(Effect::Done)
    }

    fn promote_standby(
        &mut self,
        i: usize,
        expect: &Member,
        position: &Position,
        quorum: &WriteQuorum,
    ) -> Result<Effect, String> {
        let instance = &self.instances[i];
        if instance.incarnation() != expect.incarnation {
            return Err(format!("another incarnation, {}", instance.incarnation()));
        }
        if !self.is_standby(i) {
            // Found promoted: only the same promotion is the same.
            let same = instance.parent.as_ref().is_some_and(|fork| {
                fork.lineage == position.lineage && fork.offset <= position.offset
            });
            if !same {
                return Err("a primary from another position".to_owned());
            }
            self.instances[i].quorum = Some(quorum.clone());
            self.settle(i);
            return Ok(Effect::Done);
        }
        let at = self.read_position(i);
        if at.as_ref() != Some(position) {
            return Err(format!("at another position, {at:?}"));
        }
        if self.has(Bug::QuorumAfterPromote) {
            self.instances[i].quorum = None;
            self.instances[i].postgres.quorum_after = Some(quorum.clone());
        } else {
            self.instances[i].quorum = Some(quorum.clone());
        }
        if self.instances[i].postgres.promoting.is_none() {
            self.begin_promotion(i);
        }
        Ok(Effect::Later)
    }

    fn take_writes(&mut self, i: usize, writes: Writes) -> Result<Effect, String> {
        if self.is_standby(i) {
            return Err("not a primary".to_owned());
        }
        self.instances[i].postgres.writes = writes;
        Ok(Effect::Done)
    }

    /// What SQL can do against a deposed primary: it refuses writes, and nobody acknowledges what is written all the same.
    fn fence_by_sql(&mut self, i: usize, token: Token) {
        if self.is_standby(i) {
            return;
        }
        let nobody = WriteQuorum {
            version: token,
            k: 1,
            members: Default::default(),
        };
        let instance = &mut self.instances[i];
        instance.postgres.writes = Writes::Refused;
        instance.saved.writes = Writes::Refused;
        instance.quorum = Some(nobody.clone());
        instance.saved.quorum = Some(nobody);
        self.cut_guards(i);
    }
}

/// The outcome of an order that was begun and goes on.
pub(super) fn goes_on(text: &str) -> Outcome {
    Outcome::UnderWay(text.to_owned())
}
