//! Voters are hit, alone and together with the primary.

use std::time::Duration;

use sentinel_tests::cluster::{Cluster, Source, Steady, Writers};
use sentinel_tests::wait;

/// How long nothing may change when nothing should.
const CALM: Duration = Duration::from_secs(5);

/// Epochs never go back in any answer, and nothing happens without a reason.
fn nothing_changes(cluster: &Cluster, steady: Steady, period: Duration) {
    let primary = cluster.servers[steady.primary].instance();
    wait::throughout(period, || {
        for service in cluster.answering().filter_map(|node| node.service()) {
            assert_eq!(service.primary.as_ref(), Some(&primary));
            assert_eq!(
                (service.epoch, service.token_epoch),
                (steady.epoch, steady.epoch)
            );
        }
    });
}

#[test]
fn a_healthy_primary_goes_on_while_every_voter_is_dead_and_nothing_flaps_when_they_return() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Server(before.primary));
    for node in &mut cluster.nodes {
        node.kill9();
    }
    let errors = writers.errors();
    writers.wait_for_more(&cluster, 500);
    assert_eq!(writers.errors(), errors, "writes failed without the voters");
    for node in &mut cluster.nodes {
        node.restart();
    }
    assert_eq!(cluster.wait_whole(), before);
    nothing_changes(&cluster, before, CALM);
    writers.wait_for_more(&cluster, 50);
    assert_eq!(
        writers.errors(),
        errors,
        "writes failed with the voters back"
    );

    cluster.servers[before.primary].kill9();
    cluster.wait_new_primary(before);
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.stop().verify_all(&cluster, after);
}

#[test]
fn a_voter_restarted_from_its_disk_answers_the_epoch_that_it_knew() {
    let mut cluster = Cluster::start(2);
    let first = cluster.wait_whole();
    cluster.servers[first.primary].kill9();
    cluster.wait_new_primary(first);
    cluster.servers[first.primary].restart();
    let steady = cluster.wait_whole_after(first);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    for index in [follower, leader] {
        cluster.nodes[index].kill9();
        cluster.nodes[index].restart();
        let answer = cluster.until("the first answer", || cluster.nodes[index].primary());
        let primary = cluster.servers[steady.primary].instance();
        assert_eq!((answer.primary, answer.epoch), (primary, steady.epoch));
        assert_eq!(cluster.wait_whole(), steady);
    }
    nothing_changes(&cluster, steady, Duration::from_secs(1));
}

/// Nobody else remembers: what it answers at first comes from its own disk.
#[test]
fn a_voter_restarted_alone_answers_from_its_disk_and_says_that_it_is_stale() {
    let mut cluster = Cluster::start(1);
    let steady = cluster.wait_whole();
    for node in &mut cluster.nodes {
        node.kill9();
    }
    cluster.nodes[0].restart();
    let answer = cluster.until("an answer", || cluster.nodes[0].primary());
    let primary = cluster.servers[steady.primary].instance();
    assert_eq!((&answer.primary, answer.epoch), (&primary, steady.epoch));
    assert!(answer.freshness.stale, "{answer:?}");
    assert_eq!(
        cluster.nodes[0].resp_primary(),
        Some((primary, steady.epoch))
    );
    for index in [1, 2] {
        cluster.nodes[index].restart();
    }
    assert_eq!(cluster.wait_whole(), steady);
}

#[test]
fn the_primary_and_the_raft_leader_killed_together() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let leader = cluster.leader();
    cluster.nodes[leader].kill9();
    cluster.servers[before.primary].kill9();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.nodes[leader].restart();
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.wait_for_more(&cluster, 50);
    writers.stop().verify_all(&cluster, after);
}

#[test]
fn a_minority_answers_as_stale_and_never_moves_the_primary() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let (leader, dead) = (cluster.leader(), cluster.follower());
    cluster.nodes[leader].pause();
    cluster.nodes[dead].kill9();
    let left = (0..3)
        .find(|index| ![leader, dead].contains(index))
        .unwrap();
    let primary = cluster.servers[before.primary].instance();
    cluster.until("the one that is left says that it is stale", || {
        let answer = cluster.nodes[left].primary().expect("it keeps answering");
        assert_eq!((&answer.primary, answer.epoch), (&primary, before.epoch));
        assert!(answer.freshness.as_of_ms.is_some());
        answer.freshness.stale.then_some(())
    });
    let node = &cluster.nodes[left];
    assert_eq!(node.resp_info("sentinel_stale").unwrap(), "1");
    assert!(
        node.resp_info("sentinel_as_of_ms")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >= 2000
    );
    let answer = Some((primary, before.epoch));
    assert_eq!(node.resp_primary(), answer);

    cluster.servers[before.primary].kill9();
    wait::throughout(CALM, || {
        assert_eq!(cluster.nodes[left].resp_primary(), answer);
        for index in (0..3).filter(|index| *index != before.primary) {
            assert_eq!(cluster.servers[index].info("role").unwrap(), "slave");
        }
    });

    cluster.nodes[leader].resume();
    cluster.nodes[dead].restart();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 50);
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.stop().verify_all(&cluster, after);
}

/// It was about to act, and finds itself deposed when it goes on.
#[test]
fn a_raft_leader_paused_in_the_failover_does_no_harm_when_it_goes_on() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    let leader = cluster.leader();
    cluster.servers[before.primary].kill9();
    wait::until("the failover has begun", || {
        let service = cluster.nodes[leader].service()?;
        (service.token_epoch > before.epoch).then_some(())
    });
    cluster.nodes[leader].pause();
    cluster.wait_new_primary(before);
    writers.wait_for_more(&cluster, 100);
    cluster.nodes[leader].resume();
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    nothing_changes(&cluster, after, Duration::from_secs(1));
    writers.stop().verify_all(&cluster, after);
}

#[test]
fn a_raft_leader_that_is_told_to_stop_hands_over_and_nothing_fails_over() {
    let mut cluster = Cluster::start(2);
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Server(before.primary));
    let errors = writers.errors();
    let leader = cluster.leader();
    let status = cluster.nodes[leader].stop();
    assert_eq!(status.code(), Some(0), "{}", cluster.nodes[leader].log());
    let next = cluster.leader();
    assert_ne!(next, leader);
    assert_eq!(cluster.wait_whole(), before);
    nothing_changes(&cluster, before, Duration::from_secs(2));
    assert_eq!(writers.errors(), errors, "writes failed");
    cluster.nodes[leader].restart();
    assert_eq!(cluster.wait_whole(), before);
    writers.stop().verify_all(&cluster, before);
}

#[test]
fn an_observer_answers_and_follows_a_failover() {
    let mut cluster = Cluster::start(2);
    let observer = cluster.add_observer();
    // That the observer agrees is a part of being whole.
    let before = cluster.wait_whole();
    let writers = Writers::start(&cluster, Source::Voters);
    cluster.servers[before.primary].kill9();
    let new = cluster.wait_new_primary(before);
    let new = cluster.servers[new].instance();
    cluster.until("the observer names the new primary", || {
        let (primary, epoch) = cluster.nodes[observer].resp_primary()?;
        (primary == new && epoch > before.epoch).then_some(())
    });
    assert_eq!(cluster.nodes[observer].status().unwrap().voters.len(), 3);
    cluster.servers[before.primary].restart();
    let after = cluster.wait_whole_after(before);
    writers.stop().verify_all(&cluster, after);
}

/// The remedy that the refusal names, followed to the letter: move the whole folder away, start again, and the voter
/// learns everything from the others; it votes again, too.
#[test]
fn a_voter_with_a_damaged_log_learns_everything_from_the_others() {
    let mut cluster = Cluster::start(2);
    let first = cluster.wait_whole();
    cluster.servers[first.primary].kill9();
    cluster.wait_new_primary(first);
    cluster.servers[first.primary].restart();
    let before = cluster.wait_whole_after(first);
    let voter = cluster.follower();
    cluster.nodes[voter].kill9();
    let folder = cluster.nodes[voter].data_dir();
    let log = folder.join("raft/00000000000000000001.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&log, bytes).unwrap();
    let refusal = cluster.nodes[voter].refuses_to_start();
    assert!(refusal.contains(" is damaged at byte "), "{refusal}");
    assert!(
        refusal.contains("move `raft` and `has_log` out of the data folder and start again"),
        "{refusal}"
    );

    let away = folder.with_extension("away");
    std::fs::create_dir(&away).unwrap();
    for name in ["raft", "has_log"] {
        std::fs::rename(folder.join(name), away.join(name)).unwrap();
    }
    cluster.nodes[voter].restart();
    assert_eq!(cluster.wait_whole(), before);
    // With another voter dead, a failover needs the vote of the one that came back.
    let other = (0..3).find(|node| *node != voter).unwrap();
    cluster.nodes[other].kill9();
    cluster.servers[before.primary].kill9();
    cluster.wait_new_primary(before);
}
