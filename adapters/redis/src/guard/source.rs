//! Says which server the guard should write to, from whatever the caller names as the source.
//!
//! Every source becomes one `watch` of an address and a way to ask again, so that the guard can wait
//! for "somewhere else" while it connects or while a write waits. An address is a hint only: whether
//! the server is a primary, and who counts there, is read from the server itself.

use std::sync::{Arc, PoisonError, RwLock};

use sentinel_core::discovery::View;
use sentinel_core::id::{Epoch, InstanceId, ServiceName};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::Credentials;

use super::error::Trouble;
use super::options::Timeouts;
use super::sentinels;

/// Where the primary of a service is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAddress {
    /// The server.
    pub instance: InstanceId,
    /// Number of the failover that made it primary, where the source knows it. An answer with a lower one
    /// than was already seen is out of date.
    pub epoch: Option<Epoch>,
}

/// Where to learn who the primary is.
#[derive(Debug)]
pub enum PrimarySource {
    /// It is always this server.
    Fixed(InstanceId),
    /// Somebody in this process knows; `None` means that nobody is primary at the moment. When the sender is
    /// dropped, what it said last stands.
    Watch(watch::Receiver<Option<PrimaryAddress>>),
    /// A node in this process knows: its `Handle::views()`.
    Views(watch::Receiver<Arc<View>>),
    /// The Sentinel protocol at these endpoints, ours or Redis Sentinel's. They are asked in turn until one
    /// answers, again at every `+switch-master`, and whenever the primary fails.
    Sentinels {
        /// All endpoints; one that answers suffices.
        endpoints: Vec<InstanceId>,
        /// For the endpoints themselves.
        credentials: Option<Credentials>,
    },
}

/// A source at work. Dropping it ends the tasks behind it.
#[derive(Debug)]
pub(super) struct Lookup {
    address: watch::Receiver<Option<PrimaryAddress>>,
    again: Arc<Notify>,
    trouble: Arc<RwLock<Trouble>>,
    _tasks: JoinSet<()>,
    // Keeps a fixed address's channel open.
    _fixed: Option<watch::Sender<Option<PrimaryAddress>>>,
}

/// What the tasks behind a source write to.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    pub(super) again: Arc<Notify>,
    pub(super) trouble: Arc<RwLock<Trouble>>,
}

impl Findings {
    pub(super) fn note(&self, trouble: Trouble) {
        *self.trouble.write().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

impl Lookup {
    pub(super) fn start(service: &ServiceName, source: PrimarySource, timeouts: &Timeouts) -> Self {
        let findings = Findings {
            again: Arc::new(Notify::new()),
            trouble: Arc::new(RwLock::new(Trouble::Unnamed)),
        };
        let mut tasks = JoinSet::new();
        let (address, fixed) = match source {
            PrimarySource::Fixed(instance) => {
                let epoch = None;
                let (sender, receiver) = watch::channel(Some(PrimaryAddress { instance, epoch }));
                (receiver, Some(sender))
            }
            PrimarySource::Watch(receiver) => (receiver, None),
            PrimarySource::Views(views) => {
                let (sender, receiver) = watch::channel(None);
                tasks.spawn(follow(views, service.clone(), sender));
                (receiver, None)
            }
            PrimarySource::Sentinels {
                endpoints,
                credentials,
            } => {
                let asker = sentinels::Asker::new(service, credentials, timeouts.connect);
                (asker.start(endpoints, &findings, &mut tasks), None)
            }
        };
        Self {
            address,
            again: findings.again,
            trouble: findings.trouble,
            _tasks: tasks,
            _fixed: fixed,
        }
    }

    /// The server that is named at present, or why none is.
    pub(super) fn current(&self) -> Result<InstanceId, Trouble> {
        match &*self.address.borrow() {
            Some(address) => Ok(address.instance.clone()),
            None => Err(self
                .trouble
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()),
        }
    }

    /// Asks the source again, in the background.
    pub(super) fn ask_again(&self) {
        self.again.notify_one();
    }

    /// Waits until a server other than `not` is named, and returns it; for ever if none ever is.
    pub(super) async fn elsewhere(&self, not: Option<&InstanceId>) -> InstanceId {
        let mut address = self.address.clone();
        let moved = |named: &Option<PrimaryAddress>| {
            named
                .as_ref()
                .is_some_and(|named| Some(&named.instance) != not)
        };
        let named = match address.wait_for(moved).await {
            Ok(named) => named.as_ref().map(|named| named.instance.clone()),
            Err(_) => None,
        };
        match named {
            Some(instance) => instance,
            // The sender is gone: what was named last stays.
            None => std::future::pending().await,
        }
    }
}

/// Hands on what a node's views say of one service, until the node ends.
async fn follow(
    mut views: watch::Receiver<Arc<View>>,
    service: ServiceName,
    address: watch::Sender<Option<PrimaryAddress>>,
) {
    loop {
        let found = named_in(&views.borrow_and_update(), &service);
        address.send_if_modified(|known| {
            let modified = *known != found;
            *known = found;
            modified
        });
        if views.changed().await.is_err() {
            // What the node knew last stays.
            return std::future::pending().await;
        }
    }
}

fn named_in(view: &View, service: &ServiceName) -> Option<PrimaryAddress> {
    let service = view.services.get(service)?;
    Some(PrimaryAddress {
        instance: service.primary.clone()?,
        epoch: Some(service.primary_epoch),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use sentinel_core::config::{NodeRole, ServiceSettings};
    use sentinel_core::discovery::{ServiceView, StageView};
    use sentinel_core::id::{Term, Token};

    fn view(service: &str, primary: Option<InstanceId>) -> Arc<View> {
        let name = ServiceName::new(service);
        let settings = ServiceSettings::new(name.clone(), "redis".into(), BTreeSet::new());
        let service = ServiceView {
            settings,
            token: Token::default(),
            stage: StageView::Steady,
            primary,
            primary_epoch: Epoch(3),
            authorised: None,
            lineages: Vec::new(),
            write_quorum_k: 1,
            write_quorum_members: BTreeSet::new(),
            instances: BTreeMap::new(),
            witnesses: BTreeSet::new(),
            verdict_quorum: 2,
            report: Vec::new(),
            blockers: Vec::new(),
            history: Vec::new(),
        };
        Arc::new(View {
            cluster: "main".into(),
            node: "s1".into(),
            role: NodeRole::Voter,
            leader: None,
            term: Term(1),
            leader_heard: None,
            stale_after: Duration::from_secs(2),
            voters: BTreeMap::new(),
            services: BTreeMap::from([(name, Arc::new(service))]),
        })
    }

    fn instance(port: u16) -> InstanceId {
        InstanceId::new("127.0.0.1", port)
    }

    fn lookup(source: PrimarySource) -> Lookup {
        Lookup::start(&"orders".into(), source, &Timeouts::default())
    }

    #[tokio::test]
    async fn follows_a_node_in_the_same_process() {
        let (views, receiver) = watch::channel(view("orders", None));
        let lookup = lookup(PrimarySource::Views(receiver));
        assert_eq!(lookup.current(), Err(Trouble::Unnamed));
        views.send(view("orders", Some(instance(7)))).unwrap();
        assert_eq!(lookup.elsewhere(None).await, instance(7));
        assert_eq!(lookup.current(), Ok(instance(7)));
        views.send(view("orders", Some(instance(8)))).unwrap();
        assert_eq!(lookup.elsewhere(Some(&instance(7))).await, instance(8));
    }

    #[test]
    fn other_services_are_passed_over() {
        let view = view("carts", Some(instance(7)));
        assert_eq!(named_in(&view, &"orders".into()), None);
    }

    #[tokio::test]
    async fn what_was_said_last_stays() {
        let (sender, receiver) = watch::channel(Some(PrimaryAddress {
            instance: instance(7),
            epoch: None,
        }));
        let lookup = lookup(PrimarySource::Watch(receiver));
        drop(sender);
        assert_eq!(lookup.current(), Ok(instance(7)));
        let here = instance(7);
        let elsewhere = lookup.elsewhere(Some(&here));
        let waited = tokio::time::timeout(Duration::from_millis(20), elsewhere).await;
        assert!(waited.is_err(), "nobody can name another one");
    }
}
