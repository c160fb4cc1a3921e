//! The sockets of the Sentinel protocol: accepts clients, moves bytes, drops those that do not take theirs.
//!
//! Knows no command. One task for each client; one task turns events into messages, once for all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use sentinel_core::discovery::View;
use sentinel_core::event::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::resp::clients::{Clients, Connected};
use crate::resp::events::{self, Message};
use crate::resp::limits::{BACKLOG_MESSAGES_MAX, Limits, OUTPUT_BYTES_BATCH};
use crate::resp::password::Password;
use crate::resp::reply::{Protocol, Reply};
use crate::resp::request::{Progress, RequestReader};
use crate::resp::session::{Endpoint, Next, Session};
use crate::source::Source;

/// How an endpoint of the Sentinel protocol is set.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What clients must give, if anything.
    pub password: Option<Password>,
    /// See there.
    pub limits: Limits,
}

/// What subscribers are sent.
#[derive(Clone, Debug)]
enum Published {
    /// The messages of one event.
    Messages(Arc<[Message]>),
    /// Events were missed: whoever listens must reconnect and ask anew.
    Gap,
}

/// How much is read at once from a client that sends little, and from one that has filled that.
const READ_BYTES_SMALL: usize = 4 * 1024;
const READ_BYTES_LARGE: usize = 32 * 1024;
/// Memory that a client may keep after a large answer.
const OUTPUT_BYTES_KEPT: usize = 4 * OUTPUT_BYTES_BATCH;
/// How long, and for how many bytes, a connection is read on after its last answer.
const FAREWELL: Duration = Duration::from_millis(500);
const FAREWELL_BYTES_MAX: usize = 1024 * 1024;
/// How often, and how many times, it is looked whether a view has caught up with an event.
const VIEW_POLL: Duration = Duration::from_millis(1);
const VIEW_POLLS_MAX: u32 = 500;
/// Pause after a failed accept: out of file descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves clients until `stop` completes, then drops them all. Dropping this future drops them too.
pub async fn serve(
    listener: TcpListener,
    source: Source,
    options: Options,
    stop: impl Future<Output = ()> + Send,
) {
    tokio::pin!(stop);
    let token = CancellationToken::new();
    let _dropped = token.clone().drop_guard();
    let (publisher, _) = broadcast::channel(BACKLOG_MESSAGES_MAX);
    let endpoint = Arc::new(Endpoint {
        clients: Clients::new(options.limits.connections_max),
        password: options.password,
        port: listener.local_addr().map_or(0, |address| address.port()),
        started: source.moment().now,
    });
    let tasks = TaskTracker::new();
    tasks.spawn(publish(source.clone(), publisher.clone(), token.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some((stream, connected)) = admit(&endpoint, &source, stream, peer) {
                    let conversation = Conversation {
                        source: source.clone(),
                        publisher: publisher.clone(),
                        limits: options.limits,
                        stop: token.clone(),
                        stream,
                        session: Session::new(endpoint.clone(), connected),
                        reader: RequestReader::default(),
                        received: BytesMut::new(),
                        out: BytesMut::new(),
                        messages: None,
                    };
                    tasks.spawn(conversation.run());
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a client of the Sentinel protocol could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    token.cancel();
    tasks.close();
    tasks.wait().await;
}

fn admit(
    endpoint: &Endpoint,
    source: &Source,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, Connected)> {
    // Without it an answer waits for the client's delayed acknowledgement; a socket that refuses it still works.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok()?;
    let Some(connected) = endpoint.clients.connect(source.moment().now, peer, local) else {
        // An empty socket takes so few bytes at once; one that does not is closed without the text.
        let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        return None;
    };
    Some((stream, connected))
}

/// Turns events into messages until there are no more.
async fn publish(source: Source, publisher: broadcast::Sender<Published>, stop: CancellationToken) {
    let mut events = source.events();
    loop {
        let received = tokio::select! {
            received = events.recv() => received,
            () = stop.cancelled() => return,
        };
        let published = match received {
            Ok(event) => {
                let view = view_with(&source, &event).await;
                let known = view.services.get(&event.service);
                let messages = events::messages(&event, known.map(|known| &**known));
                Published::Messages(messages.into())
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(
                    missed,
                    "events were missed; subscribers are disconnected to ask anew"
                );
                Published::Gap
            }
            Err(RecvError::Closed) => return,
        };
        // Without a subscriber there is nobody to tell.
        let _ = publisher.send(published);
    }
}

/// The view in which an event shows. Events overtake it by a little, and a client that asks as soon as it hears
/// `+switch-master` must not be told the old primary by the very node that sent it away.
async fn view_with(source: &Source, event: &Event) -> Arc<View> {
    let mut view = source.moment().view;
    for _ in 0..VIEW_POLLS_MAX {
        let known = view.services.get(&event.service);
        // A service that was just added, or none at all, is nothing that a client asks for.
        if known.is_none_or(|known| known.token >= event.token) {
            break;
        }
        tokio::time::sleep(VIEW_POLL).await;
        view = source.moment().view;
    }
    view
}

struct Conversation {
    source: Source,
    publisher: broadcast::Sender<Published>,
    limits: Limits,
    stop: CancellationToken,
    stream: TcpStream,
    session: Session,
    reader: RequestReader,
    received: BytesMut,
    out: BytesMut,
    /// Present exactly while the session listens to something.
    messages: Option<broadcast::Receiver<Published>>,
}

/// The conversation is over; the connection is closed.
struct Over;

/// What to do next.
enum Happened {
    Received,
    Published(Result<Published, RecvError>),
}

impl Conversation {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            Over = self.converse() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn converse(&mut self) -> Over {
        let mut room = READ_BYTES_SMALL;
        loop {
            self.received.reserve(room);
            let happened = tokio::select! {
                read = self.stream.read_buf(&mut self.received) => match read {
                    Ok(0) | Err(_) => return Over,
                    Ok(_) => Happened::Received,
                },
                published = next(&mut self.messages) => Happened::Published(published),
            };
            let done = match happened {
                Happened::Received => {
                    let full = self.received.len() == self.received.capacity();
                    room = if full {
                        READ_BYTES_LARGE
                    } else {
                        READ_BYTES_SMALL
                    };
                    self.answer().await
                }
                Happened::Published(published) => self.deliver(published),
            };
            let written = self.write().await;
            if done.is_err() {
                self.take_leave().await;
                return Over;
            }
            if written.is_err() {
                return Over;
            }
        }
    }

    /// Answers every whole request that was received.
    async fn answer(&mut self) -> Result<(), Over> {
        let mut moment = self.source.moment();
        loop {
            match self.reader.read(&self.received, self.session.trust()) {
                Ok(Progress::Incomplete) => return Ok(()),
                Ok(Progress::Request { consumed }) => {
                    let args = self.reader.args(&self.received);
                    let next = self.session.answer(args, &moment, &mut self.out);
                    self.received.advance(consumed);
                    if next == Next::Close {
                        self.out.clear();
                        return Err(Over);
                    }
                }
                Err(error) => {
                    Reply::new(&mut self.out, Protocol::Resp2).error(error.answer());
                    return Err(Over);
                }
            }
            // Before the acknowledgement leaves, so that no event falls between both.
            if self.session.listens() != self.messages.is_some() {
                self.messages = self.session.listens().then(|| self.publisher.subscribe());
            }
            if self.out.len() >= OUTPUT_BYTES_BATCH {
                self.write().await?;
                // Writing may have taken its time, and what follows is to be current.
                moment = self.source.moment();
            }
        }
    }

    /// Collects a message and those that wait behind it.
    fn deliver(&mut self, first: Result<Published, RecvError>) -> Result<(), Over> {
        let mut published = first.map_err(|_| Over)?;
        loop {
            match published {
                Published::Messages(messages) => {
                    for message in messages.iter() {
                        self.session.deliver(message, &mut self.out);
                    }
                }
                Published::Gap => return Err(Over),
            }
            if self.out.len() >= OUTPUT_BYTES_BATCH {
                return Ok(());
            }
            published = match self.messages.as_mut().map(broadcast::Receiver::try_recv) {
                Some(Ok(published)) => published,
                Some(Err(TryRecvError::Empty)) | None => return Ok(()),
                // The client fell behind by more than the bound, or the endpoint stops.
                Some(Err(TryRecvError::Lagged(_) | TryRecvError::Closed)) => return Err(Over),
            };
        }
    }

    /// Writes what has been collected; a client that does not take it in time is dropped.
    async fn write(&mut self) -> Result<(), Over> {
        if self.out.is_empty() {
            return Ok(());
        }
        // Nearly always the socket takes everything at once, and no timer is needed.
        if let Ok(written) = self.stream.try_write(&self.out) {
            self.out.advance(written);
        }
        while self.out.has_remaining() {
            let write = self.stream.write_buf(&mut self.out);
            match tokio::time::timeout(self.limits.write_timeout, write).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(Over),
                Err(_) => {
                    tracing::debug!("a client does not take its answers and is dropped");
                    return Err(Over);
                }
            }
        }
        if self.out.capacity() > OUTPUT_BYTES_KEPT {
            self.out = BytesMut::new();
        }
        Ok(())
    }

    /// Reads on for a moment, unheeded: closing a socket with unread bytes would destroy the error in flight.
    async fn take_leave(&mut self) {
        let drain = async {
            let mut left = FAREWELL_BYTES_MAX;
            self.stream.shutdown().await?;
            while left > 0 {
                self.received.clear();
                match self.stream.read_buf(&mut self.received).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            std::io::Result::Ok(())
        };
        // Whether the client stayed to the end changes nothing.
        let _ = tokio::time::timeout(FAREWELL, drain).await;
    }
}

/// The next message for a client that listens; never, for one that does not.
async fn next(
    messages: &mut Option<broadcast::Receiver<Published>>,
) -> Result<Published, RecvError> {
    match messages {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}
