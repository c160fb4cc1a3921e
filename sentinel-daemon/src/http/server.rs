//! The sockets of HTTP: accepts connections, bounds their number, their headers and their time.
//!
//! Knows no path. hyper is driven here and not by `axum::serve`, which bounds neither connections nor
//! the time in which a header must have come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sentinel_core::id::{InstanceId, ServiceName};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::metrics::Counted;
use crate::http::routes::{Shared, router};
use crate::orders::Orders;
use crate::source::Source;

/// How an HTTP endpoint is set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it takes orders with, if it takes any.
    pub orders: Option<Orders>,
    /// See there.
    pub limits: Limits,
    /// Instances on this host that the node is the agent of: Patroni's paths speak of them.
    pub agent_of: BTreeSet<(ServiceName, InstanceId)>,
}

/// Limits that an operator may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time. 256.
    pub connections_max: usize,
    /// A connection without a whole header for so long is closed, also between two requests. 10 s.
    pub header_timeout: Duration,
    /// A connection is closed after so long, between two requests if possible. 5 min.
    pub connection_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            header_timeout: Duration::from_secs(10),
            connection_timeout: Duration::from_secs(300),
        }
    }
}

/// Bytes of a request's first line and headers together. Bodies are bounded where they are read.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a connection that must end may take over the answer that it is at.
const FAREWELL: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 98\r\n\
                      Connection: close\r\n\r\n{\"schema\":1,\"error\":\"too many connections\",\
                      \"hint\":\"close idle ones, or ask another node instead\"}\n";

/// Serves clients until `stop` completes, then ends what is open. Dropping this future ends it too.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    options: Options,
    stop: impl Future<Output = ()> + Send,
) {
    tokio::pin!(stop);
    let token = CancellationToken::new();
    let _dropped = token.clone().drop_guard();
    let counted = Counted::default();
    let tasks = TaskTracker::new();
    tasks.spawn(count(source.clone(), counted.clone(), token.clone()));
    let router = router(Shared {
        source,
        counted,
        agent_of: options.agent_of,
        orders: options.orders,
    });
    let places = Arc::new(Semaphore::new(options.limits.connections_max));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    // An empty socket takes so few bytes at once; one that does not is closed without the text.
                    let _ = stream.try_write(FULL);
                    continue;
                };
                let router = router.clone();
                tasks.spawn(converse(
                    stream,
                    router,
                    options.limits,
                    token.clone(),
                    place,
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "a client of HTTP could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    token.cancel();
    tasks.close();
    tasks.wait().await;
}

async fn converse(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // Without it an answer waits for the client's delayed acknowledgement; a socket that refuses it still works.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = tokio::time::sleep(limits.connection_timeout) => None,
        () = stop.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(FAREWELL, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of HTTP ended early");
    }
}

/// Counts events for `/metrics` until there are no more.
async fn count(source: Source, counted: Counted, stop: CancellationToken) {
    let mut events = source.events();
    loop {
        let received = tokio::select! {
            received = events.recv() => received,
            () = stop.cancelled() => return,
        };
        match received {
            Ok(event) => counted.count(&event),
            Err(RecvError::Lagged(missed)) => counted.missed(missed),
            Err(RecvError::Closed) => return,
        }
    }
}
