//! Renders the rows of `SENTINEL MASTERS`, `REPLICAS` and `SENTINELS`: fields, order and flags as in Redis.
//!
//! Clients index fields by position and compare flags word by word, so nothing is added here. Where Redis
//! counts from something that this node does not keep, the comment at the field says what stands in for it.

use std::borrow::Cow;
use std::fmt::Write as _;

use sentinel_core::detector::Health;
use sentinel_core::discovery::{InstanceView, PeerView, ServiceView, StageView};
use sentinel_core::id::{InstanceId, NodeName, ServerId};
use sentinel_core::observation::{Facts, Link, Role, Upstream};
use sha2::{Digest as _, Sha256};

use crate::resp::reply::Reply;
use crate::source::Moment;

/// Redis's own default: a failover here has no such limit, and clients expect the field.
const FAILOVER_TIMEOUT_MS: u64 = 180_000;
/// Redis's own default, shown until the instance has said its own.
const PRIORITY_DEFAULT: u32 = 100;
/// As long as Redis's are.
const RUN_ID_DIGITS: usize = 40;

/// The value of a field; all of them are texts to the client.
enum Cell<'a> {
    Text(Cow<'a, str>),
    Number(u64),
}

/// The fields of one row. Reused from row to row.
#[derive(Default)]
struct Fields<'a>(Vec<(&'static str, Cell<'a>)>);

impl<'a> Fields<'a> {
    fn text(&mut self, name: &'static str, text: impl Into<Cow<'a, str>>) {
        self.0.push((name, Cell::Text(text.into())));
    }

    fn number(&mut self, name: &'static str, number: impl Into<u64>) {
        self.0.push((name, Cell::Number(number.into())));
    }

    fn write(&self, reply: &mut Reply<'_>) {
        reply.map(self.0.len());
        for (name, cell) in &self.0 {
            reply.bulk(name);
            match cell {
                Cell::Text(text) => reply.bulk(text.as_bytes()),
                Cell::Number(number) => reply.bulk_number(*number),
            }
        }
    }
}

/// Whether a quorum thinks that the primary is down, as this node knows.
pub fn objectively_down(service: &ServiceView) -> bool {
    !service.witnesses.is_empty() && service.witnesses.len() >= service.verdict_quorum as usize
}

/// Whether this node thinks that the instance is down.
pub fn subjectively_down(instance: &InstanceView) -> bool {
    match instance.health {
        Health::Down(_) => true,
        Health::Unknown | Health::Up | Health::Suspect => false,
    }
}

/// Whether a voter has been silent for longer than the service lets a primary be.
pub fn voter_down(moment: &Moment, service: &ServiceView, voter: &PeerView) -> bool {
    match voter.heard {
        None => true,
        Some(heard) => moment.now.since(heard) >= service.settings.down_after,
    }
}

/// The row of a service's primary.
pub fn primary(
    moment: &Moment,
    service: &ServiceView,
    primary: &InstanceId,
    reply: &mut Reply<'_>,
) {
    let mut fields = Fields(Vec::with_capacity(24));
    let instance = service.instances.get(primary);
    // Only until the answer moves: a client that sees the new primary may use it at once.
    let stage = match service.stage {
        StageView::Freezing => Some("select_slave"),
        StageView::Promoting(_) => Some("wait_promotion"),
        StageView::Unadopted
        | StageView::Steady
        | StageView::Switching(_)
        | StageView::Repointing => None,
    };
    let down = instance.is_some_and(subjectively_down);
    let odown = objectively_down(service);
    fields.text("name", service.settings.name.as_str());
    address(&mut fields, primary, instance);
    let words = [
        (down, "s_down"),
        (odown, "o_down"),
        (true, "master"),
        (disconnected(instance), "disconnected"),
        (stage.is_some(), "failover_in_progress"),
    ];
    fields.text("flags", flags(&words));
    link(&mut fields, stage);
    pings(&mut fields, moment, instance);
    if odown {
        // Redis counts from the verdict; what is known here is since when this node agrees.
        let since = instance.map_or(0, |instance| moment.ms_since(instance.health_since));
        fields.number("o-down-time", since);
    }
    fields.number("down-after-milliseconds", down_after_ms(service));
    reported(&mut fields, moment, instance, "master");
    let others = moment
        .view
        .voters
        .keys()
        .filter(|name| **name != moment.view.node);
    let replicas = service.instances.keys().filter(|other| *other != primary);
    fields.number("config-epoch", service.primary_epoch.0);
    fields.number("num-slaves", replicas.count() as u64);
    fields.number("num-other-sentinels", others.count() as u64);
    fields.number("quorum", service.verdict_quorum);
    fields.number("failover-timeout", FAILOVER_TIMEOUT_MS);
    fields.number("parallel-syncs", service.settings.parallel_syncs);
    fields.write(reply);
}

/// The row of a replica: any instance that is not the primary.
pub fn replica(moment: &Moment, service: &ServiceView, id: &InstanceId, reply: &mut Reply<'_>) {
    let mut fields = Fields(Vec::with_capacity(24));
    let instance = service.instances.get(id);
    let facts = instance.and_then(|instance| instance.facts.as_ref());
    let promoted = match &service.stage {
        StageView::Promoting(target) => target == id,
        StageView::Unadopted
        | StageView::Steady
        | StageView::Switching(_)
        | StageView::Freezing
        | StageView::Repointing => false,
    };
    fields.text("name", id.to_string());
    address(&mut fields, id, instance);
    let words = [
        (instance.is_some_and(subjectively_down), "s_down"),
        (true, "slave"),
        (disconnected(instance), "disconnected"),
        (promoted, "promoted"),
    ];
    fields.text("flags", flags(&words));
    link(&mut fields, None);
    pings(&mut fields, moment, instance);
    fields.number("down-after-milliseconds", down_after_ms(service));
    reported(&mut fields, moment, instance, "slave");
    upstream(&mut fields, moment, instance);
    let own = facts.map_or(PRIORITY_DEFAULT, |facts| facts.priority);
    let priority = service.settings.priorities.get(id).copied().unwrap_or(own);
    let offset = facts.and_then(|facts| facts.position.as_ref());
    fields.number("slave-priority", priority);
    fields.number(
        "slave-repl-offset",
        offset.map_or(0, |position| position.offset.0),
    );
    fields.number("replica-announced", 1u32);
    fields.write(reply);
}

/// The row of another voter, at the address that it announced.
pub fn voter(
    moment: &Moment,
    service: &ServiceView,
    (name, voter, announced): (&NodeName, &PeerView, &InstanceId),
    reply: &mut Reply<'_>,
) {
    let mut fields = Fields(Vec::with_capacity(16));
    let down = voter_down(moment, service, voter);
    let silence = voter.heard.map_or(0, |heard| moment.ms_since(heard));
    let myid = voter.announced.myid.as_str();
    fields.text("name", myid);
    fields.text("ip", announced.host());
    fields.number("port", announced.port());
    fields.text("runid", myid);
    let words = [
        (down, "s_down"),
        (true, "sentinel"),
        (down, "disconnected"),
        (service.witnesses.contains(name), "master_down"),
    ];
    fields.text("flags", flags(&words));
    link(&mut fields, None);
    fields.number("last-ping-sent", if down { silence } else { 0 });
    fields.number("last-ok-ping-reply", silence);
    fields.number("last-ping-reply", silence);
    if down {
        fields.number(
            "s-down-time",
            silence.saturating_sub(down_after_ms(service)),
        );
    }
    fields.number("down-after-milliseconds", down_after_ms(service));
    fields.number("last-hello-message", silence);
    // Votes are Raft's here, and not given for each service.
    fields.text("voted-leader", "?");
    fields.number("voted-leader-epoch", 0u32);
    fields.write(reply);
}

fn address<'a>(fields: &mut Fields<'a>, id: &'a InstanceId, instance: Option<&'a InstanceView>) {
    let facts = instance.and_then(|instance| instance.facts.as_ref());
    fields.text("ip", id.host());
    fields.number("port", id.port());
    fields.text(
        "runid",
        facts.map_or("".into(), |facts| run_id(&facts.server)),
    );
}

/// Names a server process by 40 hex digits: Redis's own run id as it is, another engine's name by its digest, equal on
/// every node. Like a run id it changes with each restart.
fn run_id(server: &ServerId) -> Cow<'_, str> {
    let name = server.as_str();
    if name.len() == RUN_ID_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return name.into();
    }
    let mut digits = String::with_capacity(RUN_ID_DIGITS);
    for byte in &Sha256::digest(name)[..RUN_ID_DIGITS / 2] {
        write!(digits, "{byte:02x}").expect("writing to a string cannot fail");
    }
    digits.into()
}

fn link(fields: &mut Fields<'_>, failover_state: Option<&'static str>) {
    fields.number("link-pending-commands", 0u32);
    fields.number("link-refcount", 1u32);
    if let Some(state) = failover_state {
        fields.text("failover-state", state);
    }
}

/// Probes stand in for pings: the newest facts are the newest reply.
fn pings(fields: &mut Fields<'_>, moment: &Moment, instance: Option<&InstanceView>) {
    let Some(instance) = instance else {
        for name in ["last-ping-sent", "last-ok-ping-reply", "last-ping-reply"] {
            fields.number(name, 0u32);
        }
        return;
    };
    let silence = moment.ms_since(instance.facts_at.unwrap_or(instance.health_since));
    let unanswered = match instance.health {
        Health::Up => 0,
        Health::Unknown | Health::Suspect | Health::Down(_) => silence,
    };
    fields.number("last-ping-sent", unanswered);
    fields.number("last-ok-ping-reply", silence);
    fields.number("last-ping-reply", silence);
    if subjectively_down(instance) {
        fields.number("s-down-time", moment.ms_since(instance.health_since));
    }
}

fn reported(
    fields: &mut Fields<'_>,
    moment: &Moment,
    instance: Option<&InstanceView>,
    expected: &'static str,
) {
    let facts = instance.and_then(|instance| instance.facts.as_ref());
    let role = facts.map_or(expected, |facts| match facts.role {
        Role::Primary => "master",
        Role::Replica { .. } => "slave",
    });
    let read_at = instance.and_then(|instance| instance.facts_at);
    fields.number("info-refresh", read_at.map_or(0, |at| moment.ms_since(at)));
    fields.text("role-reported", role);
    // Since when the health holds, because changes of the role are not dated.
    let since = instance.map_or(0, |instance| moment.ms_since(instance.health_since));
    fields.number("role-reported-time", since);
}

fn upstream<'a>(fields: &mut Fields<'a>, moment: &Moment, instance: Option<&'a InstanceView>) {
    let facts: Option<&Facts> = instance.and_then(|instance| instance.facts.as_ref());
    let (upstream, streaming) = match facts.map(|facts| &facts.role) {
        Some(Role::Replica { upstream, link }) => {
            let upstream = match upstream {
                Upstream::Instance(upstream) => Some(upstream),
                Upstream::Frozen => None,
            };
            (upstream, *link == Link::Streaming)
        }
        Some(Role::Primary) | None => (None, false),
    };
    // At least for so long: when the link broke is not dated.
    let read_at = instance.and_then(|instance| instance.facts_at);
    let broken = read_at.filter(|_| !streaming);
    fields.number(
        "master-link-down-time",
        broken.map_or(0, |at| moment.ms_since(at)),
    );
    fields.text("master-link-status", if streaming { "ok" } else { "err" });
    fields.text(
        "master-host",
        upstream.map_or("?", |upstream| upstream.host()),
    );
    fields.number("master-port", upstream.map_or(0, InstanceId::port));
}

/// An instance that does not answer, or never did.
fn disconnected(instance: Option<&InstanceView>) -> bool {
    instance.is_none_or(|instance| subjectively_down(instance) || instance.facts.is_none())
}

fn down_after_ms(service: &ServiceView) -> u64 {
    u64::try_from(service.settings.down_after.as_millis()).unwrap_or(u64::MAX)
}

fn flags(words: &[(bool, &'static str)]) -> Cow<'static, str> {
    let mut set = words.iter().filter(|(set, _)| *set).map(|(_, word)| *word);
    match (set.next(), set.next()) {
        (Some(only), None) => Cow::Borrowed(only),
        (first, second) => {
            let all: Vec<&str> = first.into_iter().chain(second).chain(set).collect();
            Cow::Owned(all.join(","))
        }
    }
}
