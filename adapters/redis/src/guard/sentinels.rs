//! Finds the primary by the Sentinel protocol: asks endpoints in turn, and listens for switches.
//!
//! One task asks; one task an endpoint listens for `+switch-master` and has it asked again. The answer
//! with the highest epoch seen stands, so that an endpoint that lags behind cannot send the guard
//! back; only when every endpoint answers with a lower one is the cluster taken to be a new one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use sentinel_core::id::{Epoch, InstanceId, ServiceName};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Credentials;
use crate::reply;

use super::error::Trouble;
use super::reading;
use super::source::{Findings, PrimaryAddress};
use super::wire::{Broken, Wire};
use crate::connection::reply_text;

/// Pause before an endpoint that broke off is listened to again.
const LISTEN_PAUSE: Duration = Duration::from_millis(200);

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    service: ServiceName,
    credentials: Option<Credentials>,
    answer_timeout: Duration,
}

impl Asker {
    pub(super) fn new(
        service: &ServiceName,
        credentials: Option<Credentials>,
        answer_timeout: Duration,
    ) -> Self {
        Self {
            service: service.clone(),
            credentials,
            answer_timeout,
        }
    }

    /// Starts the tasks; they end with the set.
    pub(super) fn start(
        self,
        endpoints: Vec<InstanceId>,
        findings: &Findings,
        tasks: &mut JoinSet<()>,
    ) -> watch::Receiver<Option<PrimaryAddress>> {
        let (sender, receiver) = watch::channel(None);
        for endpoint in endpoints.clone() {
            let asker = self.clone();
            let again = findings.again.clone();
            tasks.spawn(async move {
                loop {
                    // However it ends, the remedy is to listen again.
                    let _ = asker.listen(&endpoint, &again).await;
                    sleep(LISTEN_PAUSE).await;
                }
            });
        }
        findings.again.notify_one();
        tasks.spawn(self.keep_asking(endpoints, findings.clone(), sender));
        receiver
    }

    async fn keep_asking(
        self,
        mut endpoints: Vec<InstanceId>,
        findings: Findings,
        address: watch::Sender<Option<PrimaryAddress>>,
    ) {
        loop {
            findings.again.notified().await;
            let epoch_seen = address.borrow().as_ref().and_then(|seen| seen.epoch);
            match self.ask_in_turn(&mut endpoints, epoch_seen).await {
                Ok(found) => {
                    address.send_if_modified(|known| {
                        let modified = *known != found;
                        *known = found;
                        modified
                    });
                    findings.note(Trouble::Unnamed);
                }
                // What was known stays: without an answer nothing says that it is wrong.
                Err(trouble) => findings.note(trouble),
            }
        }
    }

    /// Asks until one answers as of `epoch_seen` or later, and moves that one to the front.
    async fn ask_in_turn(
        &self,
        endpoints: &mut [InstanceId],
        epoch_seen: Option<Epoch>,
    ) -> Result<Option<PrimaryAddress>, Trouble> {
        let mut lagging: Option<PrimaryAddress> = None;
        let mut knows_none = false;
        let mut failure = String::from("none is configured");
        for index in 0..endpoints.len() {
            let endpoint = &endpoints[index];
            match self.bounded(self.ask(endpoint)).await {
                Ok(Some(found)) if found.epoch >= epoch_seen => {
                    endpoints[..=index].rotate_right(1);
                    return Ok(Some(found));
                }
                Ok(Some(found)) if lagging.as_ref().is_none_or(|it| it.epoch < found.epoch) => {
                    lagging = Some(found);
                }
                Ok(Some(_)) => {}
                Ok(None) => knows_none = true,
                Err(detail) => failure = format!("{endpoint}: {detail}"),
            }
        }
        if lagging.is_some() || knows_none {
            Ok(lagging)
        } else {
            Err(Trouble::NoEndpoint(failure))
        }
    }

    async fn ask(&self, endpoint: &InstanceId) -> Result<Option<PrimaryAddress>, String> {
        let mut connection = self.connect(endpoint).await?;
        let service = self.service.as_str();
        let replies = connection
            .ask(&[
                &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", service],
                &["SENTINEL", "MASTER", service],
            ])
            .await
            .map_err(describe)?;
        match &replies[..] {
            [Value::ServerError(error), _] => Err(reply_text(error)),
            [Value::Nil, _] => Ok(None),
            [Value::Array(address), details] => {
                let instance = reading::address(address).ok_or("its answer is no address")?;
                let epoch = epoch_of(&instance, details);
                Ok(Some(PrimaryAddress { instance, epoch }))
            }
            _ => Err("its answer is no address".to_owned()),
        }
    }

    /// Has the question asked at once, and again at every switch, until the endpoint breaks off.
    async fn listen(&self, endpoint: &InstanceId, again: &Arc<Notify>) -> Result<(), String> {
        let subscribe = async {
            let mut connection = self.connect(endpoint).await?;
            let subscribed = connection.ask(&[&["SUBSCRIBE", "+switch-master"]]).await;
            subscribed.map_err(describe).map(|_| connection)
        };
        let mut connection = self.bounded(subscribe).await?;
        loop {
            again.notify_one();
            connection.replies.next().await.map_err(describe)?;
        }
    }

    async fn connect(&self, endpoint: &InstanceId) -> Result<Wire, String> {
        let opened = Wire::open(endpoint).await;
        let mut connection = opened.map_err(|error| error.to_string())?;
        let authenticated = connection.authenticate(self.credentials.as_ref()).await;
        authenticated.map_err(describe)??;
        Ok(connection)
    }

    async fn bounded<T>(
        &self,
        question: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        match timeout(self.answer_timeout, question).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", self.answer_timeout)),
        }
    }
}

/// The epoch, if the second answer speaks of the same primary as the first.
fn epoch_of(instance: &InstanceId, details: &Value) -> Option<Epoch> {
    let field = |name| reply::field(details, name).and_then(reply::text);
    let same = field("ip") == Some(instance.host())
        && field("port") == Some(instance.port().to_string().as_str());
    let epoch = field("config-epoch")?.parse().ok()?;
    same.then_some(Epoch(epoch))
}

fn describe(broken: Broken) -> String {
    match broken {
        Broken::Lost(detail) => detail,
        Broken::Garbled(detail) => format!("no Redis protocol: {detail}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// An endpoint that answers both questions with this, whatever is asked.
    async fn endpoint(answer: String) -> InstanceId {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                kept.push(stream);
            }
        });
        InstanceId::new("127.0.0.1", port)
    }

    fn names(port: u16, epoch: u64) -> String {
        let (port, epoch) = (port.to_string(), epoch.to_string());
        let array = |words: &[&str]| {
            let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
            let words: Vec<String> = words.iter().map(bulk).collect();
            format!("*{}\r\n{}", words.len(), words.concat())
        };
        array(&["10.0.0.1", &port])
            + &array(&["ip", "10.0.0.1", "port", &port, "config-epoch", &epoch])
    }

    fn asker() -> Asker {
        Asker::new(&"orders".into(), None, Duration::from_millis(500))
    }

    fn found(port: u16, epoch: u64) -> Option<PrimaryAddress> {
        Some(PrimaryAddress {
            instance: InstanceId::new("10.0.0.1", port),
            epoch: Some(Epoch(epoch)),
        })
    }

    #[tokio::test]
    async fn the_first_that_answers_is_believed_and_asked_first() {
        let dead = InstanceId::new("127.0.0.1", 1);
        let hung = endpoint(String::new()).await;
        let good = endpoint(names(7, 3)).await;
        let mut endpoints = [dead, hung, good.clone()];
        assert_eq!(
            asker().ask_in_turn(&mut endpoints, None).await,
            Ok(found(7, 3))
        );
        assert_eq!(endpoints[0], good);
    }

    #[tokio::test]
    async fn a_lagging_endpoint_does_not_send_the_guard_back() {
        let lagging = endpoint(names(6, 2)).await;
        let current = endpoint(names(7, 3)).await;
        let mut endpoints = [lagging.clone(), current];
        let answer = asker().ask_in_turn(&mut endpoints, Some(Epoch(3))).await;
        assert_eq!(answer, Ok(found(7, 3)));
        // When nobody is further, it is a new cluster.
        let answer = asker().ask_in_turn(&mut [lagging], Some(Epoch(3))).await;
        assert_eq!(answer, Ok(found(6, 2)));
    }

    #[tokio::test]
    async fn no_primary_and_no_answer_are_told_apart() {
        let without = endpoint("*-1\r\n-ERR No such master with that name\r\n".into()).await;
        assert_eq!(asker().ask_in_turn(&mut [without], None).await, Ok(None));
        let dead = InstanceId::new("127.0.0.1", 1);
        let answer = asker().ask_in_turn(&mut [dead], None).await;
        assert!(matches!(answer, Err(Trouble::NoEndpoint(_))), "{answer:?}");
    }
}
