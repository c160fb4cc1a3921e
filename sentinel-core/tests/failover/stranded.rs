//! Replicas that cannot go on from their upstream: copied anew, one at a time, and never at the cost of the only copy.

use std::time::Duration;

use sentinel_core::event::EventKind;
use sentinel_core::ledger::Stage;

use crate::world::{World, instance, name};

fn is_member(world: &World, n: u16) -> bool {
    let state = world.state();
    let mut configs = state.configs.iter();
    configs.any(|config| config.members.contains_key(&instance(n)))
}

fn rebuilds(world: &World, n: u16) -> usize {
    let orders = world.servers[&instance(n)].orders.iter();
    orders.filter(|order| **order == "rebuild").count()
}

fn told(world: &World, wanted: impl Fn(&EventKind) -> bool) -> usize {
    world.events.iter().filter(|(_, kind)| wanted(kind)).count()
}

#[test]
fn a_stranded_member_leaves_the_write_quorum_and_comes_back_as_a_new_copy() {
    let mut world = World::minded(2, 3);
    world.steady_on(0, 2);
    world.server(1).stranded = true;
    world.server(1).copy_takes = 20;
    world.slow_configure = Duration::from_secs(1);
    world.until("a copy is made", |world| rebuilds(world, 1) > 0);
    world.slow_configure = Duration::ZERO;
    assert!(!is_member(&world, 1), "it left first");
    world.until("its server is stopped", |world| rebuilds(world, 1) > 15);
    let orders = world.server(1).orders.clone();
    assert!(!orders.contains(&"demote"), "{orders:?}");
    world.until("it is whole", |world| is_member(world, 1));
    assert_eq!(world.server(1).life, 2);
    let stranded = |kind: &EventKind| matches!(kind, EventKind::InstanceStranded { .. });
    let sent = |kind: &EventKind| matches!(kind, EventKind::RebuildSent { instance: of } if *of == instance(1));
    assert_eq!(told(&world, stranded), 3, "one a node");
    assert_eq!(told(&world, sent), 1);

    // Weeks later the same again, in the same epoch.
    world.server(1).stranded = true;
    world.until("it is whole again", |world| {
        world.server(1).life == 3 && is_member(world, 1)
    });
    assert_eq!(world.state().answer.unwrap().epoch.0, 1);
}

#[test]
fn the_only_replica_is_copied_as_the_member_that_it_is() {
    let mut world = World::minded(1, 2);
    world.steady_on(0, 1);
    world.server(1).stranded = true;
    world.until("it is a new copy", |world| world.server(1).life == 2);
    assert!(is_member(&world, 1));
    world.until("its new life is admitted", |world| {
        let state = world.state();
        state.configs[0].members[&instance(1)]
            .as_str()
            .ends_with(".2")
    });
}

#[test]
fn stranded_replicas_are_copied_one_at_a_time() {
    let mut world = World::minded(2, 3);
    world.steady_on(0, 2);
    for n in [1, 2] {
        world.server(n).stranded = true;
        world.server(n).copy_takes = 10;
    }
    world.until("both are whole", |world| {
        let at_work = |n: u16| {
            let server = &world.servers[&instance(n)];
            rebuilds(world, n) > 0 && server.life == 1
        };
        assert!(!(at_work(1) && at_work(2)), "two copies at once");
        [1, 2]
            .iter()
            .all(|n| world.servers[&instance(*n)].life == 2)
    });
    world.steady_on(0, 2);
}

#[test]
fn without_an_agent_it_is_told_what_to_do_by_hand() {
    let mut world = World::minded(2, 1);
    world.steady_on(0, 2);
    world.server(1).stranded = true;
    world.until("it is told", |world| {
        world.report().iter().any(|code| code == "stranded_by_hand")
    });
    world.run(Duration::from_secs(5));
    assert_eq!(rebuilds(&world, 1), 0);
    assert!(!is_member(&world, 1), "the others acknowledge without it");
}

/// It holds every acknowledged write, and nobody else does who answers.
#[test]
fn the_last_copy_is_promoted_and_not_replaced() {
    let mut world = World::minded(1, 2);
    world.steady_on(0, 1);
    world.server(0).hung = true;
    world.server(1).stranded = true;
    world.until("it is primary", |world| {
        let state = world.state();
        state.stage == Stage::Steady && state.primary.is_some_and(|p| p.instance == instance(1))
    });
    assert_eq!(rebuilds(&world, 1), 0);
}

/// By a mistake in its settings. It has no hand there, and would refuse every order.
#[test]
fn a_second_node_that_claims_the_instance_gets_no_orders() {
    let mut world = World::minded(2, 3);
    world.steady_on(0, 2);
    let leader = world.leader().unwrap();
    let mut nodes = [1, 3].into_iter().filter(|node| name(*node) != leader);
    let rival = nodes.next().unwrap();
    world.run(Duration::from_secs(1));
    world.claim(1, rival);
    world.until("it is told", |world| {
        world.claim(1, rival);
        world.report().iter().any(|code| code == "two_agents")
    });
    let asked_before = world.server(1).orders.len();
    world.server(1).stranded = true;
    let took = world.until("its own agent has it copied", |world| {
        world.claim(1, rival);
        world.server(1).life == 2
    });
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(world.server(1).orders.len() > asked_before);
    let alarm = |kind: &EventKind| matches!(kind, EventKind::Alarm { .. });
    let others = 3 - 1;
    assert_eq!(told(&world, alarm), others, "one a node");
}
