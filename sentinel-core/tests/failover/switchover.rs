//! Scripts of switchovers: asked for, refused, called off, and with a primary that must end to pause.

use std::time::Duration;

use sentinel_core::action::Outcome;
use sentinel_core::event::EventKind;
use sentinel_core::ledger::Stage;
use sentinel_core::sentinel::AskError;

use crate::world::{World, instance};

fn called_off(world: &World) -> bool {
    let called_off = |kind: &EventKind| matches!(kind, EventKind::SwitchoverCalledOff { .. });
    world.events.iter().any(|(_, kind)| called_off(kind))
}

#[test]
fn the_asked_for_replica_becomes_primary_and_the_old_one_follows() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.ask_switchover(Some(2));
    let took = world.until("the other primary", |world| {
        let answer = world.state().answer;
        answer.is_some_and(|answer| answer.primary == instance(2))
    });
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(matches!(world.answers[..], [Ok(_)]), "{:?}", world.answers);
    assert!(world.server(0).paused, "paused until it is a replica");
    world.steady_on(2, 2);
    assert!(!world.server(0).primary);
    assert_eq!(world.state().token.epoch.0, 2);
    assert_eq!(world.state().planned, None);
    assert!(!called_off(&world));
}

#[test]
fn without_a_name_the_leader_chooses() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.ask_switchover(None);
    world.steady_on(1, 2);
    assert!(matches!(world.answers[..], [Ok(_)]));
}

#[test]
fn what_could_not_come_to_its_end_is_refused_before_anything_is_paused() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    for nobody in [0, 9] {
        world.ask_switchover(Some(nobody));
        world.run(Duration::from_secs(1));
        let answer = world.answers.pop().unwrap();
        assert!(
            matches!(answer, Err(AskError::Refused { .. })),
            "{answer:?}"
        );
    }
    world.server(2).alive = false;
    world.run(Duration::from_millis(300));
    world.ask_switchover(Some(2));
    world.run(Duration::from_millis(100));
    let answer = world.answers.pop().unwrap();
    assert!(
        matches!(answer, Err(AskError::Refused { .. })),
        "{answer:?}"
    );
    assert!(!world.server(0).orders.contains(&"pause"));
    assert_eq!(world.state().token.epoch.0, 1);
}

/// A target that has stopped receiving, and looks as if it did not.
#[test]
fn a_target_that_never_gets_the_last_byte_changes_nothing() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).lagging = true;
    world.server(0).offset += 10;
    world.ask_switchover(Some(2));
    world.until("paused", |world| world.server(0).paused);
    world.until("called off", |world| called_off(world));
    world.until("resumed", |world| !world.server(0).paused);
    world.run(Duration::from_secs(5));
    assert_eq!(world.state().stage, Stage::Steady);
    assert_eq!(world.state().token.epoch.0, 1, "the epoch is the same");
    assert!(world.server(0).primary);
}

/// The pause ends the server, so that everybody sees it go down: the switchover goes on all the same, and to whom it was
/// asked for.
#[test]
fn a_primary_that_ends_to_pause_is_replaced_by_the_one_asked_for() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).stops_to_pause = true;
    world.ask_switchover(Some(2));
    world.until("the other primary", |world| {
        let answer = world.state().answer;
        answer.is_some_and(|answer| answer.primary == instance(2))
    });
    world.steady_on(2, 1);
    assert!(!called_off(&world));
}

fn stopping(world: &mut World) {
    world.steady_on(0, 2);
    let server = world.server(0);
    (server.stops_to_pause, server.stopping) = (true, true);
    world.ask_switchover(Some(2));
    world.until("down", |world| !world.server(0).alive);
}

/// Everybody sees it down before it has told where it ended; its agent is still at it, and says so.
#[test]
fn a_primary_that_is_down_while_it_still_stops_is_not_taken_for_lost() {
    let mut world = World::new(2);
    stopping(&mut world);
    world.run(Duration::from_secs(2));
    assert_eq!(world.state().token.epoch.0, 1, "no failover has begun");
    world.server(0).stopping = false;
    world.until("the other primary", |world| {
        let answer = world.state().answer;
        answer.is_some_and(|answer| answer.primary == instance(2))
    });
    assert!(!called_off(&world));
}

/// The same for a target that does not receive: what the pause stopped is started again.
#[test]
fn a_primary_that_was_stopped_in_vain_is_started_again() {
    let mut world = World::new(2);
    world.server(2).lagging = true;
    stopping(&mut world);
    world.server(0).offset += 10;
    world.run(Duration::from_secs(1));
    world.server(0).stopping = false;
    world.until("called off", |world| called_off(world));
    world.until("started", |world| world.server(0).alive);
    world.server(2).lagging = false;
    world.steady_on(0, 2);
    assert_eq!(world.state().token.epoch.0, 1, "nothing has changed");
}

#[test]
fn a_primary_that_is_lost_with_its_agent_while_it_stops_is_replaced() {
    let mut world = World::new(2);
    stopping(&mut world);
    world.server(0).deaf = true;
    let took = world.until("a failover", |world| world.state().token.epoch.0 == 2);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_primary_that_never_ends_stopping_is_replaced() {
    let mut world = World::new(2);
    stopping(&mut world);
    let took = world.until("a failover", |world| world.state().token.epoch.0 == 2);
    let expected = Duration::from_secs(4)..Duration::from_secs(7);
    assert!(expected.contains(&took), "{took:?}");
}

/// The leader is lost before the primary has heard of the pause.
#[test]
fn a_new_leader_goes_on_where_the_old_one_was_lost() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).deaf = true;
    world.ask_switchover(Some(1));
    world.until("switching", |world| {
        matches!(world.state().stage, Stage::Switching { .. })
    });
    let leader = world.leader().unwrap();
    world.dead.insert(leader);
    world.until("a leader", |world| world.leader().is_some());
    world.server(0).deaf = false;
    world.steady_on(1, 2);
}

/// Called off, and the agent that could end the pause is gone: the server is started by hand. Nothing but the end of a
/// pause that is none any more would be ordered of it, and a lost member never left the write quorum.
#[test]
fn a_pause_that_nobody_can_end_holds_nothing_else_up() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).lagging = true;
    let server = world.server(0);
    server.offset += 10;
    (server.stops_to_pause, server.unminded) = (true, true);
    world.ask_switchover(Some(2));
    world.until("called off", |world| called_off(world));
    let server = world.server(0);
    (server.alive, server.paused) = (true, false);
    world.server(2).lagging = false;
    world.run(Duration::from_secs(20));
    world.server(1).alive = false;
    world.steady_on(0, 1);
}

/// Called off while orders do not reach the primary, which restarts empty. That is not the silence that the pause brought
/// about: its replicas are frozen before it overwrites them (S15).
#[test]
fn a_primary_that_restarts_empty_after_a_switchover_was_called_off_is_replaced() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).lagging = true;
    world.server(0).offset += 10;
    world.ask_switchover(Some(2));
    world.until("paused", |world| world.server(0).paused);
    world.server(0).deaf = true;
    world.until("called off", |world| called_off(world));
    world.server(2).lagging = false;
    let server = world.server(0);
    (server.life, server.lineage, server.holds_data) = (2, 50, false);
    let took = world.until("a failover", |world| world.state().token.epoch.0 == 2);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// The answer to the pause gets lost, and so does everything after it, until the switchover is called off.
#[test]
fn a_pause_of_which_nobody_heard_is_ended_too() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).hang_on = Some("pause");
    world.ask_switchover(Some(2));
    world.until("paused", |world| world.server(0).paused);
    let server = world.server(0);
    (server.hung, server.deaf, server.hang_on) = (false, true, None);
    world.until("called off", |world| called_off(world));
    world.server(0).deaf = false;
    world.until("resumed", |world| !world.server(0).paused);
    assert_eq!(world.state().token.epoch.0, 1);
}

/// It takes writes meanwhile.
fn preparing() -> Option<Outcome> {
    Some(Outcome::UnderWay("writing a checkpoint".into()))
}

fn run_long(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.run(Duration::from_secs(1));
    }
}

/// It has much to write out before it can stop, and says so each time that it is asked.
#[test]
fn a_primary_that_prepares_its_pause_for_minutes_is_waited_for() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let server = world.server(0);
    (server.pause_answer, server.stops_to_pause) = (preparing(), true);
    world.ask_switchover(Some(2));
    run_long(&mut world, 120);
    assert!(!called_off(&world));
    assert!(!world.server(0).paused, "it takes writes meanwhile");
    let reported = world.report();
    assert!(reported.contains(&"under_way".to_owned()), "{reported:?}");
    world.server(0).pause_answer = None;
    world.until("the other primary", |world| {
        let answer = world.state().answer;
        answer.is_some_and(|answer| answer.primary == instance(2))
    });
    world.steady_on(2, 1);
}

#[test]
fn a_primary_that_never_ends_preparing_is_not_waited_for_without_end() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).pause_answer = preparing();
    world.ask_switchover(Some(2));
    run_long(&mut world, 290);
    assert!(!called_off(&world));
    run_long(&mut world, 20);
    assert!(called_off(&world));
    world.steady_on(0, 2);
}

/// What refuses does so for a reason: nothing else waits for it.
#[test]
fn a_primary_that_refuses_to_pause_calls_it_off_soon() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    let refused = Outcome::Refused("the pause has ended by itself".into());
    world.server(0).pause_answer = Some(refused);
    world.ask_switchover(Some(2));
    let took = world.until("called off", |world| called_off(world));
    assert!(took < Duration::from_secs(4), "{took:?}");
    world.steady_on(0, 2);
    assert_eq!(world.state().token.epoch.0, 1, "the epoch is the same");
}

/// Nothing is stopped yet, and there is nobody to stop it for.
#[test]
fn a_target_that_is_lost_while_the_pause_is_prepared_calls_it_off() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(0).pause_answer = preparing();
    world.ask_switchover(Some(2));
    world.until("preparing", |world| {
        world.server(0).orders.contains(&"pause")
    });
    world.server(2).alive = false;
    let took = world.until("called off", |world| called_off(world));
    assert!(took < Duration::from_secs(5), "{took:?}");
    world.server(0).pause_answer = None;
    world.run(Duration::from_secs(1));
    assert!(!world.server(0).paused);
    assert_eq!(world.state().token.epoch.0, 1, "the epoch is the same");
}

/// Everybody stood still until long after the end of the pause, as in a suspended machine; the target has what it was asked
/// for, and the primary has written since.
#[test]
fn a_pause_that_ended_long_ago_is_not_relied_on() {
    let mut world = World::new(2);
    world.steady_on(0, 2);
    world.server(2).lagging = true;
    world.server(0).offset += 10;
    world.ask_switchover(Some(2));
    world.until("paused", |world| world.server(0).paused);
    world.run(Duration::from_millis(300));
    world.now = world.now + Duration::from_secs(6);
    world.server(0).paused = false;
    world.server(2).lagging = false;
    world.until("called off", |world| called_off(world));
    world.run(Duration::from_secs(5));
    assert_eq!(world.state().token.epoch.0, 1, "the epoch is the same");
    assert!(world.server(0).primary);
}
