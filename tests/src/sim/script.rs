//! Directed scenarios: the traces of the protocol's known holes, played by faults at chosen points.
//!
//! Each begins with a healthy cluster of one primary (0) and two replicas (1, 2), brings it to the point
//! where one rule is all that protects an acknowledged write, mends everything, and lets the invariants
//! judge. With the rule in place nothing may be violated.

use std::time::Duration;

use sentinel_core::ledger::Stage;
use sentinel_core::planted::Bug;

use super::event::RequestId;
use super::instance::Duty;
use super::network::Place;
use super::node::Node;
use super::run::{Report, finish};
use super::settings::{Fencing, Settings, Shape};
use super::trace::Text;
use super::world::World;

/// A scenario, given its cluster when it is healthy.
pub type Scenario = fn(&mut World);

/// Longest wait for a condition of a scenario.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays a scenario with these rules left out, then mends everything and demands the usual.
pub fn play(scenario: Scenario, bugs: Vec<Bug>, seed: u64) -> Report {
    play_on(Settings::quiet(seed), scenario, bugs)
}

/// Plays a scenario on servers of PostgreSQL's shape, each with its agent.
pub fn play_on_postgres(scenario: Scenario, bugs: Vec<Bug>, seed: u64) -> Report {
    let settings = Settings {
        shape: Shape::Postgres,
        instances: 4,
        agents: 3,
        ..Settings::quiet(seed)
    };
    play_on(settings, scenario, bugs)
}

fn play_on(mut settings: Settings, scenario: Scenario, bugs: Vec<Bug>) -> Report {
    settings.bugs = bugs;
    settings.text = Text::On;
    let mut world = World::new(settings);
    world.form();
    // Adoption, configuration and the first admissions come to rest.
    world.pass(Duration::from_secs(2));
    scenario(&mut world);
    let recovered = world.conclude();
    finish(&world, recovered)
}

/// S2: the target is lost before anybody followed it, and the only other copy lies below the floor.
pub fn target_lost_before_it_was_followed(world: &mut World) {
    world.cut_replication(0, 1);
    world.pass(Duration::from_millis(500));
    world.hang_instance(0);
    world.until(|world| world.promotes(2));
    world.hang_instance(2);
    world.pass(Duration::from_secs(8));
}

/// S3: the only holder is excluded before the remaining member has what it had.
pub fn holder_excluded(world: &mut World) {
    world.cut_replication(0, 2);
    world.pass(Duration::from_millis(500));
    world.hang_instance(1);
    world.pass(Duration::from_secs(8));
    world.hang_instance(0);
    world.pass(Duration::from_secs(5));
}

/// S4: the only holder restarts without the newest writes, and comes back under its old name.
pub fn holder_restarted_without_its_tail(world: &mut World) {
    world.cut_replication(0, 1);
    world.pass(Duration::from_millis(500));
    world.cut_replication(0, 2);
    world.pass(Duration::from_millis(100));
    let kept = world.instances[1].offset();
    world.kill_instance(2);
    world.restart_instance(2, kept);
    world.pass(Duration::from_millis(300));
    world.hang_instance(0);
    world.pass(Duration::from_secs(5));
}

/// S4: the only holder of the newest writes restarts with all that it had, and nobody has trusted its new life.
pub fn holder_restarted_and_chosen(world: &mut World) {
    world.cut_replication(0, 2);
    world.pass(Duration::from_millis(500));
    world.cut_replication(0, 1);
    let all = world.instances[1].offset();
    world.kill_instance(1);
    world.restart_instance(1, all);
    world.pass(Duration::from_millis(300));
    world.hang_instance(0);
    world.pass(Duration::from_secs(5));
}

/// S9: nobody can follow the promoted target, and it is lost. What it acknowledged alone is lost with it.
pub fn target_lost_while_alone(world: &mut World) {
    world.cut_replication(1, 2);
    world.hang_instance(0);
    world.until(|world| matches!(world.stage(), Some(Stage::Repointing)));
    // A guard that still waits for the old primary gives it up, and finds the new one.
    world.pass(Duration::from_millis(1_500));
    let primary = world.service().and_then(|service| service.primary.clone());
    if let Some(target) = primary.and_then(|primary| world.index_of(&primary.instance)) {
        world.hang_instance(target);
    }
    world.pass(Duration::from_secs(5));
}

/// S6: the freeze of a leader that then stands still is under way, arrives late, and finds the server
/// promoted or re-pointed by the next leader.
pub fn order_arrives_late(world: &mut World) {
    world.hang_instance(0);
    world.until(|world| matches!(world.stage(), Some(Stage::Freezing)));
    let Some(leader) = world.nodes.iter().position(Node::is_leader) else {
        return;
    };
    // A follower may show the decision first; the cut is to come while the leader's orders are on their way.
    world.until(|world| {
        let mut requests = world.nodes[leader].pending.keys();
        requests.any(|id| matches!(id, RequestId::Action(_)))
    });
    world.network.cut(Place::Node(leader), Place::Instance(1));
    world.pause_node(leader);
    world.until(|world| matches!(world.stage(), Some(Stage::Steady)));
    world.network.mend(Place::Node(leader), Place::Instance(1));
    world.pass(Duration::from_secs(2));
    world.resume_node(leader);
    world.pass(Duration::from_secs(2));
}

/// S14: the same, where the server's agent keeps the highest token and no connection is closed.
pub fn order_arrives_late_at_an_agent(world: &mut World) {
    world.settings.fencing = Fencing::Tokens;
    order_arrives_late(world);
}

/// L3, found by seed 20 of `AdmitBeforeData`: the old primary has writes of its own, follows the new one by name,
/// and cannot receive from it. As a member it could never be counted, and the loss of the new primary, which one
/// copy survives, would block for ever.
pub fn old_primary_back_without_data(world: &mut World) {
    world.cut_replication(0, 1);
    world.cut_replication(0, 2);
    world.pass(Duration::from_millis(500));
    world.hang_instance(0);
    world.until(|world| matches!(world.stage(), Some(Stage::Repointing)));
    world.until(|world| matches!(world.stage(), Some(Stage::Steady)));
    world.resume_instance(0);
    world.pass(Duration::from_secs(2));
    let primary = world.service().and_then(|service| service.primary.clone());
    if let Some(primary) = primary.and_then(|primary| world.index_of(&primary.instance)) {
        world.kill_instance(primary);
        world.pass(Duration::from_secs(2));
        // It comes back empty, and only when no other follows it any longer and would be wiped by it.
        if world.may_restart(primary) {
            world.restart_instance(primary, 0);
        }
    }
}

/// The freeze of a replica that restarts while frozen: the old primary is there to feed it again.
pub fn frozen_replica_restarted(world: &mut World) {
    primary_freezes_one(world);
    world.cut_control(1);
    world.resume_instance(0);
    let all = world.instances[1].offset();
    world.kill_instance(1);
    world.restart_instance(1, all);
    world.pass(Duration::from_secs(3));
}

/// S13: the primary is back while one replica is frozen and the other out of reach, so that nothing seals.
pub fn primary_back_while_freezing(world: &mut World) {
    primary_freezes_one(world);
    world.resume_instance(0);
    world.pass(Duration::from_secs(3));
}

/// S5: a replica is still frozen from a failover that was given up, its unfreeze is on the way, and the
/// primary fails again.
pub fn found_frozen(world: &mut World) {
    primary_freezes_one(world);
    world.resume_instance(0);
    world.until(|world| matches!(world.stage(), Some(Stage::Steady)));
    world.cut_control(1);
    world.hang_instance(0);
    world.pass(Duration::from_secs(2));
    world.mend_control(1);
    world.mend_control(2);
    world.pass(Duration::from_secs(5));
}

/// Found by seeds 10222, 10304 and 20320: the member that is to remain restarts in the middle of an exclusion. Its
/// new life was not accepted before the change ended, and the change waited for its old one, for ever.
pub fn member_restarted_during_a_change(world: &mut World) {
    world.hang_instance(2);
    world.until(|world| world.service().is_some_and(|s| s.configs.len() == 2));
    let kept = world.instances[1].offset() - 1;
    world.kill_instance(1);
    world.restart_instance(1, kept);
    world.pass(Duration::from_secs(5));
}

/// A failover begins, freezes one replica, and cannot reach the other.
fn primary_freezes_one(world: &mut World) {
    world.hang_instance(0);
    world.until(|world| matches!(world.stage(), Some(Stage::Freezing)));
    world.cut_control(2);
    world.until(|world| world.instances[1].duty == Duty::Frozen);
}

impl World {
    /// Lets time pass.
    pub fn pass(&mut self, duration: Duration) {
        self.run_until(self.now() + duration);
    }

    /// Lets time pass until a condition holds; a scenario whose point is never reached shows nothing.
    pub(super) fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        let limit = self.now() + PATIENCE;
        let reached = self.run_while(limit, |world| !holds(world));
        if !reached {
            let state = self.describe();
            self.complain("the scenario's point", format!("never reached: {state}"));
        }
    }

    pub(super) fn stage(&self) -> Option<&Stage> {
        self.service().map(|service| &service.stage)
    }

    pub(super) fn promotes(&self, index: usize) -> bool {
        match self.stage() {
            Some(Stage::Promoting { target, .. }) => target.instance == self.addresses[index],
            Some(
                Stage::Unadopted
                | Stage::Steady
                | Stage::Switching { .. }
                | Stage::Freezing
                | Stage::Repointing,
            )
            | None => false,
        }
    }

    pub(super) fn cut_replication(&mut self, one: usize, other: usize) {
        self.network
            .cut_both(Place::Instance(one), Place::Instance(other));
    }

    /// No node reaches this server.
    pub(super) fn cut_control(&mut self, instance: usize) {
        for n in 0..self.nodes.len() {
            self.network
                .cut_both(Place::Node(n), Place::Instance(instance));
        }
    }

    pub(super) fn mend_control(&mut self, instance: usize) {
        for n in 0..self.nodes.len() {
            let (node, server) = (Place::Node(n), Place::Instance(instance));
            self.network.mend(node, server);
            self.network.mend(server, node);
        }
    }
}
