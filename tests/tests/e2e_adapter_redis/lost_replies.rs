//! Orders whose reply is lost: whether they were carried out is unknown, and never a refusal.

use std::time::Duration;

use sentinel_core::action::{Action, ActionKind, Outcome};
use sentinel_core::id::{ActionId, InstanceId, Term};
use sentinel_core::observation::Role;
use sentinel_core::runtime::{Adapter, Clock};
use sentinel_tests::redis_server::RedisServer;

use crate::node::{Node, SERVICE, frozen, token};

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_was_sent_is_unknown_and_never_refused() {
    let node = Node::new();
    for (fault, role) in [
        (Fault::RequestLost, Role::Primary),
        (Fault::ReplyLost, frozen()),
        (Fault::ReplyHeld, frozen()),
    ] {
        let server = RedisServer::start();
        let action = Action {
            id: ActionId {
                term: Term(1),
                sequence: 1,
            },
            service: SERVICE.into(),
            instance: faulty_path(&server, fault).await,
            token: token(1),
            deadline: Clock::new().now() + Duration::from_millis(500),
            kind: ActionKind::Freeze,
        };
        let outcome = node.adapter.act(action).await;
        assert!(matches!(outcome, Outcome::Unknown(_)), "{outcome:?}");
        assert_eq!(node.facts(&server).await.role, role);
    }
}

#[derive(Clone, Copy)]
enum Fault {
    /// The request is lost, and the connection closed.
    RequestLost,
    /// The request arrives, and the connection is closed before the reply.
    ReplyLost,
    /// The request arrives, and the reply never does.
    ReplyHeld,
}

/// Forwards to a server until a request holds `EXEC`, and then does what `Fault` says.
async fn faulty_path(server: &RedisServer, fault: Fault) -> InstanceId {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = server.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(("127.0.0.1", target))
                .await
                .unwrap();
            tokio::spawn(forward(client, server, fault));
        }
    });
    InstanceId::new("127.0.0.1", port)
}

async fn forward(
    mut client: tokio::net::TcpStream,
    mut server: tokio::net::TcpStream,
    fault: Fault,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut request, mut reply) = ([0; 65536], [0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(count @ 1..) = read else { return };
                let request = &request[..count];
                let executes = request.windows(4).any(|word| word == b"EXEC");
                if executes && matches!(fault, Fault::RequestLost) { return }
                server.write_all(request).await.unwrap();
                if executes {
                    // The reply: the server has carried it out.
                    assert_ne!(server.read(&mut reply).await.unwrap(), 0);
                    if matches!(fault, Fault::ReplyLost) { return }
                    std::future::pending::<()>().await;
                }
            }
            read = server.read(&mut reply) => {
                let Ok(count @ 1..) = read else { return };
                client.write_all(&reply[..count]).await.unwrap();
            }
        }
    }
}
