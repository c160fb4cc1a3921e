//! Whose orders are obeyed: never one of a lower token, also after the agent's own restart.

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion};

use crate::minded::Minded;

#[test]
fn an_order_of_a_lower_token_is_refused_across_restarts() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let standby = PostgresServer::standby_of(&primary);
    primary.wait_for_standby(&standby);
    let mut minded = Minded::of(&standby);
    let order = |epoch| {
        let primary = primary.instance();
        (ActionKind::Repoint { primary }, epoch)
    };
    let (kind, epoch) = order(7);
    minded.order_until_done(&kind, epoch);
    for restarted in [false, true] {
        if restarted {
            minded.kill_agent();
            minded.begin();
        }
        let (kind, epoch) = order(6);
        let outcome = minded.order(kind, epoch);
        assert!(
            matches!(&outcome, Outcome::Refused(text) if text.contains("7.7")),
            "{outcome:?}"
        );
    }
    let (kind, epoch) = order(7);
    minded.order_until_done(&kind, epoch);
}

#[test]
fn a_damaged_record_of_the_highest_order_keeps_the_agent_from_beginning() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    let mut minded = Minded::prepare(&primary);
    std::fs::write(
        minded.settings.state_dir.join("accepted"),
        "sentinel-agent 1 0 0 00000000\n",
    )
    .unwrap();
    let error = minded.try_begin().unwrap_err().to_string();
    assert!(
        error.contains("damaged") && error.contains("sentinel status"),
        "{error}"
    );
    assert!(primary.pid().is_some(), "the server goes on");
}
