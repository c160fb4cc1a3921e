//! Scripts of what once left the protocol: each lost a write, overwrote a copy or stood still for ever.

use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_core::ledger::Stage;

use crate::world::{World, instance};

const LONG: Duration = Duration::from_secs(30);

/// Two data nodes: the primary pauses, the only replica is told to promote, hangs and restarts (Redis: a new
/// incarnation). The primary is back with everything, and must be promoted again (S13, invariant 8).
#[test]
fn the_old_primary_is_promoted_again_when_the_told_one_is_lost() {
    let mut world = World::new(1);
    world.steady_on(0, 1);
    world.server(1).hang_on = Some("promote");
    world.server(0).hung = true;
    world.until("told", |world| !world.state().told.is_empty());
    world.server(0).hung = false;
    let server = world.server(1);
    (server.life, server.hung, server.hang_on) = (2, false, None);
    (server.primary, server.upstream) = (false, None);
    world.run(LONG);
    assert_eq!(world.state().stage, Stage::Steady, "{:?}", world.report());
}

/// The same with three data nodes, one failure for good, and a replica that lags by ten bytes.
#[test]
fn the_old_primary_is_promoted_again_when_the_rest_is_below_the_floor() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let server = world.server(2);
    (server.lagging, server.offset) = (true, 90);
    world.server(1).hang_on = Some("promote");
    world.server(0).hung = true;
    world.until("told", |world| !world.state().told.is_empty());
    world.server(0).hung = false;
    world.server(1).alive = false;
    world.run(LONG);
    assert_eq!(world.state().stage, Stage::Steady, "{:?}", world.report());
}

#[test]
fn an_empty_primary_is_not_adopted_over_replicas_with_data() {
    let mut world = World::with_seeds(2, (0..3).map(instance).collect());
    let server = world.server(0);
    (
        server.life,
        server.holds_data,
        server.lineage,
        server.offset,
    ) = (2, false, 50, 0);
    for n in [1, 2] {
        world.server(n).upstream = None;
    }
    world.run(LONG);
    let orders = world.server(1).orders.clone();
    let report = world.report();
    assert_eq!(world.server(1).offset, 100, "{orders:?} {report:?}");
}

#[test]
fn a_stale_primary_is_not_adopted_while_the_real_one_is_late() {
    let mut world = World::with_seeds(1, (0..2).map(instance).collect());
    let server = world.server(0);
    (server.lineage, server.offset) = (7, 10);
    let server = world.server(1);
    (server.primary, server.upstream, server.offset, server.hung) = (true, None, 100_000, true);
    world.run(Duration::from_secs(3));
    world.server(1).hung = false;
    world.run(LONG);
    let orders = world.server(1).orders.clone();
    assert_eq!(world.server(1).offset, 100_000, "{orders:?}");
}

/// Two unobserved promotions of one instance: its fork is two branches off the chain.
#[test]
fn an_instance_told_twice_still_counts() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let server = world.server(2);
    (server.lagging, server.offset) = (true, 90);
    world.server(1).hang_on = Some("promote");
    world.server(0).alive = false;
    for epoch in [3, 4] {
        world.until("told", |world| {
            world.state().stage == Stage::Freezing && world.state().token.epoch.0 == epoch
        });
        world.server(1).hung = false;
    }
    world.server(1).hang_on = None;
    world.run(LONG);
    assert_ne!(world.state().stage, Stage::Freezing, "{:?}", world.report());
}

#[test]
fn a_replica_that_never_finishes_its_sync_does_not_hold_up_the_others() {
    let mut world = World::new(3);
    world.server(3).synced = false;
    world.steady_on(0, 2);
    world.server(2).upstream = Some(instance(1));
    world.run(LONG);
    let report = world.report();
    assert_eq!(world.server(2).upstream, Some(instance(0)), "{report:?}");
}

/// Somebody made the primary a replica and a primary again by hand, and the replicas have followed: its history has
/// left the authorised one, and so has every copy. A failover could come to no end and would only stop the writes, so
/// the primary is left alone; what is wrong is said.
#[test]
fn a_primary_off_the_chain_is_left_alone_and_reported() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let server = world.server(0);
    (server.lineage, server.fork) = (60, Some((1, 100)));
    world.run(LONG);
    assert_eq!(world.state().stage, Stage::Steady);
    assert!(world.server(0).primary);
    let report = world.report();
    for code in ["primary_diverged", "veto_off_chain"] {
        assert!(
            report.iter().any(|said| said == code),
            "{code} in {report:?}"
        );
    }
}

/// A probe sets out, the write quorum is set and read back, the change is finished; then the probe's answer
/// comes, older than all that. If the primary dies now, the excluded member must not be needed.
#[test]
fn a_reading_from_before_a_change_is_no_foreign_write_quorum() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.slow_probe = Duration::from_millis(80);
    world.slow_configure = Duration::from_millis(30);
    world.run(Duration::from_secs(1));
    world.server(2).alive = false;
    world.steady_on(0, 1);
    world.server(0).alive = false;
    world.run(LONG);
    let (state, report) = (world.state(), world.report());
    assert_eq!(
        state.answer.unwrap().primary,
        instance(1),
        "{report:?} {:?}",
        state.configs
    );
}

/// The seed is a host name; the engine reports addresses. One server under two names.
#[test]
fn one_server_under_two_names_is_one_server() {
    let host = InstanceId::new("db0", 6000);
    let mut world = World::with_seeds(1, [host.clone()].into());
    world.aliases.insert(host.clone(), instance(0));
    world.server(1).upstream = Some(host);
    world.until("adopted", |world| {
        world
            .leader()
            .is_some_and(|_| world.nodes.values().all(|n| !n.table().services.is_empty()))
            && world.state().configs.iter().any(|c| c.members.len() == 1)
    });
    world.run(Duration::from_secs(1));
    // The primary dies, and comes back as a replica: the new primary lists it by its address.
    world.server(0).alive = false;
    world.steady_on(1, 0);
    let server = world.server(0);
    (server.life, server.alive) = (2, true);
    world.run(Duration::from_secs(5));
    let members = world.state().configs[0].members.clone();
    // Now the other way round.
    world.server(1).alive = false;
    world.run(LONG);
    let (primary, orders) = (world.server(0).primary, world.server(0).orders.clone());
    assert!(
        primary,
        "members {members:?}, stage {:?}, epoch {:?}, last orders {:?}",
        world.state().stage,
        world.state().token,
        &orders[orders.len().saturating_sub(8)..]
    );
}

/// The same where the replicas name their primary by address.
#[test]
fn a_seed_by_name_is_adopted() {
    let host = InstanceId::new("db0", 6000);
    let mut world = World::with_seeds(1, [host.clone()].into());
    world.aliases.insert(host, instance(0));
    world.run(LONG);
    assert_eq!(world.state().stage, Stage::Steady, "{:?}", world.report());
}

/// Rule S3: the old write quorum comes into force once more (by hand) after the new one was read back; a write is
/// acknowledged under it by the excluded member alone. The mark taken before is too low.
#[test]
fn the_catch_up_mark_is_taken_anew_when_an_old_write_quorum_was_back_in_force() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let old = world.server(0).quorum.clone();
    let server = world.server(1);
    (server.lagging, server.offset) = (true, 90);
    world.server(2).alive = false;
    world.until("joint", |world| world.state().configs.len() == 2);
    world.run(Duration::from_millis(500));
    // The excluded one is back for a moment and acknowledges the write at 150.
    world.server(2).alive = true;
    (world.server(0).quorum, world.server(0).offset) = (old, 150);
    world.until("acknowledged by 2 alone", |world| {
        world.server(2).offset == 150
    });
    world.server(2).alive = false;
    world.run(Duration::from_millis(500));
    world.server(1).offset = 120;
    world.run(Duration::from_secs(2));
    let before = world.state().configs.len();
    world.server(0).alive = false;
    world.run(Duration::from_secs(5));
    let answer = world.state().answer.unwrap();
    assert_ne!(
        answer.primary,
        instance(1),
        "the write at 150 is lost; configs before: {before}"
    );
}

/// Rule L6: the decision to freeze outlives its leader; the next one acts a second later, when the primary is
/// healthy again and nobody was frozen. It must give the failover up.
#[test]
fn a_new_leader_does_not_freeze_under_a_healthy_primary() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    (world.server(1).deaf, world.server(2).deaf) = (true, true);
    world.server(0).hung = true;
    world.until("freezing", |world| world.state().stage == Stage::Freezing);
    let leader = world.leader().unwrap();
    world.dead.insert(leader);
    world.server(0).hung = false;
    (world.server(1).deaf, world.server(2).deaf) = (false, false);
    world.until("a new leader", |world| world.leader().is_some());
    world.run(Duration::from_secs(5));
    assert_eq!(
        world.state().answer.unwrap().primary,
        instance(0),
        "a healthy primary was replaced"
    );
}

/// PostgreSQL freezes no primary. The target promotes, is lost before anybody saw it, and comes back as a primary, with
/// all that was acknowledged; the other replica lags. It must be chosen again, from where it forked (S10, L7).
#[test]
fn a_told_primary_that_cannot_be_frozen_is_promoted_again() {
    let mut world = stubborn_target_lost(0);
    world.server(1).hung = false;
    world.run(LONG);
    let state = world.state();
    assert_eq!(state.stage, Stage::Steady, "{:?}", world.report());
    assert_eq!(state.answer.unwrap().primary, instance(1));
    assert_eq!(world.server(2).upstream, Some(instance(1)));
    let config = state.configs[0].write_quorum();
    assert_eq!(world.server(1).quorum, Some(config), "the last in force");
}

/// The same, and what it had received last was a piece of a record: it forked below the floor that it had become.
#[test]
fn a_told_primary_counts_although_it_forked_below_the_floor() {
    let mut world = stubborn_target_lost(4);
    assert_eq!(world.state().floor.0, 100);
    world.server(1).hung = false;
    world.run(LONG);
    let state = world.state();
    assert_eq!(state.stage, Stage::Steady, "{:?}", world.report());
    assert_eq!(state.answer.unwrap().primary, instance(1));
    assert_eq!(state.floor.0, 96);
}

/// Both forked below the point at which they were told; the second one was seen, and a member has a write of its branch
/// there, at an offset that the first one once had as a piece of a record. That piece must not win over the write (S2).
#[test]
fn a_told_primary_does_not_outrank_the_writes_of_the_one_that_came_after_it() {
    let mut world = World::new(3);
    world.steady_on(0, 3);
    for n in 0..4 {
        world.server(n).stubborn = true;
    }
    (world.server(1).torn, world.server(2).torn) = (4, 4);
    world.server(1).hang_on = Some("promote");
    world.server(0).alive = false;
    world.until("the second one", |world| {
        world.state().stage == Stage::Repointing
    });
    assert_eq!(world.state().primary.unwrap().instance, instance(2));
    // A write at 99 is acknowledged by the last member, and the second one is lost before anybody saw that.
    let server = world.server(2);
    (server.offset, server.alive) = (99, false);
    let lineage = server.lineage;
    let server = world.server(3);
    (server.upstream, server.lineage) = (Some(instance(2)), lineage);
    (server.fork, server.offset) = (Some((1, 96)), 99);
    let server = world.server(1);
    (server.hung, server.hang_on) = (false, None);
    world.run(LONG);
    let answer = world.state().answer.unwrap();
    assert_eq!(answer.primary, instance(3), "{:?}", world.report());
}

/// A told primary is promoted again from where it forked, and lost before anybody follows it. A member has what was told,
/// with the torn record at its end; it must be promoted then (invariant 8).
#[test]
fn a_member_with_a_torn_record_is_on_the_chain_of_a_told_primary() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    for n in 0..3 {
        world.server(n).stubborn = true;
    }
    world.server(1).torn = 4;
    world.server(1).hang_on = Some("promote");
    world.server(0).alive = false;
    world.until("chosen", |world| {
        matches!(world.state().stage, Stage::Promoting { .. })
    });
    world.server(2).hung = true;
    world.until("told", |world| !world.state().told.is_empty());
    let server = world.server(1);
    (server.hung, server.hang_on) = (false, None);
    world.server(2).hung = false;
    world.until("promoted again", |world| {
        world.state().stage == Stage::Repointing
    });
    assert_eq!(world.state().primary.unwrap().instance, instance(1));
    world.server(1).alive = false;
    let server = world.server(2);
    (server.upstream, server.lineage) = (None, 1);
    (server.fork, server.offset) = (None, 100);
    world.run(LONG);
    let answer = world.state().answer.unwrap();
    assert_eq!(answer.primary, instance(2), "{:?}", world.report());
}

fn stubborn_target_lost(torn: u64) -> World {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    for n in 0..3 {
        world.server(n).stubborn = true;
    }
    world.server(1).torn = torn;
    let server = world.server(2);
    (server.lagging, server.offset) = (true, 90);
    world.server(1).hang_on = Some("promote");
    world.server(0).alive = false;
    world.until("told", |world| !world.state().told.is_empty());
    world.run(Duration::from_secs(5));
    assert_eq!(world.state().stage, Stage::Freezing, "the rest is behind");
    world.server(1).hang_on = None;
    world.server(2).lagging = false;
    world
}

/// Rule S12, found by seed 3 of a simulated sibling: the target is seen as primary and committed, and lost before anybody
/// follows it; its sibling is promoted at the same point and gives its history the same name. What the first one wrote in
/// the meantime is nobody else's, although by its name it lies on the chain.
#[test]
fn a_seen_primary_whose_sibling_took_the_same_name_is_rebuilt() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.numbered = true;
    for n in 0..3 {
        world.server(n).stubborn = true;
    }
    world.server(2).lagging = true;
    world.server(0).alive = false;
    world.until("seen", |world| world.state().stage == Stage::Repointing);
    world.server(1).hung = true;
    world.until("the sibling", |world| {
        let answer = world.state().answer;
        answer.is_some_and(|answer| answer.primary == instance(2))
    });
    let state = world.state();
    assert!(state.barred.contains_key(&instance(1)), "{state:?}");
    let server = world.server(1);
    (server.hung, server.offset) = (false, server.offset + 5);
    server.orders.clear();
    world.run(LONG);
    let orders = world.server(1).orders.clone();
    assert_eq!(orders.first(), Some(&"rebuild"), "{orders:?}");
}

/// One member leaves, and the other is lost before it holds what the primary had: the change cannot end, and every write
/// waits. The first one comes back, and must be let in.
#[test]
fn a_change_that_lost_its_last_member_is_ended_by_one_who_comes_back() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).lagging = true;
    world.server(0).offset += 10;
    world.server(1).alive = false;
    world.until("excluded", |world| world.state().configs.len() == 2);
    world.server(2).alive = false;
    let server = world.server(1);
    (server.life, server.alive) = (2, true);
    world.steady_on(0, 1);
    let members = &world.state().configs[0].members;
    assert!(members.contains_key(&instance(1)), "{members:?}");
}
