//! Makes facts of a server's status and of what its line knows besides. Pure.
//!
//! The delicate facts are a standby's position and its link: a position must never be below what the
//! standby holds (rule S16), nor be given to the wrong branch of history; and a standby streams only
//! when what it receives is of the newest branch, past its fork, under its own name.

use std::collections::BTreeMap;

use sentinel_core::id::{InstanceId, ServerId};
use sentinel_core::observation::{
    Facts, Link, Persistable, ReplicaLink, RestartGuard, Role, Upstream, Writes,
};
use sentinel_core::position::Position;

use crate::conninfo::{self, Target};
use crate::history::{History, Timeline};
use crate::lsn::Lsn;
use crate::query::{Place, ReceiverRow, Settings, StandbyPlace, Status};
use crate::sync_names;

/// What a status does not say, and its line found out.
#[derive(Clone, Debug)]
pub(crate) struct Beside<'a> {
    /// The address of the server, which is its name as a standby.
    pub(crate) instance: &'a InstanceId,
    /// The branch of history on which its position lies; `None` when that is not known for certain.
    pub(crate) history: Option<&'a History>,
    /// Whether its replay has come to rest, with nothing received since the server started.
    pub(crate) rest: Rest,
    /// The newest timeline that was seen on its upstream.
    pub(crate) upstream_timeline: Option<Timeline>,
    /// What its operator has to mend.
    pub(crate) trouble: Option<String>,
    /// Its upstream has removed the log that it needs next.
    pub(crate) supply_gone: bool,
}

/// Whether a standby's replay stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// For long enough, with nothing left to replay.
    AtRest,
    /// Not, or not for long enough.
    Moving,
}

/// Priority of a server on which nobody has set `sentinel.priority`.
const PRIORITY: u32 = 100;

/// Makes the facts.
pub(crate) fn facts(status: &Status, beside: &Beside<'_>) -> Facts {
    let branch = beside
        .history
        .map(|history| history.lineage(&status.system));
    let offset = match &status.place {
        Place::Primary { flushed, .. } => Some(*flushed),
        Place::Standby(place) => held(place, beside.rest),
    };
    Facts {
        incarnation: status.system.incarnation(status.version_file_changed),
        server: server(status),
        role: role(status, beside),
        position: branch.zip(offset).map(|(lineage, offset)| Position {
            lineage,
            offset: offset.into(),
        }),
        fork: beside
            .history
            .and_then(|history| history.parent(&status.system)),
        // A standby answers only once what it has replayed is consistent, and an empty server is none.
        synced: true,
        holds_data: true,
        persistable: persistable(&status.settings),
        priority: status
            .settings
            .priority
            .as_deref()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(PRIORITY),
        write_quorum: sync_names::quorum(&status.settings.sync_names),
        replicas: replicas(&status.receivers),
        restart_guard: RestartGuard::Unneeded,
        writes: if status.settings.read_only == "on" {
            Writes::Refused
        } else {
            Writes::Taken
        },
        applied: match &status.place {
            Place::Primary { .. } => None,
            Place::Standby(place) => Some(place.replayed.into()),
        },
        trouble: beside.trouble.clone(),
    }
}

/// Which server process answered.
pub(crate) fn server(status: &Status) -> ServerId {
    ServerId::new(format!(
        "{}.{}.{}.{}",
        status.system.0, status.started, status.port, status.folder
    ))
}

/// The end of what a standby holds; `None` when it cannot say so truly (rule S16).
///
/// What it received counts from the start of a segment after it changed its upstream, so that what it
/// replayed may lie further. Without a word of the receiver since the server's start there may be more in
/// its log than it has replayed, until replay has come to the end.
pub(crate) fn held(place: &StandbyPlace, rest: Rest) -> Option<Lsn> {
    match (place.received, rest) {
        (Some(received), Rest::AtRest | Rest::Moving) => Some(received.max(place.replayed)),
        (None, Rest::AtRest) => Some(place.replayed),
        (None, Rest::Moving) => None,
    }
}

/// Whether a standby that has received nothing waits at the end of its log, with nothing holding it back.
pub(crate) fn waits_for_more(place: &StandbyPlace, settings: &Settings) -> bool {
    let waits = place.startup_waits.as_deref();
    !place.receiver_runs
        && place.receiver.is_none()
        && !place.replay_paused
        && ["0", "0ms", ""].contains(&settings.apply_delay.as_str())
        && waits.is_some_and(|wait| {
            ["RecoveryWalStream", "RecoveryRetrieveRetryInterval"].contains(&wait)
        })
}

fn role(status: &Status, beside: &Beside<'_>) -> Role {
    match &status.place {
        Place::Primary { .. } => Role::Primary,
        Place::Standby(place) => {
            let target = conninfo::read(&status.settings.conninfo.0);
            let upstream = upstream(&status.settings, &target);
            let link = match upstream {
                Upstream::Frozen => Link::Broken,
                Upstream::Instance(_) => link(place, &target, beside),
            };
            Role::Replica { upstream, link }
        }
    }
}

/// An address that cannot be told is shown as `?`: it is no instance of any service.
fn upstream(settings: &Settings, target: &Target) -> Upstream {
    if settings.conninfo.0.is_empty() {
        return Upstream::Frozen;
    }
    let unknown = || InstanceId::new("?", 1);
    Upstream::Instance(target.instance.clone().unwrap_or_else(unknown))
}

fn link(place: &StandbyPlace, target: &Target, beside: &Beside<'_>) -> Link {
    if beside.supply_gone {
        return Link::Stranded;
    }
    let (Some(receiver), Some(history)) = (&place.receiver, beside.history) else {
        return Link::Broken;
    };
    let named = target.application_name == Some(beside.instance.to_string());
    // A receiver that is turned away looks like one that streams until it gives up: only a byte past
    // the fork proves that it does.
    let past_fork = history.timeline() == receiver.timeline
        && (receiver.timeline == Timeline(1) || receiver.flushed > history.fork());
    let newest = beside
        .upstream_timeline
        .is_none_or(|upstream| upstream <= receiver.timeline);
    if receiver.status == "streaming" && named && past_fork && newest {
        Link::Streaming
    } else {
        Link::Broken
    }
}

fn persistable(settings: &Settings) -> Persistable {
    let no = |text: &str| Persistable::No(text.to_owned());
    if settings.fsync != "on" {
        return no("runs with fsync off and may lose what it acknowledged; set fsync = on");
    }
    if !["on", "remote_apply"].contains(&settings.synchronous_commit.as_str()) {
        return no(
            "acknowledges writes before a standby has flushed them; set synchronous_commit = on",
        );
    }
    if settings.allow_alter_system.as_deref() == Some("off") {
        return no("refuses ALTER SYSTEM and would forget the order; set allow_alter_system = on");
    }
    Persistable::Yes
}

/// Names that are no addresses are not ours: a backup, a receiver of another kind. Of two connections
/// under one name the newer counts: the older is that of an earlier life and has not timed out yet.
fn replicas(rows: &[ReceiverRow]) -> Vec<ReplicaLink> {
    let mut replicas = BTreeMap::new();
    for row in rows {
        let Ok(instance) = row.name.parse::<InstanceId>() else {
            continue;
        };
        let link = if row.state == "streaming" {
            Link::Streaming
        } else {
            Link::Broken
        };
        replicas.insert(
            instance.clone(),
            ReplicaLink {
                instance,
                link,
                acknowledged: row.flushed.into(),
                applied: Some(row.replayed.into()),
            },
        );
    }
    replicas.into_values().collect()
}

/// What tests begin from.
#[cfg(test)]
pub(crate) mod samples {
    use sentinel_core::observation::{Facts, Persistable, RestartGuard, Role, Writes};

    /// Of a server in this role, of which nothing else is of interest.
    pub(crate) fn of(role: Role) -> Facts {
        Facts {
            incarnation: "7.1".into(),
            server: "7".into(),
            role,
            position: None,
            fork: None,
            synced: true,
            holds_data: true,
            persistable: Persistable::Yes,
            priority: 100,
            write_quorum: None,
            replicas: Vec::new(),
            restart_guard: RestartGuard::Unneeded,
            writes: Writes::Taken,
            applied: None,
            trouble: None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::history::SystemId;
    use crate::query::{Hidden, Receiver};
    use sentinel_core::position::Offset;

    pub(crate) fn standby(received: Option<u64>, replayed: u64) -> StandbyPlace {
        StandbyPlace {
            received: received.map(Lsn),
            asked: received.map(Lsn),
            replayed: Lsn(replayed),
            replay_paused: false,
            startup_waits: Some("RecoveryWalStream".into()),
            receiver_runs: true,
            receiver: Some(Receiver {
                status: "streaming".into(),
                timeline: Timeline(2),
                flushed: Lsn(received.unwrap_or_default()),
            }),
        }
    }

    pub(crate) fn status(place: Place) -> Status {
        Status {
            system: SystemId("77".into()),
            version_file_changed: 5,
            started: 6,
            port: "5433".into(),
            folder: "f".into(),
            place,
            settings: Settings {
                conninfo: Hidden("host=p port=5432 application_name=s:5433".into()),
                apply_delay: "0".into(),
                fsync: "on".into(),
                synchronous_commit: "on".into(),
                read_only: "off".into(),
                segment: 1 << 20,
                ..Settings::default()
            },
            receivers: Vec::new(),
        }
    }

    fn second() -> History {
        History::parse(Timeline(2), "1\t0/100\tx").unwrap()
    }

    fn judged(status: &Status, history: Option<&History>, upstream: Option<u32>) -> Facts {
        let instance = InstanceId::new("s", 5433);
        let beside = Beside {
            instance: &instance,
            history,
            rest: Rest::Moving,
            upstream_timeline: upstream.map(Timeline),
            trouble: None,
            supply_gone: false,
        };
        facts(status, &beside)
    }

    fn link_of(facts: &Facts) -> Link {
        match facts.role {
            Role::Replica { link, .. } => link,
            Role::Primary => panic!("a primary"),
        }
    }

    #[test]
    fn a_position_is_the_end_of_what_is_held() {
        for (received, replayed, rest, wanted) in [
            (Some(0x200), 0x180, Rest::Moving, Some(0x200)),
            (Some(0x100), 0x180, Rest::Moving, Some(0x180)),
            (None, 0x180, Rest::Moving, None),
            (None, 0x180, Rest::AtRest, Some(0x180)),
        ] {
            assert_eq!(
                held(&standby(received, replayed), rest),
                wanted.map(Lsn),
                "{received:?}"
            );
        }
    }

    #[test]
    fn replay_is_at_its_end_only_when_nothing_holds_it_back() {
        let settings = status(Place::Standby(standby(None, 1))).settings;
        let mut place = standby(None, 1);
        assert!(!waits_for_more(&place, &settings));
        place.receiver = None;
        place.receiver_runs = false;
        assert!(waits_for_more(&place, &settings));
        let delayed = Settings {
            apply_delay: "5min".into(),
            ..settings.clone()
        };
        assert!(!waits_for_more(&place, &delayed));
        place.replay_paused = true;
        assert!(!waits_for_more(&place, &settings));
        place.replay_paused = false;
        place.startup_waits = Some("RecoveryPause".into());
        assert!(!waits_for_more(&place, &settings));
        place.startup_waits = None;
        assert!(!waits_for_more(&place, &settings));
    }

    #[test]
    fn a_standby_streams_past_the_fork_of_the_newest_timeline_under_its_own_name() {
        let history = second();
        let streaming = status(Place::Standby(standby(Some(0x101), 0x101)));
        assert_eq!(
            link_of(&judged(&streaming, Some(&history), Some(2))),
            Link::Streaming
        );
        assert_eq!(
            link_of(&judged(&streaming, Some(&history), None)),
            Link::Streaming
        );
        assert_eq!(
            link_of(&judged(&streaming, Some(&history), Some(3))),
            Link::Broken
        );
        assert_eq!(link_of(&judged(&streaming, None, Some(2))), Link::Broken);
        let at_fork = status(Place::Standby(standby(Some(0x100), 0x100)));
        assert_eq!(
            link_of(&judged(&at_fork, Some(&history), Some(2))),
            Link::Broken
        );
        let mut renamed = streaming;
        renamed.settings.conninfo = Hidden("host=p application_name=walreceiver".into());
        assert_eq!(
            link_of(&judged(&renamed, Some(&history), Some(2))),
            Link::Broken
        );
    }

    #[test]
    fn an_empty_connection_string_is_a_freeze() {
        let mut frozen = status(Place::Standby(standby(Some(0x101), 0x101)));
        frozen.settings.conninfo = Hidden(String::new());
        let facts = judged(&frozen, Some(&second()), None);
        assert_eq!(
            facts.role,
            Role::Replica {
                upstream: Upstream::Frozen,
                link: Link::Broken
            }
        );
        let position = facts.position.unwrap();
        assert_eq!(position.to_string(), "257 of lineage 77/2@0/100");
        let fork = facts.fork.unwrap();
        assert_eq!(
            (fork.lineage.as_str(), fork.offset),
            ("77/1@0/0", Offset(0x100))
        );
    }

    #[test]
    fn a_server_that_forgets_is_named() {
        let ours = status(Place::Standby(standby(None, 1))).settings;
        assert_eq!(persistable(&ours), Persistable::Yes);
        for change in [
            |settings: &mut Settings| settings.fsync = "off".into(),
            |settings: &mut Settings| settings.synchronous_commit = "remote_write".into(),
            |settings: &mut Settings| settings.allow_alter_system = Some("off".into()),
        ] {
            let mut changed = ours.clone();
            change(&mut changed);
            assert!(matches!(persistable(&changed), Persistable::No(_)));
        }
    }

    #[test]
    fn of_two_connections_under_one_name_the_newer_counts() {
        let row = |name: &str, state: &str, flushed| ReceiverRow {
            name: name.into(),
            state: state.into(),
            flushed: Lsn(flushed),
            replayed: Lsn(flushed),
            synchronous: true,
        };
        let replicas = replicas(&[
            row("s:1", "streaming", 900),
            row("pg_basebackup", "backup", 0),
            row("s:1", "catchup", 100),
        ]);
        assert_eq!(replicas.len(), 1);
        assert_eq!(replicas[0].link, Link::Broken);
        assert_eq!(replicas[0].acknowledged, Offset(100));
    }
}
