//! Replication among simulated servers: connecting, partial and full resync, streaming, acknowledging.
//!
//! A link is one number at both ends; what belongs to an older link comes to nothing. A cut delays what
//! is under way and loses nothing; a full sync takes the replica's data at its beginning, as Redis does.

use std::time::Duration;

use sentinel_core::position::Lineage;

use super::event::ReplicationEvent;
use super::instance::{Downstream, Duty, Feed, Process};
use super::invariant::Happening;
use super::network::Place;
use super::world::World;

/// How long the copy of a whole data set takes, in milliseconds.
const COPY_MILLIS: (u64, u64) = (50, 1_500);

/// Time between two attempts to connect, in milliseconds.
const RETRY_MILLIS: (u64, u64) = (100, 1_000);

impl World {
    pub(super) fn on_replication(&mut self, event: ReplicationEvent) {
        match event {
            ReplicationEvent::Connect { replica, link } => self.on_connect(replica, link),
            ReplicationEvent::Data {
                replica,
                link,
                upto,
            } => self.on_data(replica, link, upto),
            ReplicationEvent::Ack {
                upstream,
                replica,
                link,
                offset,
            } => self.on_ack(upstream, replica, link, offset),
            ReplicationEvent::SyncBegin { replica, link } => self.on_sync_begin(replica, link),
            ReplicationEvent::SyncDone {
                replica,
                link,
                lineage,
                log,
            } => self.on_sync_done(replica, link, lineage, log),
            ReplicationEvent::Lost { replica, link } => self.on_lost(replica, link),
            ReplicationEvent::Gone {
                upstream,
                replica,
                link,
            } => self.on_gone(upstream, replica, link),
        }
    }

    /// The upstream of a link that is still the replica's, if data can flow down it.
    fn upstream_of(&self, replica: usize, link: u64) -> Option<usize> {
        let instance = &self.instances[replica];
        match instance.duty {
            Duty::Follow(upstream)
                if instance.link == link && instance.process == Process::Running =>
            {
                Some(upstream)
            }
            Duty::Follow(_) | Duty::Primary | Duty::Frozen => None,
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.network
            .open(Place::Instance(from), Place::Instance(to))
    }

    fn on_connect(&mut self, replica: usize, link: u64) {
        let Some(upstream) = self.upstream_of(replica, link) else {
            return;
        };
        let reachable = self.reaches(replica, upstream) && self.reaches(upstream, replica);
        if !reachable || !self.instances[upstream].serves() {
            let delay = self.chance.millis(RETRY_MILLIS.0, RETRY_MILLIS.1);
            self.replicate(delay, ReplicationEvent::Connect { replica, link });
            return;
        }
        if self.is_postgres() {
            return self.on_standby_connect(replica, upstream, link);
        }
        let continues = self.instances[upstream].continues(&self.instances[replica]);
        let seen = Downstream {
            link,
            streaming: continues,
            acknowledged: 0,
        };
        self.instances[upstream].downstream.insert(replica, seen);
        self.trace.line(self.schedule.now(), || {
            let how = if continues { "in part" } else { "in full" };
            format!(
                "{} resyncs {how} from {}",
                self.addresses[replica], self.addresses[upstream]
            )
        });
        if continues {
            self.go_on(replica, upstream, link);
        } else {
            self.instances[replica].feed = Feed::Syncing;
            let delay = Duration::from_millis(self.instances[upstream].sync_delay_ms);
            self.replicate(delay, ReplicationEvent::SyncBegin { replica, link });
        }
    }

    /// The replica streams from here on.
    fn go_on(&mut self, replica: usize, upstream: usize, link: u64) {
        let own = self.instances[replica].log.len();
        assert!(
            self.instances[upstream].log.get(..own) == Some(self.instances[replica].log.as_slice()),
            "the simulator let {replica} continue from {upstream} with other data"
        );
        let lineage = self.instances[upstream].lineage.clone();
        if self.instances[replica].lineage != lineage {
            self.drop_downstream(replica);
            self.instances[replica].adopt(&lineage);
        }
        self.instances[replica].feed = Feed::Streaming;
        let offset = self.instances[replica].offset();
        self.acknowledge(replica, upstream, link, offset);
        let upto = self.instances[upstream].offset();
        if upto > offset {
            self.push(replica, link, upto);
        }
    }

    /// Sends the history up to an offset down a link.
    pub(super) fn push(&mut self, replica: usize, link: u64, upto: u64) {
        self.push_late(replica, link, upto, Duration::ZERO);
    }

    fn push_late(&mut self, replica: usize, link: u64, upto: u64, pause: Duration) {
        let delay = self.network.segment() + pause;
        self.replicate(
            delay,
            ReplicationEvent::Data {
                replica,
                link,
                upto,
            },
        );
    }

    /// Sends what is new to every streaming replica.
    pub(super) fn push_all(&mut self, upstream: usize) {
        let upto = self.instances[upstream].offset();
        self.push_upto(upstream, upto, Duration::ZERO);
    }

    /// Sends the history up to an offset to every streaming replica, after a while.
    pub(super) fn push_upto(&mut self, upstream: usize, upto: u64, pause: Duration) {
        let streaming: Vec<(usize, u64)> = self.instances[upstream]
            .downstream
            .iter()
            .filter(|(_, seen)| seen.streaming)
            .map(|(replica, seen)| (*replica, seen.link))
            .collect();
        for (replica, link) in streaming {
            self.push_late(replica, link, upto, pause);
        }
    }

    pub(super) fn acknowledge(&mut self, replica: usize, upstream: usize, link: u64, offset: u64) {
        let delay = self.network.segment();
        self.replicate(
            delay,
            ReplicationEvent::Ack {
                upstream,
                replica,
                link,
                offset,
            },
        );
    }

    fn on_data(&mut self, replica: usize, link: u64, upto: u64) {
        let Some(upstream) = self.upstream_of(replica, link) else {
            return;
        };
        if self.instances[replica].feed != Feed::Streaming
            || self.instances[upstream].process == Process::Dead
            || self.instances[upstream]
                .downstream
                .get(&replica)
                .map(|d| d.link)
                != Some(link)
        {
            return;
        }
        if !self.reaches(upstream, replica) {
            let delay = self.network.retransmit();
            self.replicate(
                delay,
                ReplicationEvent::Data {
                    replica,
                    link,
                    upto,
                },
            );
            return;
        }
        let have = self.instances[replica].log.len();
        let end = usize::try_from(upto).expect("few writes");
        let end = end.min(self.instances[upstream].log.len());
        if end > have {
            let news = self.instances[upstream].log[have..end].to_vec();
            self.instances[replica].log.extend(news);
            self.tell(&Happening::Fed { replica, upstream });
            self.push_all(replica);
        }
        let offset = self.instances[replica].offset();
        self.acknowledge(replica, upstream, link, offset);
    }

    fn on_ack(&mut self, upstream: usize, replica: usize, link: u64, offset: u64) {
        if !self.reaches(replica, upstream) {
            let delay = self.network.retransmit();
            self.replicate(
                delay,
                ReplicationEvent::Ack {
                    upstream,
                    replica,
                    link,
                    offset,
                },
            );
            return;
        }
        if let Some(seen) = self.instances[upstream].downstream.get_mut(&replica)
            && seen.link == link
        {
            seen.acknowledged = offset.max(seen.acknowledged);
            self.settle(upstream);
        }
    }

    fn on_sync_begin(&mut self, replica: usize, link: u64) {
        let Some(upstream) = self.upstream_of(replica, link) else {
            return;
        };
        let attached = self.instances[upstream].downstream.get(&replica);
        if attached.is_none_or(|seen| seen.link != link) {
            return;
        }
        let stuck = self.instances[upstream].process != Process::Running
            || !self.reaches(upstream, replica);
        if stuck {
            let delay = self.network.retransmit();
            self.replicate(delay, ReplicationEvent::SyncBegin { replica, link });
            return;
        }
        self.tell(&Happening::Overwriting { replica, upstream });
        self.totals.full_syncs += 1;
        self.drop_downstream(replica);
        let log = self.instances[upstream].log.clone();
        let lineage = self.instances[upstream].lineage.clone();
        let instance = &mut self.instances[replica];
        instance.whole = false;
        instance.log.clear();
        instance.parent = None;
        let delay = self.chance.millis(COPY_MILLIS.0, COPY_MILLIS.1);
        self.replicate(
            delay,
            ReplicationEvent::SyncDone {
                replica,
                link,
                lineage,
                log,
            },
        );
    }

    fn on_sync_done(&mut self, replica: usize, link: u64, lineage: Lineage, log: Vec<u64>) {
        let Some(upstream) = self.upstream_of(replica, link) else {
            return;
        };
        let attached = self.instances[upstream].downstream.get_mut(&replica);
        let Some(seen) = attached.filter(|seen| seen.link == link) else {
            return;
        };
        if !self
            .network
            .open(Place::Instance(upstream), Place::Instance(replica))
        {
            let delay = self.network.retransmit();
            self.replicate(
                delay,
                ReplicationEvent::SyncDone {
                    replica,
                    link,
                    lineage,
                    log,
                },
            );
            return;
        }
        seen.streaming = true;
        let instance = &mut self.instances[replica];
        instance.log = log;
        instance.lineage = lineage;
        instance.backlog_start = instance.offset();
        instance.whole = true;
        self.tell(&Happening::Fed { replica, upstream });
        self.go_on(replica, upstream, link);
    }

    /// A broken link is noticed when the news gets through.
    fn on_lost(&mut self, replica: usize, link: u64) {
        if self.instances[replica].link == link
            && self.instances[replica].process == Process::Running
        {
            let delay = self.chance.millis(RETRY_MILLIS.0, RETRY_MILLIS.1);
            self.reconnect(replica, delay);
        }
    }

    fn on_gone(&mut self, upstream: usize, replica: usize, link: u64) {
        if !self.reaches(replica, upstream) {
            let delay = self.network.retransmit();
            self.replicate(
                delay,
                ReplicationEvent::Gone {
                    upstream,
                    replica,
                    link,
                },
            );
            return;
        }
        let downstream = &mut self.instances[upstream].downstream;
        if downstream
            .get(&replica)
            .is_some_and(|seen| seen.link == link)
        {
            downstream.remove(&replica);
        }
    }
}
