//! A told primary that is lost for good, and the old one, which no statement can freeze, back with everything.

use std::time::Duration;

use sentinel_core::ledger::Stage;

use crate::world::{World, instance};

/// The only replica was told to promote, and nobody ever hears of it again; the old primary answers.
fn told_and_lost(agents: u16) -> World {
    let mut world = World::minded(1, agents);
    for n in [0, 1] {
        world.server(n).stubborn = true;
    }
    world.steady_on(0, 1);
    world.server(1).hang_on = Some("promote");
    world.server(0).hung = true;
    world.until("it is told", |world| {
        world.state().told.contains_key(&instance(1))
    });
    world.server(0).hung = false;
    world
}

#[test]
fn its_agent_freezes_it_and_it_is_primary_once_more() {
    let mut world = told_and_lost(2);
    world.server(0).offset += 7;
    world.until("the old one is primary again", |world| {
        let state = world.state();
        state.stage == Stage::Steady && state.answer.unwrap().primary == instance(0)
    });
    assert!(world.server(0).orders.contains(&"stand_down"));
    assert!(world.state().answer.unwrap().epoch.0 > 2);
    // What it held is there, and the told one is copied anew when it comes back.
    assert_eq!(world.server(0).offset, 107);
    let told = world.server(1);
    (told.hung, told.hang_on) = (false, None);
    world.steady_on(0, 1);
    assert!(world.server(1).orders.contains(&"rebuild"));
}

#[test]
fn without_an_agent_the_service_blocks() {
    let mut world = told_and_lost(0);
    world.run(Duration::from_secs(20));
    assert_eq!(world.state().stage, Stage::Freezing);
    assert!(!world.server(0).orders.contains(&"stand_down"));
}

/// A life that is not trusted any more may lack what it acknowledged.
#[test]
fn a_later_life_is_not_asked() {
    let mut world = told_and_lost(2);
    world.server(0).life = 2;
    world.run(Duration::from_secs(20));
    assert_eq!(world.state().stage, Stage::Freezing);
    assert!(!world.server(0).orders.contains(&"stand_down"));
}

/// One that is not needed is left as it is until it is made a replica of the new primary.
#[test]
fn it_is_left_alone_where_another_can_be_promoted() {
    let mut world = World::minded(2, 3);
    for n in [0, 1, 2] {
        world.server(n).stubborn = true;
    }
    world.steady_on(0, 2);
    world.server(1).hang_on = Some("promote");
    world.server(0).hung = true;
    world.until("it is told", |world| {
        world.state().told.contains_key(&instance(1))
    });
    world.server(0).hung = false;
    world.until("the other one is primary", |world| {
        let answer = world.state().answer.unwrap();
        answer.primary == instance(2)
    });
    assert!(!world.server(0).orders.contains(&"stand_down"));
}
