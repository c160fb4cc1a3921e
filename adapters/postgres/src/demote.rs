//! What can be done over SQL alone to a primary that is no longer authorised: it is fenced, and stays a
//! primary until an agent or a hand makes a standby of it.
//!
//! Fenced: new transactions are refused, commits wait for somebody who does not exist, and its clients'
//! sessions are ended, so that they ask again who the primary is. None of it is a proof: a session may
//! set its own rules. What it acknowledges to such a session counts nowhere.

use sentinel_core::observation::Writes;
use sentinel_core::runtime::Stop;

use crate::act::SYNC_NAMES;
use crate::follow::{self, Order};
use crate::line::Reading;
use crate::orders;
use crate::session::Session;
use crate::sync_names;

/// Fences a server of the same database as the primary's, and says what is left to do.
pub(crate) async fn fence(
    session: &mut Session<'_>,
    found: &Reading,
    order: &Order<'_>,
) -> Result<Reading, Stop> {
    follow::counterpart(session, found, order).await?;
    let nobody = sync_names::nobody(order.token);
    let alone = |reading: &Reading| {
        let quorum = &reading.facts.write_quorum;
        quorum
            .as_ref()
            .is_some_and(|quorum| quorum.members.is_empty())
    };
    let fenced = |reading: &Reading| reading.facts.writes == Writes::Refused && alone(reading);
    if !fenced(found) {
        session
            .set(&[
                ("default_transaction_read_only", "on"),
                (SYNC_NAMES, &nobody),
            ])
            .await?;
        session.until("not fenced", fenced).await?;
    }
    session.ask(&orders::close_clients()).await?;
    Err(Stop::Refused(
        "it is fenced (takes no writes, acknowledges nothing) and still a primary: to make a standby of it \
         needs an agent on its host, or a hand: stop it, pg_rewind or pg_basebackup from the primary, start it"
            .into(),
    ))
}
