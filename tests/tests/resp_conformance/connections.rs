//! Connections: passwords, subscriptions, bad bytes, limits.

use std::time::Duration;

use sentinel_core::detector::Evidence;
use sentinel_core::event::{Event, EventKind};
use sentinel_core::id::{Epoch, Token};
use sentinel_daemon::resp::{Limits, Password};
use tokio::io::AsyncWriteExt;

use crate::view::{Served, Setup, id, view, view_with};

const OLD: &str = "127.0.0.1:33423";
const NEW: &str = "127.0.0.1:49397";

fn event(kind: EventKind) -> Event {
    Event {
        service: "orders".into(),
        token: Token {
            epoch: Epoch(3),
            step: 9,
        },
        primary: Some(id(OLD)),
        kind,
    }
}

fn switch() -> Event {
    event(EventKind::PrimarySwitched {
        from: Some(id(OLD)),
        to: id(NEW),
    })
}

#[tokio::test]
async fn passwords() {
    let setup = Setup {
        password: Some(Password::new("geheim")),
        ..Setup::default()
    };
    let served = Served::start(view(), setup).await;
    let needed = "-NOAUTH Authentication required.\r\n";
    let hello = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the same \
                 time\r\n";
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    let mut client = served.client().await;
    let table: &[(&[&str], &str)] = &[
        (&["PING"], needed),
        (&["SENTINEL", "MASTERS"], needed),
        (&["SUBSCRIBE", "a"], needed),
        (&["COMMAND", "COUNT"], needed),
        (&["PING", "a", "b"], needed),
        (
            &["GET", "X"],
            "-ERR unknown command 'GET', with args beginning with: 'X' \r\n",
        ),
        (
            &["CLIENT", "FOO"],
            "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n",
        ),
        (&["HELLO"], hello),
        (&["HELLO", "3"], hello),
        (&["HELLO", "4"], "-NOPROTO unsupported protocol version\r\n"),
        (&["AUTH", "wrong"], wrong),
        (&["AUTH", "other", "geheim"], wrong),
        (&["HELLO", "3", "AUTH", "default", "wrong"], wrong),
        (&["PING"], needed),
        (&["AUTH", "geheim"], "+OK\r\n"),
        (&["PING"], "+PONG\r\n"),
    ];
    for (request, wanted) in table {
        client.expect(request, wanted).await;
    }
    let mut client = served.client().await;
    client
        .send(&["HELLO", "2", "AUTH", "default", "geheim", "SETNAME", "x"])
        .await;
    client.read("*12\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:2\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n".len()).await;
    client.expect(&["CLIENT", "GETNAME"], "$1\r\nx\r\n").await;
    for (bytes, error) in [
        ("*11\r\n", "unauthenticated multibulk length"),
        ("*10\r\n$20000\r\n", "unauthenticated bulk length"),
    ] {
        let mut client = served.client().await;
        client.0.write_all(bytes.as_bytes()).await.unwrap();
        assert_eq!(
            client.rest().await,
            format!("-ERR Protocol error: {error}\r\n")
        );
    }
}

#[tokio::test]
async fn subscriptions_in_resp2() {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    let confined = |name: &str| {
        format!(
            "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
             this context\r\n"
        )
    };
    let table: Vec<(Vec<&str>, String)> = vec![
        (
            vec!["SUBSCRIBE", "+switch-master", "b"],
            "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n".into(),
        ),
        (vec!["SUBSCRIBE", "b"], "*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n".into()),
        (vec!["PING"], "*2\r\n$4\r\npong\r\n$0\r\n\r\n".into()),
        (vec!["PING", "hi"], "*2\r\n$4\r\npong\r\n$2\r\nhi\r\n".into()),
        (vec!["GET", "x"], "-ERR unknown command 'GET', with args beginning with: 'x' \r\n".into()),
        (vec!["SENTINEL", "MYID"], confined("sentinel|myid")),
        (vec!["HELLO", "3"], confined("hello")),
        (vec!["PSUBSCRIBE", "[-+]s*"], "*3\r\n$10\r\npsubscribe\r\n$6\r\n[-+]s*\r\n:3\r\n".into()),
    ];
    for (request, wanted) in &table {
        client.expect(request, wanted).await;
    }
    served.events.send(switch()).unwrap();
    let text = "orders 127.0.0.1 33423 127.0.0.1 49397";
    let slave = "slave 127.0.0.1:33423 127.0.0.1 33423 @ orders 127.0.0.1 49397";
    let wanted = format!(
        "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${0}\r\n{text}\r\n\
         *4\r\n$8\r\npmessage\r\n$6\r\n[-+]s*\r\n$14\r\n+switch-master\r\n${0}\r\n{text}\r\n\
         *4\r\n$8\r\npmessage\r\n$6\r\n[-+]s*\r\n$6\r\n+slave\r\n${1}\r\n{slave}\r\n",
        text.len(),
        slave.len()
    );
    client.wants(&wanted, "+switch-master").await;
    let table: &[(&[&str], &str)] = &[
        (
            &["UNSUBSCRIBE", "b"],
            "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:2\r\n",
        ),
        (
            &["UNSUBSCRIBE", "zzz"],
            "*3\r\n$11\r\nunsubscribe\r\n$3\r\nzzz\r\n:2\r\n",
        ),
        (
            &["UNSUBSCRIBE"],
            "*3\r\n$11\r\nunsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n",
        ),
        (
            &["PUNSUBSCRIBE"],
            "*3\r\n$12\r\npunsubscribe\r\n$6\r\n[-+]s*\r\n:0\r\n",
        ),
        (&["PING"], "+PONG\r\n"),
    ];
    for (request, wanted) in table {
        client.expect(request, wanted).await;
    }
}

/// The event is published before the view in which it shows.
#[tokio::test]
async fn the_answer_moves_before_the_message() {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    let subscribed = ">3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n";
    client.send(&["HELLO", "3"]).await;
    client.read_some().await;
    client
        .expect(&["SUBSCRIBE", "+switch-master"], subscribed)
        .await;
    let mut event = switch();
    event.token.epoch = Epoch(4);
    let moved = view_with(|orders| {
        orders.token = event.token;
        orders.primary = Some(id(NEW));
    });
    served.set_view_after(20, moved);
    served.events.send(event).unwrap();
    let text = "orders 127.0.0.1 33423 127.0.0.1 49397";
    let wanted = format!(
        ">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{text}\r\n",
        text.len()
    );
    client.wants(&wanted, "+switch-master").await;
    let address = "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n49397\r\n";
    client
        .expect(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders"], address)
        .await;
}

#[tokio::test]
async fn subscriptions_in_resp3() {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    client.send(&["HELLO", "3"]).await;
    client.read_some().await;
    let table: &[(&[&str], &str)] = &[
        (
            &["subscribe", "+sdown"],
            ">3\r\n$9\r\nsubscribe\r\n$6\r\n+sdown\r\n:1\r\n",
        ),
        (&["PING"], "+PONG\r\n"),
        (&["PING", "x"], "$1\r\nx\r\n"),
        (&["CLIENT", "GETNAME"], "_\r\n"),
    ];
    for (request, wanted) in table {
        client.expect(request, wanted).await;
    }
    let down = EventKind::InstanceDown {
        instance: id(NEW),
        evidence: Evidence::Silence,
    };
    served.events.send(event(down)).unwrap();
    let text = "slave 127.0.0.1:49397 127.0.0.1 49397 @ orders 127.0.0.1 33423";
    let wanted = format!(
        ">3\r\n$7\r\nmessage\r\n$6\r\n+sdown\r\n${}\r\n{text}\r\n",
        text.len()
    );
    client.wants(&wanted, "+sdown").await;
    client
        .expect(
            &["unsubscribe"],
            ">3\r\n$11\r\nunsubscribe\r\n$6\r\n+sdown\r\n:0\r\n",
        )
        .await;
    client
        .expect(&["unsubscribe"], ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n")
        .await;
}

/// What a client sends, and the whole of what it gets before the connection ends.
#[tokio::test]
async fn bad_bytes() {
    let served = Served::start(view(), Setup::default()).await;
    let long = |start: &str| [start.as_bytes(), &[b'1'; 70_000]].concat();
    let error = |text: &str| format!("-ERR Protocol error: {text}\r\n");
    let table: Vec<(Vec<u8>, String)> = vec![
        (b"*abc\r\n".into(), error("invalid multibulk length")),
        (b"*2000000\r\n".into(), error("invalid multibulk length")),
        (b"*1\r\nxabc\r\n".into(), error("expected '$', got 'x'")),
        (b"*1\r\n$-1\r\n".into(), error("invalid bulk length")),
        (b"*1\r\n$600000000\r\n".into(), error("invalid bulk length")),
        (
            b"PING\r\nping 'a\r\n".into(),
            format!("+PONG\r\n{}", error("unbalanced quotes in request")),
        ),
        (long("x"), error("too big inline request")),
        (long("*"), error("too big mbulk count string")),
        (long("*1\r\n$"), error("too big bulk count string")),
        // A browser was tricked into talking to this port: nothing is answered, as in Redis.
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".into(), String::new()),
        (b"POST / HTTP/1.1\r\n".into(), String::new()),
    ];
    for (bytes, wanted) in table {
        let mut client = served.client().await;
        client.0.write_all(&bytes).await.unwrap();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(client.rest().await, wanted, "{shown}");
    }
    served.client().await.expect(&["PING"], "+PONG\r\n").await;
}

#[tokio::test]
async fn inline_requests_and_pipelines() {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    let request = b"PING\r\n\r\nping 'a b'\nSENTINEL get-master-addr-by-name orders\r\n*0\r\n*1\r\n$4\r\nPING\r\n";
    // Byte by byte, and all at once.
    for part in [1, request.len()] {
        for bytes in request.chunks(part) {
            client.0.write_all(bytes).await.unwrap();
        }
        let wanted = "+PONG\r\n$3\r\na b\r\n*2\r\n$9\r\n127.0.0.1\r\n$5\r\n33423\r\n+PONG\r\n";
        client.wants(wanted, "a pipeline").await;
    }
    // A pipeline whose answers are larger than what is collected before a write.
    let row = "SENTINEL MASTERS\r\n".repeat(1000);
    client.0.write_all(row.as_bytes()).await.unwrap();
    client.send(&["PING", "the end"]).await;
    let mut tail = Vec::new();
    while !tail.ends_with(b"$7\r\nthe end\r\n") {
        let more = client.read_some().await;
        assert!(!more.is_empty());
        tail.extend(more);
    }
}

#[tokio::test]
async fn unwanted_answers() {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    for request in [&["CLIENT", "REPLY", "SKIP"][..], &["PING", "skipped"]] {
        client.send(request).await;
    }
    client.expect(&["PING"], "+PONG\r\n").await;
    for request in [
        &["CLIENT", "REPLY", "OFF"][..],
        &["PING", "unheard"],
        &["FOO"],
    ] {
        client.send(request).await;
    }
    client.expect(&["CLIENT", "REPLY", "ON"], "+OK\r\n").await;
}

#[tokio::test]
async fn more_clients_than_allowed() {
    let setup = Setup {
        limits: Limits {
            connections_max: 2,
            ..Limits::default()
        },
        ..Setup::default()
    };
    let served = Served::start(view(), setup).await;
    let mut first = served.client().await;
    let mut second = served.client().await;
    first.expect(&["PING"], "+PONG\r\n").await;
    second.expect(&["PING"], "+PONG\r\n").await;
    let mut third = served.client().await;
    assert_eq!(third.rest().await, "-ERR max number of clients reached\r\n");
    drop(second);
    let admitted = async || {
        let mut again = served.client().await;
        again.send(&["PING"]).await;
        (again.read(7).await == b"+PONG\r\n").then_some(())
    };
    sentinel_tests::wait::until_async("the place to be free again", admitted).await;
}

/// A subscriber that reads nothing is dropped, and the others get every message.
#[tokio::test]
async fn a_slow_subscriber_is_dropped() {
    let setup = Setup {
        limits: Limits {
            write_timeout: Duration::from_millis(200),
            ..Limits::default()
        },
        ..Setup::default()
    };
    let served = Served::start(view(), setup).await;
    let mut slow = served.client().await;
    let mut quick = served.client().await;
    // Many patterns that cover everything make many bytes of few events.
    let patterns: Vec<String> = (1..60).map(|stars| "*".repeat(stars)).collect();
    let mut request = vec!["PSUBSCRIBE"];
    request.extend(patterns.iter().map(String::as_str));
    slow.send(&request).await;
    quick
        .expect(
            &["SUBSCRIBE", "+switch-master"],
            "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n",
        )
        .await;
    let text = "orders 127.0.0.1 33423 127.0.0.1 49397";
    let wanted = format!(
        "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n${}\r\n{text}\r\n",
        text.len()
    );
    assert_eq!(connected(&served).await, 3, "both, and the one that asks");
    let mut clients = 3;
    for _ in 0..20_000 {
        served.events.send(switch()).unwrap();
        quick.wants(&wanted, "+switch-master").await;
        clients = connected(&served).await;
        if clients == 2 {
            break;
        }
    }
    assert_eq!(clients, 2, "the quick one and the one that asks");
}

async fn connected(served: &Served) -> usize {
    let mut asker = served.client().await;
    asker.send(&["CLIENT", "LIST"]).await;
    let list = String::from_utf8(asker.read_some().await).unwrap();
    list.lines().filter(|line| line.starts_with("id=")).count()
}

#[tokio::test]
async fn too_many_subscriptions() {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    let refused = "-ERR too many subscriptions of one client\r\n";
    for number in 1..=1000 {
        let name = format!("{number:04}");
        let wanted = format!("*3\r\n$9\r\nsubscribe\r\n$4\r\n{name}\r\n:{number}\r\n");
        client.expect(&["SUBSCRIBE", &name], &wanted).await;
    }
    client.expect(&["SUBSCRIBE", "one more"], refused).await;
    client.expect(&["PSUBSCRIBE", "one more"], refused).await;
    client
        .expect(
            &["SUBSCRIBE", "1000"],
            "*3\r\n$9\r\nsubscribe\r\n$4\r\n1000\r\n:1000\r\n",
        )
        .await;
}
