#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! HTTP against a view made by hand: statuses, JSON, metrics, and what happens to bad clients.

#[path = "resp_conformance/view.rs"]
#[expect(
    dead_code,
    reason = "made for the Sentinel protocol, of which HTTP needs a part"
)]
mod view;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::discovery::View;
use sentinel_core::event::{Event, EventKind};
use sentinel_core::reason::Reason;
use sentinel_daemon::api::{
    ErrorJson, ExplainJson, PrimaryJson, SCHEMA, ServiceJson, ServicesJson, StatusJson,
};
use sentinel_daemon::http::{self, Limits, Options};
use sentinel_daemon::source::{Source, StaleAnswers};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// An endpoint; it stops when this is dropped.
struct Endpoint {
    address: SocketAddr,
    events: broadcast::Sender<Event>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn start(view: View, stale_answers: StaleAnswers, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let events = broadcast::channel(64).0;
        let (view, sender) = (Arc::new(view), events.clone());
        let source = Source::new(
            move || view.clone(),
            view::now,
            move || sender.subscribe(),
            view::MYID,
            stale_answers,
        );
        let options = Options {
            limits,
            ..Options::default()
        };
        let task = tokio::spawn(http::serve(
            listener,
            source,
            options,
            std::future::pending(),
        ));
        Self {
            address,
            events,
            task,
        }
    }

    async fn of(view: View) -> Self {
        Self::start(view, StaleAnswers::Serve, Limits::default()).await
    }

    /// Status and body of a request that ends its connection.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        parse(&self.raw(request.as_bytes()).await)
    }

    async fn json<T: DeserializeOwned>(&self, path: &str, status: u16) -> T {
        let (got, body) = self.ask("GET", path).await;
        assert_eq!(got, status, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Everything that comes back until the connection ends.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    // A reset ends the connection as well.
    let _ = tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parse(response: &str) -> (u16, String) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.unwrap_or(0), body.to_owned())
}

#[tokio::test]
async fn answers() {
    let mut made = view::view_with(|orders| {
        orders.report = vec![Reason::new("steady", "nothing to do")];
        orders.blockers = vec![Reason::new("too_few", "one copy is missing")];
    });
    let leader = made.voters.get_mut(&"s2".into()).unwrap();
    leader.announced.http = Some(view::id("127.0.0.1:26381"));
    let endpoint = Endpoint::of(made).await;

    let primary: PrimaryJson = endpoint.json("/v1/services/orders/primary", 200).await;
    assert_eq!(primary.schema, SCHEMA);
    assert_eq!(primary.primary, view::id("127.0.0.1:33423"));
    assert_eq!((primary.epoch, primary.freshness.stale), (3, false));
    assert_eq!(primary.freshness.as_of_ms, Some(50));
    let (_, body) = endpoint.ask("GET", "/v1/services/orders/primary").await;
    let wanted = r#"{"schema":1,"service":"orders","primary":"127.0.0.1:33423","epoch":3,"stale":false,"as_of_ms":50}"#;
    assert_eq!(body, wanted, "scripts read this with little more than grep");

    let service: ServiceJson = endpoint.json("/v1/services/orders", 200).await;
    assert_eq!(
        (service.stage.as_str(), service.quorum, service.min_replicas),
        ("steady", 2, 1)
    );
    let replica = &service.instances[1];
    assert_eq!(replica.role.as_deref(), Some("replica"));
    assert_eq!(replica.upstream, Some(view::id("127.0.0.1:33423")));
    assert_eq!((replica.health.as_str(), replica.offset), ("up", Some(815)));
    assert_eq!(service.blockers[0].code, "too_few");

    let services: ServicesJson = endpoint.json("/v1/services", 200).await;
    let names: Vec<_> = services
        .services
        .iter()
        .map(|s| s.service.as_str())
        .collect();
    assert_eq!(names, ["fresh", "orders"]);
    assert_eq!(services.services[0].primary, None);

    let explain: ExplainJson = endpoint.json("/v1/services/orders/explain", 200).await;
    assert_eq!(explain.report[0].text, "nothing to do");
    assert_eq!(explain.leader_http, Some(view::id("127.0.0.1:26381")));

    let status: StatusJson = endpoint.json("/v1/status", 200).await;
    assert_eq!(
        (status.node.as_str(), status.term, status.majority),
        ("s1", 5, 2)
    );
    assert_eq!(status.leader_http, Some(view::id("127.0.0.1:26381")));
    assert_eq!(status.voters[&"s2".into()].heard_ms, Some(767));

    for path in ["/livez", "/readyz"] {
        assert_eq!(endpoint.ask("GET", path).await.0, 200, "{path}");
        assert_eq!(
            endpoint.ask("HEAD", path).await,
            (200, String::new()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn stale_and_missing() {
    let mut stale = view::view();
    stale.leader_heard = Some(view::at_ms(97_000));
    let serving = Endpoint::of(stale.clone()).await;
    let primary: PrimaryJson = serving.json("/v1/services/orders/primary", 200).await;
    assert_eq!(
        (primary.freshness.stale, primary.freshness.as_of_ms),
        (true, Some(3000))
    );
    assert_eq!(serving.ask("GET", "/livez").await.0, 200);
    let ready: ErrorJson = serving.json("/readyz", 503).await;
    assert_eq!(
        ready.error,
        "no leader was heard for 3000 ms (stale_after is 2000 ms)"
    );

    let refusing = Endpoint::start(stale, StaleAnswers::Refuse, Limits::default()).await;
    let none: ErrorJson = refusing.json("/v1/services/orders/primary", 503).await;
    assert_eq!(
        none.error,
        "this node has heard of no leader lately, and is set to refuse stale answers"
    );
    let service: ServiceJson = refusing.json("/v1/services/orders", 200).await;
    assert_eq!(service.primary, None);

    let none: ErrorJson = serving.json("/v1/services/fresh/primary", 503).await;
    assert_eq!(none.error, "service `fresh` has no primary yet");
}

#[tokio::test]
async fn bad_requests() {
    let endpoint = Endpoint::of(view::view()).await;
    let long = "a".repeat(1000);
    let table = [
        (
            "GET",
            "/v1/services/nosuch".to_owned(),
            404,
            "no service named `nosuch`".to_owned(),
        ),
        (
            "GET",
            "/v1/services/nosuch/primary".into(),
            404,
            "no service named `nosuch`".into(),
        ),
        (
            "GET",
            format!("/v1/services/{long}"),
            404,
            format!("no service named `{}`", &long[..200]),
        ),
        (
            "GET",
            "/v1/nosuch".into(),
            404,
            "no such path `/v1/nosuch`".into(),
        ),
        (
            "POST",
            "/v1/status".into(),
            405,
            "method POST is not answered at `/v1/status`".into(),
        ),
        (
            "DELETE",
            "/v1/services/orders".into(),
            405,
            "method DELETE is not answered at `/v1/services/orders`".into(),
        ),
    ];
    for (method, path, status, error) in table {
        let (got, body) = endpoint.ask(method, &path).await;
        let json: ErrorJson = serde_json::from_str(&body).unwrap();
        assert_eq!((got, json.error), (status, error), "{method} {path}");
        assert!(!json.hint.is_empty());
    }
    let (status, body) = endpoint.ask("GET", "/v1/services/%ff/primary").await;
    let json: ErrorJson = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 400);
    assert!(
        json.error
            .starts_with("the name of the service cannot be read: "),
        "{json:?}"
    );
    let garbage = [
        &b"\x00\xff\x00garbage\r\n\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
    ];
    for bytes in garbage {
        assert_eq!(parse(&endpoint.raw(bytes).await).0, 400, "{bytes:?}");
    }
    let header = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(parse(&endpoint.raw(header.as_bytes()).await).0, 431);
    let headers = format!("GET /livez HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(100));
    assert_eq!(parse(&endpoint.raw(headers.as_bytes()).await).0, 431);
    assert_eq!(endpoint.ask("GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn silent_and_too_many_clients() {
    let limits = Limits {
        connections_max: 1,
        header_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let endpoint = Endpoint::start(view::view(), StaleAnswers::Serve, limits).await;
    let mut silent = TcpStream::connect(endpoint.address).await.unwrap();
    silent
        .write_all(b"GET /livez HTTP/1.1\r\nHo")
        .await
        .unwrap();
    let (status, body) = parse(&endpoint.raw(b"").await);
    let json: ErrorJson = serde_json::from_str(&body).unwrap();
    assert_eq!((status, json.error.as_str()), (503, "too many connections"));
    rest(&mut silent).await;
    let answered = async || (endpoint.ask("GET", "/livez").await.0 == 200).then_some(());
    sentinel_tests::wait::until_async("the place to be free again", answered).await;
}

#[tokio::test]
async fn metrics() {
    let endpoint = Endpoint::of(view::view()).await;
    let scrape = async || endpoint.ask("GET", "/metrics").await.1;
    let text = scrape().await;
    for line in [
        "sentinel_up 1",
        "sentinel_is_leader 0",
        "sentinel_term 5",
        "sentinel_stale 0",
        "sentinel_voters 3",
        "sentinel_leader_heard_age_seconds 0.05",
        "sentinel_service_epoch{service=\"orders\"} 3",
        "sentinel_service_stage{service=\"orders\",stage=\"steady\"} 1",
        "sentinel_service_primary{service=\"orders\",instance=\"127.0.0.1:33423\"} 1",
        "sentinel_instance_up{service=\"orders\",instance=\"127.0.0.1:49397\"} 1",
        "sentinel_failovers_total{service=\"orders\"} 0",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|got| got == line),
            "{line} is missing in\n{text}"
        );
    }
    let switched = Event {
        service: "orders".into(),
        token: Default::default(),
        primary: None,
        kind: EventKind::PrimarySwitched {
            from: Some(view::id("127.0.0.1:1")),
            to: view::id("127.0.0.1:2"),
        },
    };
    endpoint.events.send(switched).unwrap();
    let counted = "sentinel_failovers_total{service=\"orders\"} 1";
    let seen = async || scrape().await.contains(counted).then_some(());
    sentinel_tests::wait::until_async("the failover to be counted", seen).await;
}
