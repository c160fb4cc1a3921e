//! The standby that was told to take over is lost before anybody saw it as primary, and the old primary is back with
//! everything: nobody else has it.

use sentinel_tests::postgres_cluster::{PostgresCluster, Source, Writers};
use sentinel_tests::postgres_server::{Paused, StopMode};

use crate::shortage::{give_back, leave_to_itself};

#[test]
fn the_old_primary_takes_over_again_when_the_told_one_is_lost() {
    let mut cluster = PostgresCluster::start();
    let before = cluster.wait_whole();
    let [told, away] = cluster.standbys(before);
    leave_to_itself(&mut cluster, away);
    cluster.servers[away].stop(StopMode::Fast);
    cluster.until("only one standby counts", || {
        let quorum = cluster.service().write_quorum;
        (quorum.len() == 1 && quorum.contains(&cluster.servers[told].instance())).then_some(())
    });
    // Told to promote, it takes its time, and answers as a standby meanwhile.
    cluster.servers[told].execute("ALTER SYSTEM SET recovery_end_command = 'sleep 25'");
    cluster.servers[told].execute("SELECT pg_reload_conf()");
    let writers = Writers::start(&cluster, Source::Discovery);
    writers.wait_for_more(&cluster, 100);

    cluster.servers[before.primary].pause(Paused::Everything);
    cluster.servers[told].wait_for_log("received promote request");
    cluster.nodes[told].kill9();
    cluster.servers[told].kill_everything();
    cluster.servers[before.primary].resume();
    let old = cluster.servers[before.primary].instance();
    cluster.until("the old one is primary in a later epoch", || {
        let service = cluster.nodes[cluster.try_leader()?].service()?;
        let again = service.primary.as_ref() == Some(&old) && service.stage == "steady";
        (again && service.epoch > before.epoch).then_some(())
    });
    let log = cluster.nodes[before.primary].log();
    assert!(log.contains("StandDown"), "by its agent");
    // It has everything, and lets nobody add to it before a standby is back.
    give_back(&mut cluster, away);
    writers.wait_for_more(&cluster, 100);

    cluster.nodes[told].restart();
    let after = cluster.end_whole(writers);
    assert_eq!(after.primary, before.primary);
    assert!(after.epoch > before.epoch, "{after:?}");
}
