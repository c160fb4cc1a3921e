//! Which slot a standby uses: the one that bears its name, while its primary has it.
//!
//! A standby that names a slot that is not there does not stream, one that names none leaves its slot to the guess of the
//! primary's agent. What an operator named otherwise is left alone. Changes nothing of whom the standby follows.

use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_core::observation::Link;
use tokio_postgres::Client;

use super::settings::AgentSettings;
use super::slots::{self, Slots};
use super::upstream;
use crate::conninfo::literal;
use crate::follow::slot_name;

/// A primary that does not answer is followed without a slot at first.
const LIMIT: Duration = Duration::from_secs(5);

/// The slot of this instance on the primary, if that has it and it is good.
pub(super) async fn on(settings: &AgentSettings, primary: &InstanceId) -> Option<String> {
    let asked = async {
        let client = upstream::connect(settings, primary).await.ok()?;
        slots::slots(&client).await.ok()
    };
    let there = tokio::time::timeout(LIMIT, asked).await.ok()??;
    let name = slot_name(&settings.instance);
    is_good(&name, &there).then_some(name)
}

/// Sees to it that a running standby names its slot while that is there. Its receiver begins anew for that, at once. A
/// standby that is frozen stays so: its upstream is another setting.
pub(super) async fn keep_in_use(
    client: &Client,
    own: &InstanceId,
    link: Link,
    theirs: &Slots,
) -> Result<(), tokio_postgres::Error> {
    let named = client
        .query_one("SELECT current_setting('primary_slot_name')", &[])
        .await?;
    let Some(name) = better(&slot_name(own), named.get(0), link, theirs) else {
        return Ok(());
    };
    tracing::info!(instance = %own, slot = name, "the standby is told which slot to use");
    let set = format!(
        "ALTER SYSTEM SET primary_slot_name = {}",
        literal(&name).trim_start()
    );
    client.batch_execute(&set).await?;
    client.batch_execute("SELECT pg_reload_conf()").await
}

/// What to name instead; `None` where it is right as it is. A standby that does not stream is not disturbed further,
/// except where the slot itself may be the cause.
fn better(own: &str, named: &str, link: Link, theirs: &Slots) -> Option<String> {
    match (named == own, named.is_empty(), is_good(own, theirs)) {
        (true, _, false) => Some(String::new()),
        (false, true, true) if link == Link::Streaming => Some(own.to_owned()),
        (true, _, true) | (false, _, _) => None,
    }
}

fn is_good(name: &str, slots: &Slots) -> bool {
    slots.get(name).is_some_and(|slot| !slot.lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_names_its_slot_while_that_is_there() {
        let lost = slots::Slot {
            lost: true,
            ..slots::Slot::default()
        };
        let with = |slot| Slots::from([("own".to_owned(), slot)]);
        let (none, good, lost) = (Slots::new(), with(slots::Slot::default()), with(lost));
        for (named, link, theirs, wanted) in [
            ("", Link::Streaming, &good, Some("own")),
            ("", Link::Broken, &good, None),
            ("", Link::Streaming, &none, None),
            ("own", Link::Streaming, &good, None),
            ("own", Link::Broken, &none, Some("")),
            ("own", Link::Broken, &lost, Some("")),
            ("theirs", Link::Broken, &good, None),
        ] {
            let found = better("own", named, link, theirs);
            assert_eq!(found.as_deref(), wanted, "{named} {link:?} {theirs:?}");
        }
    }
}
