//! What a simulated server does when it is ordered something, as one transaction, and what breaks by it.
//!
//! Knows the engine's semantics, not whether the order is wise. Incarnation and position of a promotion
//! are compared here, on the very connection that promotes (rule S4).

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{InstanceId, Member};
use sentinel_core::observation::WriteQuorum;
use sentinel_core::planted::Bug;
use sentinel_core::position::Position;

use super::event::{GuardEvent, ReplicationEvent};
use super::instance::{Downstream, Duty, Feed, Process};
use super::invariant::Happening;
use super::world::World;

impl World {
    /// Carries an action out on a server that runs.
    pub(super) fn carry_out_order(&mut self, i: usize, action: &Action) -> Outcome {
        let was = self.was(i);
        let result = match &action.kind {
            ActionKind::Freeze | ActionKind::StandDown { .. } => self.turn(i, Duty::Frozen),
            ActionKind::Unfreeze { primary }
            | ActionKind::Demote { primary }
            | ActionKind::Rebuild { primary, .. }
            | ActionKind::Repoint { primary } => self.follow(i, primary),
            ActionKind::Configure { quorum } => self.configure(i, quorum),
            ActionKind::Promote {
                expect,
                position,
                quorum,
            } => self.promote(i, expect, position, quorum),
            ActionKind::Pause { limit } => self.hold_writes(i, *limit),
            ActionKind::Resume => self.hold_writes(i, Duration::ZERO),
            ActionKind::RefuseWrites | ActionKind::AcceptWrites => {
                Err("refuses writes by itself".to_owned())
            }
        };
        let done = result.as_ref().err().map_or("executes", String::as_str);
        self.trace_order(i, action, done);
        match result {
            Err(why) => Outcome::Refused(why),
            Ok(()) => {
                let instance = &mut self.instances[i];
                let forgets = action.kind == ActionKind::Freeze
                    && self.settings.bugs.contains(&Bug::FreezeNotPersisted);
                if !forgets {
                    instance.saved.duty = instance.duty;
                }
                instance.saved.quorum = instance.quorum.clone();
                self.tell(&Happening::Executed {
                    instance: i,
                    action,
                    was: &was,
                });
                Outcome::Done(Box::new(self.instances[i].facts(&self.addresses)))
            }
        }
    }

    fn follow(&mut self, i: usize, primary: &InstanceId) -> Result<(), String> {
        match self.index_of(primary) {
            Some(upstream) if upstream != i => self.turn(i, Duty::Follow(upstream)),
            Some(_) => Err("cannot follow itself".to_owned()),
            None => Err(format!("{primary} is unknown")),
        }
    }

    fn configure(&mut self, i: usize, quorum: &WriteQuorum) -> Result<(), String> {
        if self.instances[i].duty != Duty::Primary {
            return Err("not a primary".to_owned());
        }
        self.instances[i].quorum = Some(quorum.clone());
        self.cut_guards(i);
        Ok(())
    }

    fn hold_writes(&mut self, i: usize, limit: Duration) -> Result<(), String> {
        let until = self.now() + limit;
        let instance = &mut self.instances[i];
        if instance.duty != Duty::Primary {
            return Err("not a primary".to_owned());
        }
        instance.paused_until = until;
        Ok(())
    }

    fn promote(
        &mut self,
        i: usize,
        expect: &Member,
        position: &Position,
        quorum: &WriteQuorum,
    ) -> Result<(), String> {
        let fresh = self.fresh_lineage();
        let instance = &mut self.instances[i];
        if instance.incarnation() != expect.incarnation {
            return Err(format!("another incarnation, {}", instance.incarnation()));
        }
        if instance.duty == Duty::Primary {
            // Found promoted: only the same promotion is the same.
            if instance.parent.as_ref() != Some(position) {
                return Err("a primary from another position".to_owned());
            }
        } else {
            if instance.position().as_ref() != Some(position) {
                return Err(format!("at another position, {:?}", instance.position()));
            }
            instance.promote(fresh);
            self.totals.promotions += 1;
            self.unlink(i);
            self.drop_downstream(i);
        }
        self.instances[i].quorum = Some(quorum.clone());
        self.cut_guards(i);
        Ok(())
    }

    /// Changes whom a server receives from. A server told what it does already goes on undisturbed.
    pub(super) fn turn(&mut self, i: usize, duty: Duty) -> Result<(), String> {
        self.cut_guards(i);
        if self.instances[i].duty == duty {
            return Ok(());
        }
        self.instances[i].duty = duty;
        self.unlink(i);
        self.drop_downstream(i);
        match duty {
            Duty::Follow(_) => {
                let delay = self.chance.millis(1, 50);
                self.reconnect(i, delay);
            }
            Duty::Primary | Duty::Frozen => {}
        }
        Ok(())
    }

    /// Closes a server's link upwards, and tells the other end.
    pub(super) fn unlink(&mut self, i: usize) {
        let link = self.instances[i].link;
        self.instances[i].feed = Feed::Broken;
        self.instances[i].link = self.number();
        for upstream in 0..self.instances.len() {
            let connected = |seen: &Downstream| seen.link == link;
            if upstream != i
                && self.instances[upstream]
                    .downstream
                    .get(&i)
                    .is_some_and(connected)
            {
                let delay = self.network.segment();
                self.replicate(
                    delay,
                    ReplicationEvent::Gone {
                        upstream,
                        replica: i,
                        link,
                    },
                );
            }
        }
    }

    /// Closes a server's links to its replicas, and tells them.
    pub(super) fn drop_downstream(&mut self, i: usize) {
        let lost: BTreeMap<usize, Downstream> = std::mem::take(&mut self.instances[i].downstream);
        for (replica, seen) in lost {
            let delay = self.network.segment();
            let link = seen.link;
            self.replicate(delay, ReplicationEvent::Lost { replica, link });
        }
    }

    /// Closes the guards' connections to a server.
    pub(super) fn cut_guards(&mut self, i: usize) {
        self.waiters.retain(|waiter| waiter.instance != i);
        for connection in std::mem::take(&mut self.instances[i].guards) {
            let delay = self.network.segment();
            let event = GuardEvent::Closed {
                guard: connection.guard,
                number: connection.number,
                instance: i,
            };
            self.schedule
                .after(delay, super::event::Event::Guard(event));
        }
    }

    /// A server's process ends.
    pub fn kill_instance(&mut self, i: usize) {
        if self.instances[i].process == Process::Dead {
            return;
        }
        self.forget(super::network::Place::Instance(i));
        self.cut_guards(i);
        self.unlink(i);
        self.drop_downstream(i);
        self.close_others(i, None);
        self.instances[i].die();
        self.awaited.retain(|it| it.instance != i);
        self.note_process(i);
        self.trace.line(self.schedule.now(), || {
            format!("{} dies", self.addresses[i])
        });
    }

    /// A server starts with what its disk kept: the oldest so many writes.
    pub fn restart_instance(&mut self, i: usize, kept: u64) {
        if self.instances[i].process != Process::Dead {
            return;
        }
        if self.is_postgres() {
            self.start_server(i);
            return;
        }
        let fresh = self.fresh_lineage();
        if kept < self.instances[i].offset() {
            self.totals.memory_losses += 1;
        }
        self.instances[i].restart(kept, fresh);
        self.trace.line(self.schedule.now(), || {
            format!(
                "{} restarts as {:?} at {:?}",
                self.addresses[i],
                self.instances[i].duty,
                self.instances[i].position()
            )
        });
        self.tell(&Happening::Restarted { instance: i });
        let delay = self.chance.millis(1, 300);
        self.reconnect(i, delay);
    }

    /// Stops a server's process.
    pub fn hang_instance(&mut self, i: usize) {
        if self.instances[i].process == Process::Running {
            self.instances[i].process = Process::Hung;
            self.trace.line(self.schedule.now(), || {
                format!("{} hangs", self.addresses[i])
            });
        }
    }

    /// Lets it go on.
    pub fn resume_instance(&mut self, i: usize) {
        if self.instances[i].process == Process::Hung {
            self.instances[i].process = Process::Running;
            self.trace.line(self.schedule.now(), || {
                format!("{} goes on", self.addresses[i])
            });
            self.resume(super::network::Place::Instance(i));
        }
    }

    /// Lets a replica try to connect to its upstream after a while.
    pub(super) fn reconnect(&mut self, replica: usize, delay: Duration) {
        match self.instances[replica].duty {
            Duty::Follow(_) => {
                let link = self.number();
                self.instances[replica].link = link;
                self.instances[replica].feed = Feed::Broken;
                self.replicate(delay, ReplicationEvent::Connect { replica, link });
            }
            Duty::Primary | Duty::Frozen => {}
        }
    }
}
