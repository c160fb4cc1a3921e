//! Answers `SENTINEL …` and `ROLE` from a moment.
//!
//! A service that has no primary yet is unknown to clients of this protocol: a row without an address breaks
//! them, and they ask again anyhow. A stale node that is set to refuse knows no service at all.

use sentinel_core::discovery::{PeerView, ServiceView};
use sentinel_core::id::{InstanceId, NodeName};

use crate::resp::reply::Reply;
use crate::resp::rows;
use crate::source::Moment;

const UNKNOWN: &str = "ERR No such master with that name";

/// A service that can be answered for.
struct Known<'a> {
    service: &'a ServiceView,
    primary: &'a InstanceId,
}

fn known<'a>(moment: &'a Moment, name: &[u8]) -> Option<Known<'a>> {
    let name = std::str::from_utf8(name).ok()?;
    let service = moment.view.services.get(name)?;
    let primary = service.primary.as_ref().filter(|_| !moment.refuses())?;
    Some(Known { service, primary })
}

fn all(moment: &Moment) -> impl Iterator<Item = Known<'_>> {
    let refuses = moment.refuses();
    moment
        .view
        .services
        .values()
        .filter(move |_| !refuses)
        .filter_map(|service| {
            let primary = service.primary.as_ref()?;
            Some(Known { service, primary })
        })
}

/// Services that can be answered for, with their primaries, by name.
pub fn answerable(moment: &Moment) -> impl Iterator<Item = (&ServiceView, &InstanceId)> {
    all(moment).map(|known| (known.service, known.primary))
}

/// `SENTINEL GET-MASTER-ADDR-BY-NAME`.
pub fn address(moment: &Moment, name: &[u8], reply: &mut Reply<'_>) {
    match known(moment, name) {
        Some(known) => {
            reply.array(2);
            reply.bulk(known.primary.host());
            reply.bulk_number(u64::from(known.primary.port()));
        }
        None => reply.null_array(),
    }
}

/// `SENTINEL MASTERS`.
pub fn primaries(moment: &Moment, reply: &mut Reply<'_>) {
    reply.array(all(moment).count());
    for known in all(moment) {
        rows::primary(moment, known.service, known.primary, reply);
    }
}

/// `SENTINEL MASTER`.
pub fn primary(moment: &Moment, name: &[u8], reply: &mut Reply<'_>) {
    match known(moment, name) {
        Some(known) => rows::primary(moment, known.service, known.primary, reply),
        None => reply.error(UNKNOWN),
    }
}

/// `SENTINEL REPLICAS` and `SLAVES`.
pub fn replicas(moment: &Moment, name: &[u8], reply: &mut Reply<'_>) {
    let Some(known) = known(moment, name) else {
        return reply.error(UNKNOWN);
    };
    let replicas = || {
        known
            .service
            .instances
            .keys()
            .filter(|id| *id != known.primary)
    };
    reply.array(replicas().count());
    for id in replicas() {
        rows::replica(moment, known.service, id, reply);
    }
}

/// `SENTINEL SENTINELS`: the other voters, once they have announced where they answer.
pub fn voters(moment: &Moment, name: &[u8], reply: &mut Reply<'_>) {
    let Some(known) = known(moment, name) else {
        return reply.error(UNKNOWN);
    };
    let announced = || {
        others(moment).filter_map(|(name, voter)| {
            let announced = voter.announced.resp.as_ref()?;
            Some((name, voter, announced))
        })
    };
    reply.array(announced().count());
    for voter in announced() {
        rows::voter(moment, known.service, voter, reply);
    }
}

/// `SENTINEL CKQUORUM`: whether enough voters were heard lately to find a primary down, and to act upon it.
pub fn quorum(moment: &Moment, name: &[u8], reply: &mut Reply<'_>) {
    let Some(known) = known(moment, name) else {
        return reply.error(UNKNOWN);
    };
    let voters = moment.view.voters.len();
    let myself = usize::from(moment.view.voters.contains_key(&moment.view.node));
    let heard = others(moment)
        .filter(|(_, voter)| !rows::voter_down(moment, known.service, voter))
        .count();
    let usable = heard + myself;
    let mut problems = String::new();
    if usable < known.service.verdict_quorum as usize {
        problems +=
            ". Not enough available Sentinels to reach the specified quorum for this master";
    }
    if usable < voters / 2 + 1 {
        problems +=
            ". Not enough available Sentinels to reach the majority and authorize a failover";
    }
    if problems.is_empty() {
        reply.simple(&format!(
            "OK {usable} usable Sentinels. Quorum and failover authorization can be reached"
        ));
    } else {
        reply.error(format!("NOQUORUM {usable} usable Sentinels{problems}"));
    }
}

/// `SENTINEL FAILOVER`: an order, and orders need the admin token, for which this protocol has no place. A primary that
/// is down is replaced without being asked.
pub fn failover(moment: &Moment, name: &[u8], reply: &mut Reply<'_>) {
    match known(moment, name) {
        Some(known) => reply.error(format!(
            "NOPERM An order needs the admin token, which is not given here: use `sentinel switchover {}`. A primary \
             that is down is replaced without an order",
            known.service.settings.name
        )),
        None => reply.error(UNKNOWN),
    }
}

/// `ROLE`.
pub fn role(moment: &Moment, reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk("sentinel");
    reply.array(all(moment).count());
    for known in all(moment) {
        reply.bulk(known.service.settings.name.as_str());
    }
}

fn others(moment: &Moment) -> impl Iterator<Item = (&NodeName, &PeerView)> {
    let node = &moment.view.node;
    moment
        .view
        .voters
        .iter()
        .filter(move |(name, _)| *name != node)
}
