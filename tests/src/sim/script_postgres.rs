//! Directed scenarios for servers of PostgreSQL's shape, as `script.rs` has them for both.
//!
//! Each brings a healthy cluster of the first server and its standbys to the point where one rule is all that protects an
//! acknowledged write or a whole copy.

use std::time::Duration;

use sentinel_core::ledger::Stage;

use super::instance::Duty;
use super::network::Place;
use super::postgres::{RECORD_BYTES_MAX, Replay, record};
use super::world::World;

/// S16: the only holder of the newest writes restarts, and replays slowly when the primary dies.
pub fn holder_replays_slowly(world: &mut World) {
    world.cut_replication(0, 2);
    world.cut_replication(0, 3);
    world.pass(Duration::from_millis(800));
    world.cut_replication(0, 1);
    world.kill_instance(1);
    world.restart_instance(1, u64::MAX);
    let now = world.now();
    let from = world.instances[1].offset().saturating_sub(1_000);
    world.instances[1].postgres.replay = Replay {
        from,
        begun: now,
        done: now + Duration::from_secs(6),
    };
    world.pass(Duration::from_millis(500));
    world.kill_instance(0);
    world.pass(Duration::from_secs(12));
    world.revive(0);
}

/// S9: the target is lost right after its promotion, before anybody follows it; clients knew its address.
pub fn target_lost_right_after_its_promotion(world: &mut World) {
    world.kill_instance(0);
    world.until(|world| (1..4).any(|i| world.instances[i].duty == Duty::Primary));
    let target = (1..4).find(|i| world.instances[*i].duty == Duty::Primary);
    if let Some(target) = target {
        world.give_up(0);
        world.connect(0, target);
        world.pass(Duration::from_millis(150));
        world.kill_instance(target);
        world.pass(Duration::from_secs(8));
        world.revive(target);
    }
    world.revive(0);
}

/// S12: the target promotes, is lost to the voters before they see it, and takes writes from clients that know its
/// address; its sibling is promoted at the same point, under the same name.
pub fn siblings_promoted_at_one_point(world: &mut World) {
    world.hang_instance(0);
    world.until(|world| (1..4).any(|i| world.promotes(i)));
    let target = (1..4).find(|i| world.promotes(*i)).unwrap_or(1);
    world.until(|world| world.instances[target].postgres.promoting.is_some());
    world.cut_control(target);
    world.until(|world| world.instances[target].duty == Duty::Primary);
    world.give_up(0);
    world.connect(0, target);
    world.until(|world| {
        let target = &world.instances[target];
        let fork = target
            .parent
            .as_ref()
            .map_or(u64::MAX, |fork| fork.offset.0);
        target.offset() > fork
    });
    world.pass(Duration::from_secs(4));
    world.mend_control(target);
    world.pass(Duration::from_secs(5));
}

/// Two members hold a piece of a record; the one that is promoted drops it. The other must not pass for further than the
/// third, which has what was acknowledged since.
pub fn torn_record_outlives_its_promotion(world: &mut World) {
    let value = world.number();
    let bytes: Vec<u64> = record(value, RECORD_BYTES_MAX).collect();
    let piece = bytes.len() - 2;
    for standby in 1..4 {
        world.cut_replication(0, standby);
    }
    world.pass(Duration::from_millis(50));
    world.kill_instance(0);
    let end = world.instances[2].log.len();
    for (i, upto) in [(0, bytes.len()), (1, piece), (3, piece)] {
        world.instances[i].log.truncate(end);
        world.instances[i].log.extend(&bytes[..upto]);
    }
    world
        .network
        .cut_both(Place::Instance(1), Place::Instance(3));
    let known = world.acknowledged.len();
    world.until(|world| world.instances[1].duty == Duty::Primary);
    world.until(|world| world.acknowledged.len() > known);
    world.kill_instance(1);
    world.pass(Duration::from_secs(5));
    world.revive(1);
    world.revive(0);
}

/// A standby that was out of reach during a failover has replayed beyond the fork; it is back, and must be rewound.
pub fn standby_beyond_the_fork(world: &mut World) {
    world.cut_control(2);
    // It leaves the write quorum, and goes on receiving; then it alone does.
    world.pass(Duration::from_secs(8));
    world.cut_replication(0, 1);
    world.cut_replication(0, 3);
    world.pass(Duration::from_millis(500));
    world.kill_instance(0);
    world.pass(Duration::from_secs(3));
    world.mend_control(2);
    world.pass(Duration::from_secs(5));
    world.revive(0);
}

/// Every voter is lost in the pause of a switchover, each seed at another moment of it; the agent of the paused primary with
/// them, or alone with a minority. What the primary takes by itself must not be lost when the others are back, with
/// whatever they had decided.
pub fn voters_lost_in_a_pause(world: &mut World) {
    let primary = world.primary_index();
    for look in 0..4_000 {
        if look % 100 == 0 && matches!(world.stage(), Some(Stage::Steady)) {
            world.ask_for_switchover();
        }
        world.pass(Duration::from_millis(5));
        if world.is_paused(primary) {
            break;
        }
    }
    let seed = world.settings.seed;
    world.pass(Duration::from_micros(seed * 3_700 % 90_000));
    world.totals.faults += 1;
    for n in 0..world.nodes.len() {
        let spared = seed.is_multiple_of(3) && n == primary;
        if world.nodes[n].is_alive() && !spared {
            world.crash_node(n);
        }
    }
    world.pass(Duration::from_millis(300));
    if !world.nodes[primary].is_alive() {
        world.start_node(primary);
    }
    let (outlasted, acknowledged) = (world.totals.outlasted, world.acknowledged.len());
    let until = world.now() + ALONE;
    let waits = |world: &World| world.acknowledged.len() == acknowledged;
    let back = world.run_while(until, waits);
    if world.totals.outlasted > outlasted && !back {
        let text = "a primary that came back by itself acknowledges nothing".to_owned();
        world.complain("8 progress", text);
    }
    world.pass(Duration::from_millis(seed * 97 % 3_000));
}

/// How long the voters are gone: a pause and a silence of its length, a start, and clients that find the primary again.
const ALONE: Duration = Duration::from_secs(20);

impl World {
    /// A dead server is started again, as whoever supervises it does; once more until it runs.
    fn revive(&mut self, i: usize) {
        let undo = super::nemesis::Undo::RestartInstance {
            instance: i,
            kept: u64::MAX,
        };
        self.undo(undo);
    }
}
