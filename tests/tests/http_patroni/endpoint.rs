//! One node's HTTP endpoint over a view that the test changes at will, on a free port.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use sentinel_core::discovery::View;
use sentinel_core::id::InstanceId;
use sentinel_daemon::http::{self, Options};
use sentinel_daemon::source::{Source, StaleAnswers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::view;

/// The endpoint; it stops when this is dropped.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    view: Arc<Mutex<Arc<View>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoint {
    /// A node that is the agent of these instances of `orders`.
    pub(crate) async fn start(view: View, agent_of: &[InstanceId], stale: StaleAnswers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let view = Arc::new(Mutex::new(Arc::new(view)));
        let (shown, events) = (view.clone(), broadcast::channel(1).0);
        let source = Source::new(
            move || shown.lock().unwrap().clone(),
            view::now,
            move || events.subscribe(),
            view::MYID,
            stale,
        );
        let own = agent_of.iter().map(|id| ("orders".into(), id.clone()));
        let options = Options {
            agent_of: own.collect(),
            ..Options::default()
        };
        let stop = std::future::pending();
        let task = tokio::spawn(http::serve(listener, source, options, stop));
        Self {
            address,
            view,
            task,
        }
    }

    pub(crate) fn set_view(&self, view: View) {
        *self.view.lock().unwrap() = Arc::new(view);
    }

    /// Status and body of a request that ends its connection.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    pub(crate) async fn status(&self, path: &str) -> u16 {
        self.ask("GET", path).await.0
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let (_, body) = self.ask("GET", path).await;
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
    }

    /// Why the answer is no.
    pub(crate) async fn reason(&self, path: &str) -> String {
        let body = self.json(path).await;
        body["sentinel"]["reason"].as_str().unwrap_or("").to_owned()
    }
}
