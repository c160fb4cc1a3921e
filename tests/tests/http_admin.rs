#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! Orders over HTTP against a leader made by hand: who may give them, what is refused before anybody is asked, and which
//! status each end of a switchover has.

#[path = "resp_conformance/view.rs"]
#[expect(
    dead_code,
    reason = "made for the Sentinel protocol, of which HTTP needs a part"
)]
mod view;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentinel_core::event::{Event, EventKind};
use sentinel_core::id::{Epoch, InstanceId, ServiceName, Token};
use sentinel_core::reason::Reason;
use sentinel_core::sentinel::AskError;
use sentinel_daemon::api::{ErrorJson, SwitchoverJson};
use sentinel_daemon::http::{self, Options};
use sentinel_daemon::orders::Orders;
use sentinel_daemon::resp::password::Password;
use sentinel_daemon::source::{Source, StaleAnswers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

const TOKEN: &str = "correct horse";
const BEGUN: Token = Token {
    epoch: Epoch(3),
    step: 20,
};

/// How the leader made by hand answers: with the token of the commit and what happens then, or with a refusal.
type Script = fn() -> Result<Vec<Event>, AskError>;

type Answered = Pin<Box<dyn Future<Output = Result<Token, AskError>> + Send>>;

/// Longer than anything here takes, and short for the test that waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whom it was asked for.
type Asked = Arc<Mutex<Vec<(String, Option<InstanceId>)>>>;

struct Endpoint {
    address: SocketAddr,
    asked: Asked,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    async fn start(token: Option<&str>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let events = broadcast::channel(64).0;
        let mut made = view::view_with(|_| {});
        let leader = made.voters.get_mut(&"s2".into()).unwrap();
        leader.announced.http = Some(view::id("127.0.0.1:26381"));
        made.leader = Some("s2".into());
        let (made, sender) = (Arc::new(made), events.clone());
        let source = Source::new(
            move || made.clone(),
            view::now,
            move || sender.subscribe(),
            view::MYID,
            StaleAnswers::Serve,
        );
        let asked = Asked::default();
        let noted = asked.clone();
        let switchover = move |service: ServiceName, to| -> Answered {
            noted.lock().unwrap().push((service.to_string(), to));
            let happened = script().map(|told| {
                for event in told {
                    events.send(event).unwrap();
                }
                BEGUN
            });
            Box::pin(std::future::ready(happened))
        };
        let mut orders = Orders::new(switchover, token.map(Password::new));
        orders.patience = PATIENCE;
        let options = Options {
            orders: Some(orders),
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
            asked,
            task,
        }
    }

    /// Status, headers and body of a POST that ends its connection.
    async fn post(&self, service: &str, authorization: &str, body: &str) -> (u16, String, String) {
        let request = format!(
            "POST /v1/services/{service}/switchover HTTP/1.1\r\nHost: x\r\n{authorization}Connection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // A reset ends the connection as well.
        let _ = tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    async fn authorised(&self, service: &str, body: &str) -> (u16, String) {
        let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
        let (status, _, body) = self.post(service, &authorization, body).await;
        (status, body)
    }

    fn asked(&self) -> Vec<(String, Option<InstanceId>)> {
        self.asked.lock().unwrap().clone()
    }
}

/// It happened later than the commit with which the switchover began.
fn event(kind: EventKind) -> Event {
    Event {
        service: "orders".into(),
        token: Token {
            epoch: Epoch(4),
            step: 23,
        },
        primary: Some(view::id("127.0.0.1:49397")),
        kind,
    }
}

fn error(body: &str) -> ErrorJson {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[tokio::test]
async fn it_is_over_when_the_new_primary_takes_writes() {
    let endpoint = Endpoint::start(Some(TOKEN), || {
        Ok(vec![
            event(EventKind::SwitchoverStarted {
                target: view::id("127.0.0.1:49397"),
            }),
            event(EventKind::PrimarySwitched {
                from: Some(view::id("127.0.0.1:33423")),
                to: view::id("127.0.0.1:49397"),
            }),
            event(EventKind::FailoverEnded),
        ])
    })
    .await;
    let (status, body) = endpoint
        .authorised("orders", r#"{"to": "127.0.0.1:49397"}"#)
        .await;
    assert_eq!(status, 200, "{body}");
    let done: SwitchoverJson = serde_json::from_str(&body).unwrap();
    assert_eq!(done.from, Some(view::id("127.0.0.1:33423")));
    assert_eq!(done.to, view::id("127.0.0.1:49397"));
    assert_eq!((done.epoch, done.token.as_str()), (4, "3.20"));
    let to = Some(view::id("127.0.0.1:49397"));
    assert_eq!(endpoint.asked(), [("orders".to_owned(), to)]);

    let (status, _) = endpoint.authorised("orders", "").await;
    assert_eq!(status, 200, "an empty body leaves the choice to the leader");
    assert_eq!(endpoint.asked()[1], ("orders".to_owned(), None));
}

/// An end that belongs to an earlier switchover is none of this one's.
#[tokio::test]
async fn what_happened_before_it_began_is_not_its_end() {
    let endpoint = Endpoint::start(Some(TOKEN), || {
        let called_off = |reason: &str| EventKind::SwitchoverCalledOff {
            reason: reason.to_owned(),
        };
        let earlier = Event {
            token: Token { step: 19, ..BEGUN },
            ..event(called_off("early"))
        };
        Ok(vec![earlier, event(called_off("late"))])
    })
    .await;
    let (status, body) = endpoint.authorised("orders", "{}").await;
    assert_eq!(status, 409);
    assert_eq!(error(&body).code.as_deref(), Some("called_off"));
    assert_eq!(error(&body).error, "called off: late");
}

#[tokio::test]
async fn every_refusal_of_the_leader_has_its_status() {
    let cases: [(Script, u16, &str, &str); 5] = [
        (
            || {
                Err(AskError::Refused {
                    reasons: vec![Reason::new("veto_not_admitted", "it lags")],
                })
            },
            409,
            "refused",
            "it lags",
        ),
        (
            || Err(AskError::MovedOn),
            409,
            "moved_on",
            "something else was decided first: look at the status, and ask again",
        ),
        (
            || {
                Err(AskError::NotLeader {
                    leader: Some("s2".into()),
                })
            },
            503,
            "not_leader",
            "this node does not lead: ask s2",
        ),
        (
            || Err(AskError::Stopped),
            503,
            "stopped",
            "the node was stopped: start it again, or ask another one",
        ),
        (
            || {
                Ok(vec![event(EventKind::FailoverAborted {
                    reason: "no seal".to_owned(),
                })])
            },
            409,
            "called_off",
            "called off: no seal",
        ),
    ];
    for (script, status, code, text) in cases {
        let endpoint = Endpoint::start(Some(TOKEN), script).await;
        let (got, body) = endpoint.authorised("orders", "{}").await;
        let refusal = error(&body);
        assert_eq!(
            (got, refusal.code.as_deref()),
            (status, Some(code)),
            "{body}"
        );
        assert_eq!(refusal.error, text);
        let is_not_leader = code == "not_leader";
        assert_eq!(refusal.leader.is_some(), is_not_leader, "{body}");
        let address = is_not_leader.then(|| view::id("127.0.0.1:26381"));
        assert_eq!(refusal.leader_http, address);
        assert_eq!(refusal.reasons.len(), usize::from(code == "refused"));
    }
}

#[tokio::test]
async fn nobody_is_asked_without_the_token() {
    let endpoint = Endpoint::start(Some(TOKEN), || Err(AskError::MovedOn)).await;
    for authorization in [
        "",
        "Authorization: Bearer correct hors\r\n",
        "Authorization: Bearer correct horse!\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Basic correct horse\r\n",
        "Authorization: correct horse\r\n",
    ] {
        let (status, head, body) = endpoint.post("orders", authorization, "{}").await;
        assert_eq!(status, 401, "{authorization:?}: {body}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
        assert_eq!(error(&body).code.as_deref(), Some("unauthorized"));
        assert!(!body.contains("correct horse"), "{body}");
    }
    let (status, _, _) = endpoint.post("absent", "", "{}").await;
    assert_eq!(status, 401, "the token comes first");
    assert_eq!(endpoint.asked(), []);
}

#[tokio::test]
async fn a_node_without_a_token_takes_no_orders() {
    let endpoint = Endpoint::start(None, || Err(AskError::MovedOn)).await;
    let (status, body) = endpoint.authorised("orders", "{}").await;
    assert_eq!(status, 403);
    assert_eq!(error(&body).code.as_deref(), Some("admin_disabled"));
    assert!(error(&body).hint.contains("security.admin_token_file"));
    assert_eq!(endpoint.asked(), []);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_before_anybody_is_asked() {
    let endpoint = Endpoint::start(Some(TOKEN), || Err(AskError::MovedOn)).await;
    let long = format!("{{\"to\": \"{}\"}}", "x".repeat(5000));
    for (service, body, status, part) in [
        ("orders", "{", 400, "not understood"),
        ("orders", r#"{"to": "nowhere"}"#, 400, "has no port"),
        ("orders", r#"{"too": "h:1"}"#, 400, "unknown field `too`"),
        ("orders", long.as_str(), 413, "longer than 4096 bytes"),
        ("absent", "{}", 404, "no service of that name"),
    ] {
        let (got, answer) = endpoint.authorised(service, body).await;
        assert_eq!(got, status, "{answer}");
        assert!(error(&answer).error.contains(part), "{answer}");
    }
    assert_eq!(endpoint.asked(), []);
}

#[tokio::test]
async fn a_switchover_without_an_end_is_answered_all_the_same() {
    let endpoint = Endpoint::start(Some(TOKEN), || Ok(Vec::new())).await;
    let (status, body) = endpoint.authorised("orders", "{}").await;
    assert_eq!(
        (status, error(&body).code.as_deref()),
        (504, Some("under_way"))
    );
}
