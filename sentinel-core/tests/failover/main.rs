//! Scripts of the whole machine, one path each, in a world without chance.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agents;
mod holes;
mod standing_down;
mod stranded;
mod switchover;
mod world;

use std::time::Duration;

use sentinel_core::event::EventKind;
use sentinel_core::ledger::Stage;
use world::{World, instance};

#[test]
fn a_killed_primary_is_replaced_and_comes_back_as_a_replica() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).alive = false;
    let took = world.until("another primary", |world| {
        world
            .state()
            .answer
            .is_some_and(|answer| answer.primary != instance(0))
    });
    assert!(took < Duration::from_millis(300), "{took:?}");
    world.steady_on(1, 1);
    let server = world.server(0);
    (server.life, server.alive, server.primary, server.lineage) = (2, true, true, 99);
    world.steady_on(1, 2);
    assert!(world.server(0).orders.contains(&"demote"));
    assert_eq!(world.state().answer.unwrap().epoch.0, 2);
    let switched = |kind: &EventKind| matches!(kind, EventKind::PrimarySwitched { .. });
    assert_eq!(
        world
            .events
            .iter()
            .filter(|(_, kind)| switched(kind))
            .count(),
        3,
        "one a node"
    );
}

#[test]
fn a_hung_primary_is_replaced_after_down_after() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).hung = true;
    let took = world.until("another primary", |world| {
        world
            .state()
            .answer
            .is_some_and(|answer| answer.primary != instance(0))
    });
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_millis(1200),
        "{took:?}"
    );
    world.server(0).hung = false;
    world.steady_on(1, 2);
    assert_eq!(world.state().answer.unwrap().epoch.0, 2, "nothing flaps");
}

#[test]
fn a_leader_that_dies_with_the_primary_is_replaced_first() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).alive = false;
    let leader = world.leader().unwrap();
    world.dead.insert(leader);
    let took = world.until("another primary", |world| {
        world.leader().is_some()
            && world
                .state()
                .answer
                .is_some_and(|answer| answer.primary != instance(0))
    });
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn nothing_is_promoted_while_the_only_replica_is_in_its_first_sync() {
    let mut world = World::new(1);
    world.server(1).synced = false;
    world.steady_on(0, 0);
    // Redis gives its history a new name when its first replica asks for it.
    world.server(0).lineage = 40;
    world.until("the new name is committed", |world| {
        world.state().chain.elements().len() == 2
    });
    world.server(0).alive = false;
    world.run(Duration::from_secs(5));
    assert_eq!(world.state().stage, Stage::Steady);
    assert_eq!(world.state().answer.unwrap().primary, instance(0));
    assert!(
        world.report().iter().any(|code| code == "veto_first_sync"),
        "{:?}",
        world.report()
    );
    let server = world.server(0);
    (server.life, server.alive, server.lineage) = (2, true, 41);
    world.steady_on(0, 0);
    let replica = world.server(1);
    (replica.synced, replica.lineage) = (true, 41);
    world.steady_on(0, 1);
}

#[test]
fn a_primary_that_answers_again_before_the_seal_stays() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    // One member cannot be frozen, so that the failover hangs in Freezing until the primary is back.
    world.server(2).deaf = true;
    world.server(0).hung = true;
    world.until("freezing", |world| world.state().stage == Stage::Freezing);
    world.run(Duration::from_secs(2));
    assert_eq!(world.state().stage, Stage::Freezing);
    assert!(
        world.report().iter().any(|code| code == "not_sealed"),
        "{:?}",
        world.report()
    );
    world.server(0).hung = false;
    world.steady_on(0, 2);
    world.until("the frozen one follows again", |world| {
        world.server(1).upstream == Some(instance(0))
    });
    assert_eq!(
        world.state().answer.unwrap().epoch.0,
        1,
        "the answer is the old one"
    );
    let aborted = |kind: &EventKind| matches!(kind, EventKind::FailoverAborted { .. });
    assert!(world.events.iter().any(|(_, kind)| aborted(kind)));
}

#[test]
fn a_refusing_member_leaves_the_write_quorum_and_comes_back() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).alive = false;
    world.steady_on(0, 1);
    let server = world.server(2);
    (server.life, server.alive) = (2, true);
    world.steady_on(0, 2);
    assert_eq!(
        world.state().configs[0].members[&instance(2)].as_str(),
        "10.0.0.21:6002.2"
    );
}

#[test]
fn a_restarted_primary_has_lost_its_authority() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let server = world.server(0);
    (
        server.life,
        server.holds_data,
        server.lineage,
        server.offset,
    ) = (2, false, 50, 0);
    world.servers.values_mut().for_each(|server| {
        if !server.primary {
            server.upstream = None;
        }
    });
    world.steady_on(1, 2);
}

#[test]
fn a_primary_that_restarts_while_a_member_is_silent_overwrites_nobody() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).hung = true;
    world.run(Duration::from_secs(3));
    let server = world.server(0);
    (
        server.life,
        server.holds_data,
        server.lineage,
        server.offset,
    ) = (2, false, 300, 0);
    // Nobody has a link while the full sync waits for `restart_delay`.
    for replica in [1, 2] {
        world.server(replica).upstream = Some(instance(9));
    }
    world.run(Duration::from_secs(20));
    assert_eq!(world.state().stage, Stage::Freezing, "not sealed");
    assert_eq!(world.server(1).orders.last(), Some(&"freeze"));
    world.server(2).hung = false;
    world.until("a replica is promoted", |world| {
        world
            .state()
            .answer
            .is_some_and(|answer| answer.primary != instance(0))
    });
}
