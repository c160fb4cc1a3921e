//! What the coordinator sees of a standby that asks for what does not exist: nothing that would make it a follower or rank
//! it before its time.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::id::{ProbeId, ServiceName};
use sentinel_core::observation::{Facts, Link, Observation, ProbeRequest, Role};
use sentinel_core::position::Offset;
use sentinel_core::runtime::{Adapter, AdapterContext, Clock};
use sentinel_postgres::{PostgresAdapter, PostgresService};
use sentinel_tests::wait;
use tokio::sync::mpsc;

use crate::broken::{Broken, offset};

const SERVICE: &str = "orders";

/// Several times what it waits between two attempts. Each attempt shows a receiver for some milliseconds.
const LONG_ENOUGH: Duration = Duration::from_millis(400);

const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at it again and again as the coordinator does.
pub(crate) fn assert_claims_nothing(broken: &Broken) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let adapter = adapter();
    wait::throughout(LONG_ENOUGH, || {
        let seen = runtime.block_on(look(&adapter, broken));
        // By a record of its own the promoted server may leave the segment: from then on there is something to follow.
        let flushed = broken.promoted.value("SELECT pg_current_wal_flush_lsn()");
        if let Some(facts) = seen
            && offset(&flushed) < broken.end
        {
            check(&facts, broken);
        }
    });
}

fn check(facts: &Facts, broken: &Broken) {
    let Role::Replica { link, .. } = &facts.role else {
        panic!("it is in recovery");
    };
    assert_eq!(*link, Link::Broken, "{facts:?}");
    // Before it is told of the new timeline it may still know of the torn piece.
    let held = broken.fork.max(broken.received);
    let offset = facts.position.as_ref().map(|position| position.offset);
    assert!(offset.is_none_or(|offset| offset <= held), "{facts:?}");
    let end = Offset(broken.end.0);
    assert!(
        offset != Some(end) || broken.received == end,
        "the end of the segment is not what it holds: {facts:?}"
    );
}

/// `None` when the server has ended meanwhile.
async fn look(adapter: &PostgresAdapter, broken: &Broken) -> Option<Facts> {
    let request = ProbeRequest {
        id: ProbeId(1),
        service: SERVICE.into(),
        instance: broken.reloaded.instance(),
        deadline: Clock::new().now() + PATIENCE,
    };
    match adapter.probe(request).await {
        Observation::Facts(facts) => Some(*facts),
        Observation::Failure(_) => None,
    }
}

fn adapter() -> PostgresAdapter {
    let (disconnects, _) = mpsc::channel(16);
    let (notes, _) = mpsc::channel(1);
    let context = AdapterContext {
        clock: Clock::new(),
        disconnects,
        notes,
    };
    let services = BTreeMap::from([(ServiceName::from(SERVICE), PostgresService::default())]);
    PostgresAdapter::new(services, BTreeMap::new(), context)
}
