//! A view made by hand, served on a free port, and a client that compares bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentinel_core::config::{NodeRole, ServiceSettings};
use sentinel_core::detector::Health;
use sentinel_core::discovery::{Announced, InstanceView, PeerView, ServiceView, StageView, View};
use sentinel_core::event::Event;
use sentinel_core::id::{Epoch, InstanceId, Member, Term, Token};
use sentinel_core::observation::{Facts, Link, Persistable, RestartGuard, Role, Upstream, Writes};
use sentinel_core::position::{ChainElement, Lineage, Offset, Position};
use sentinel_core::time::Instant;
use sentinel_daemon::resp::{self, Limits, Password};
use sentinel_daemon::source::{Source, StaleAnswers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

pub(crate) const RUN_1: &str = "65514128a02c84fd30623d4f76c58b393ea5413b";
pub(crate) const RUN_2: &str = "724c8b70faeba827acba599270885c8cdc4dea76";
pub(crate) const MYID: &str = "c6d0554e9f3f05218497386ac4055d658ad9d781";
pub(crate) const PEER_2: &str = "5514f2f4bfc8750139bca33bd18001cf50a2c304";
pub(crate) const PEER_3: &str = "602441243005c2869b7b533ce6d2ef77d21ce0ff";

/// The moment of every answer.
pub(crate) fn now() -> Instant {
    at_ms(100_000)
}

pub(crate) fn at_ms(ms: u64) -> Instant {
    Instant::ORIGIN + Duration::from_millis(ms)
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn facts(run_id: &str, role: Role) -> Facts {
    Facts {
        incarnation: run_id.into(),
        server: run_id.into(),
        role,
        position: Some(Position {
            lineage: Lineage::new("lineage"),
            offset: Offset(815),
        }),
        fork: None,
        synced: true,
        holds_data: true,
        persistable: Persistable::Yes,
        priority: 100,
        write_quorum: None,
        replicas: vec![],
        restart_guard: RestartGuard::None,
        writes: Writes::Itself,
        applied: None,
        trouble: None,
    }
}

fn instance(facts: Facts) -> InstanceView {
    InstanceView {
        health: Health::Up,
        health_since: at_ms(94_689),
        facts: Some(facts),
        facts_at: Some(at_ms(99_894)),
        rejected: None,
        agent: None,
    }
}

/// One primary with one replica.
pub(crate) fn service(name: &str, primary: &str, replica: &str) -> ServiceView {
    let upstream = Role::Replica {
        upstream: Upstream::Instance(id(primary)),
        link: Link::Streaming,
    };
    ServiceView {
        settings: ServiceSettings::new(name.into(), "redis".into(), [id(primary)].into()),
        token: Token {
            epoch: Epoch(3),
            step: 9,
        },
        stage: StageView::Steady,
        primary: Some(id(primary)),
        primary_epoch: Epoch(3),
        authorised: Some(Member {
            instance: id(primary),
            incarnation: RUN_1.into(),
        }),
        lineages: vec![ChainElement {
            lineage: Some(Lineage::new("lineage")),
            start: Offset(0),
            torn_until: Offset(0),
        }],
        write_quorum_k: 1,
        write_quorum_members: [id(replica)].into(),
        instances: BTreeMap::from([
            (id(primary), instance(facts(RUN_1, Role::Primary))),
            (id(replica), instance(facts(RUN_2, upstream))),
        ]),
        witnesses: [].into(),
        verdict_quorum: 2,
        report: vec![],
        blockers: vec![],
        history: vec![],
    }
}

fn peer(port: u16, myid: &str, heard: Option<Instant>) -> PeerView {
    PeerView {
        announced: Announced {
            resp: Some(InstanceId::new("127.0.0.1", port)),
            http: None,
            myid: myid.into(),
        },
        heard,
    }
}

/// Three voters, all heard; the service `orders`, and `fresh`, which has no primary yet.
pub(crate) fn view() -> View {
    let heard = Some(at_ms(99_233));
    let orders = service("orders", "127.0.0.1:33423", "127.0.0.1:49397");
    let mut fresh = service("fresh", "127.0.0.1:1111", "127.0.0.1:1112");
    fresh.primary = None;
    fresh.stage = StageView::Unadopted;
    View {
        cluster: "main".into(),
        node: "s1".into(),
        role: NodeRole::Voter,
        leader: Some("s2".into()),
        term: Term(5),
        leader_heard: Some(at_ms(99_950)),
        stale_after: Duration::from_secs(2),
        voters: BTreeMap::from([
            ("s1".into(), peer(58773, MYID, None)),
            ("s2".into(), peer(46123, PEER_2, heard)),
            ("s3".into(), peer(53611, PEER_3, heard)),
        ]),
        services: BTreeMap::from([
            ("orders".into(), Arc::new(orders)),
            ("fresh".into(), Arc::new(fresh)),
        ]),
    }
}

/// The same with another state of `orders`.
pub(crate) fn view_with(change: impl FnOnce(&mut ServiceView)) -> View {
    let mut view = view();
    change(Arc::make_mut(view.services.get_mut("orders").unwrap()));
    view
}

/// An endpoint that answers from a view. Dropping it stops it.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) events: broadcast::Sender<Event>,
    views: Arc<Mutex<Views>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is served, and what after so many more looks at it.
struct Views {
    shown: Arc<View>,
    next: Option<(usize, Arc<View>)>,
}

impl Views {
    fn look(&mut self) -> Arc<View> {
        match self.next.take() {
            Some((0, view)) => self.shown = view,
            Some((looks, view)) => self.next = Some((looks - 1, view)),
            None => {}
        }
        self.shown.clone()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) password: Option<Password>,
    pub(crate) limits: Limits,
    pub(crate) stale_answers: StaleAnswers,
}

impl Served {
    pub(crate) async fn start(view: View, setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let events = broadcast::channel(4096).0;
        let views = Arc::new(Mutex::new(Views {
            shown: Arc::new(view),
            next: None,
        }));
        let source = {
            let (views, events) = (views.clone(), events.clone());
            Source::new(
                move || views.lock().unwrap().look(),
                now,
                move || events.subscribe(),
                MYID,
                setup.stale_answers,
            )
        };
        let options = resp::Options {
            password: setup.password,
            limits: setup.limits,
        };
        let task = tokio::spawn(resp::serve(
            listener,
            source,
            options,
            std::future::pending(),
        ));
        Self {
            address,
            events,
            views,
            task,
        }
    }

    pub(crate) fn set_view(&self, view: View) {
        self.views.lock().unwrap().shown = Arc::new(view);
    }

    /// Serves another view after so many more looks at the old one.
    pub(crate) fn set_view_after(&self, looks: usize, view: View) {
        self.views.lock().unwrap().next = Some((looks, Arc::new(view)));
    }

    pub(crate) async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }
}

/// Sends requests and reads exactly as many bytes as it wants to see.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, request: &[&str]) {
        let mut bytes = format!("*{}\r\n", request.len());
        for arg in request {
            bytes += &format!("${}\r\n{arg}\r\n", arg.len());
        }
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub(crate) async fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        let mut at = 0;
        while at < bytes {
            let more = self.0.read(&mut read[at..]);
            match tokio::time::timeout(Duration::from_secs(5), more).await {
                Ok(Ok(more)) if more > 0 => at += more,
                Ok(Ok(_) | Err(_)) | Err(_) => break,
            }
        }
        read.truncate(at);
        read
    }

    /// One bulk string, or, of anything else, what has arrived.
    pub(crate) async fn read_some(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 256 * 1024];
        let mut at = 0;
        loop {
            let more = self.0.read(&mut bytes[at..]);
            match tokio::time::timeout(Duration::from_secs(5), more).await {
                Ok(Ok(more)) if more > 0 => at += more,
                Ok(Ok(_) | Err(_)) | Err(_) => break,
            }
            let text = String::from_utf8_lossy(&bytes[..at]);
            let announced = text
                .strip_prefix('$')
                .and_then(|rest| rest.split_once("\r\n"));
            let missing =
                announced.is_some_and(|(size, body)| body.len() < size.parse().unwrap_or(0) + 2);
            if !missing {
                break;
            }
        }
        bytes.truncate(at);
        bytes
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = self.0.read_to_end(&mut bytes);
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Asks, and wants these bytes and no other before those of the next answer.
    pub(crate) async fn expect(&mut self, request: &[&str], wanted: &str) {
        self.send(request).await;
        self.wants(wanted, &format!("{request:?}")).await;
    }

    pub(crate) async fn wants(&mut self, wanted: &str, what: &str) {
        let got = self.read(wanted.len()).await;
        assert_eq!(String::from_utf8_lossy(&got), wanted, "answer to {what}");
    }
}
