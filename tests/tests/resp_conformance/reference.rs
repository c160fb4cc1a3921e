//! The same requests to a real Redis Sentinel and to ours: every byte must be the same.
//!
//! Runs against the redis-server that is installed, and compares only with a 7.0, whose texts these are; with
//! another version the recorded bytes of the other tests have to do. Numbers that count time or clients are masked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sentinel_daemon::resp::Password;
use sentinel_tests::redis_server::RedisServer;
use sentinel_tests::wait;
use tempfile::TempDir;

use crate::view::{Served, Setup, id, service, view};

/// Requests of one connection each, word by word; what follows is asked in the state that came before.
const CONVERSATIONS: &[&[&str]] = &[
    &[
        "PING",
        "PING hi",
        "PING a b",
        "ROLE",
        "ROLE x",
        "INFO nosuch",
        "INFO nosuch other",
    ],
    &[
        "SENTINEL get-master-addr-by-name orders",
        "sentinel GET-MASTER-ADDR-BY-NAME nosuch",
        "SENTINEL MASTER nosuch",
        "SENTINEL REPLICAS nosuch",
        "SENTINEL SLAVES nosuch",
        "SENTINEL SENTINELS nosuch",
        "SENTINEL CKQUORUM nosuch",
        "SENTINEL CKQUORUM orders",
        "SENTINEL",
        "SENTINEL FOO",
        "SENTINEL foo bar",
        "SENTINEL MASTER",
        "SENTINEL MASTER a b",
        "SENTINEL MASTERS x",
        "SENTINEL SLAVES",
        "SENTINEL REPLICAS a b",
        "SENTINEL MYID x",
        "SENTINEL CKQUORUM",
    ],
    &[
        "HELLO",
        "HELLO 2",
        "HELLO 4",
        "HELLO x",
        "HELLO 03",
        "HELLO 2 FOO",
        "HELLO 2 AUTH x",
        "HELLO 2 SETNAME",
        "HELLO 2 SETNAME a\u{1}b",
        "CLIENT GETNAME",
        "HELLO 2 SETNAME foo",
        "CLIENT GETNAME",
        "HELLO 3 AUTH default any",
        "CLIENT SETNAME ",
        "CLIENT GETNAME",
        "SENTINEL GET-MASTER-ADDR-BY-NAME nosuch",
        "SENTINEL GET-MASTER-ADDR-BY-NAME orders",
        "PING",
        "subscribe +sdown",
        "PING",
        "PING x",
        "GET x",
        "unsubscribe",
        "unsubscribe a b",
        "unsubscribe",
        "psubscribe * [-+]s*",
        "punsubscribe *",
        "punsubscribe",
        "punsubscribe",
        "HELLO 2",
    ],
    &[
        "QUIT",
        "RESET",
        "ECHO a",
        "GET a b",
        "foo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccc \
         dddddddddddddddddddddddddddddddddddddddddd",
        "foo'\"bar\\ x",
        "foo\r\nbar a\nb",
        "CLIENT",
        "CLIENT FOO",
        "CLIENT NO-TOUCH on",
        "CLIENT MAINT_NOTIFICATIONS ON",
        "CLIENT SETNAME",
        "CLIENT SETNAME a\nb",
        "CLIENT SETNAME ok",
        "CLIENT GETNAME",
        "CLIENT GETNAME x",
        "CLIENT NO-EVICT on",
        "CLIENT NO-EVICT x",
        "CLIENT REPLY ON",
        "CLIENT REPLY X",
        "CLIENT LIST TYPE x",
        "CLIENT LIST TYPE pubsub",
        "CLIENT LIST TYPE master",
        "CLIENT LIST ID x",
        "CLIENT LIST ID 999999",
        "CLIENT LIST FOO",
        "COMMAND FOO",
        "COMMAND COUNT x",
        "COMMAND INFO sentinel|myid nosuch client|id auth hello subscribe punsubscribe role",
        "COMMAND DOCS nosuch",
        "COMMAND LIST FILTERBY X",
        "AUTH",
        "AUTH x",
        "AUTH a b",
        "AUTH a b c",
        "AUTH default b",
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "PUNSUBSCRIBE a",
    ],
    &[
        "HELLO 3",
        "COMMAND INFO client|id nosuch hello",
        "COMMAND DOCS nosuch",
        "CLIENT LIST ID 999999",
    ],
    &[
        "CLIENT REPLY SKIP",
        "PING",
        "PING",
        "CLIENT REPLY OFF",
        "PING",
        "FOO",
        "SUBSCRIBE a",
        "UNSUBSCRIBE",
        "CLIENT REPLY ON",
    ],
    &[
        "SUBSCRIBE a b",
        "SUBSCRIBE a",
        "PING",
        "PING hi",
        "PING a b",
        "GET x",
        "SENTINEL MYID",
        "SENTINEL FOO",
        "SENTINEL MASTER",
        "CLIENT INFO",
        "HELLO 3",
        "AUTH x",
        "PSUBSCRIBE x*",
        "UNSUBSCRIBE a",
        "UNSUBSCRIBE zzz",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "PING",
    ],
];

/// What a client that has no password may do where one is needed.
const WITH_PASSWORD: &[&[&str]] = &[
    &[
        "PING",
        "SENTINEL MASTERS",
        "GET X",
        "CLIENT ID",
        "CLIENT FOO",
        "CLIENT GETNAME x",
        "HELLO",
        "HELLO 3",
        "HELLO 4",
        "HELLO 2 SETNAME x",
        "HELLO 2 FOO",
        "AUTH",
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH other geheim",
        "AUTH a b c",
        "HELLO 3 AUTH default wrong",
        "HELLO 3 SETNAME a\u{1}b AUTH default geheim",
        "PING a b",
        "SUBSCRIBE a",
        "UNSUBSCRIBE",
        "COMMAND COUNT",
        "AUTH geheim",
        "PING",
        "AUTH wrong",
        "PING",
    ],
    &[
        "HELLO 3 AUTH default geheim SETNAME x",
        "CLIENT GETNAME",
        "PING",
    ],
    &["AUTH default geheim", "PING"],
];

/// Bytes as they are sent.
const RAW: &[&[u8]] = &[
    b"PING\r\nPING\n\r\n   \r\nping 'a b'\r\nping \"\\x41\\n\\\"\"\r\nping 'it\\'s' \r\n",
    b"ping 'a\r\n",
    b"ping \"a\"b\r\n",
    b"*1\r\n$4\r\nPING\r\n*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n",
    b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    b"*abc\r\n",
    b"*99999999999999999999\r\n",
    b"*+1\r\n",
    b"*01\r\n",
    b"*1\r\nxabc\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n'\r\n",
    b"*1\r\n\xff\r\n",
    b"*1\r\n$abc\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$600000000\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\n",
];

/// A real sentinel. Dropping it, or the end of the test process, ends it.
struct Reference {
    // The shell waits on its stdin, which closes with this process, and then kills the sentinel.
    shell: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Drop for Reference {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

impl Reference {
    fn start(lines: &str) -> Self {
        // Somebody else may take the port between the look and the start.
        for _ in 0..10 {
            if let Some(reference) = Self::try_start(lines) {
                return reference;
            }
        }
        panic!("no redis-sentinel could be started in 10 attempts");
    }

    fn try_start(lines: &str) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let dir = TempDir::with_prefix("redis-sentinel-").unwrap();
        let (path, log) = (dir.path().join("sentinel.conf"), dir.path().join("log"));
        let port = address.port();
        let folder = dir.path().display();
        let config = format!(
            "port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {}\n{lines}",
            log.display()
        );
        std::fs::write(&path, config).unwrap();
        let shell = Command::new("sh")
            .args([
                "-c",
                "redis-server \"$1\" --sentinel & read _; kill -9 $!; wait",
                "sentinel",
            ])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let reference = Self {
            shell,
            address,
            _dir: dir,
        };
        let up = wait::until("redis-sentinel answers or ends", || {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            if log.contains("Address already in use") || log.contains("Failed listening") {
                return Some(false);
            }
            (log.contains("Sentinel ID is") && TcpStream::connect(address).is_ok()).then_some(true)
        });
        up.then_some(reference)
    }
}

/// What nobody knows is answered in every state: before the password, and by a subscriber.
const LAST: &str = "the-last-question";
const LAST_ANSWER: &str = "unknown command 'the-last-question', with args beginning with: \r\n";

/// Sends all of it and reads until the connection ends, or until a last question is answered.
fn transcript(address: SocketAddr, mut sent: Vec<u8>) -> String {
    sent.extend(encoded(&[LAST]));
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(&sent).unwrap();
    let mut got = Vec::new();
    let mut part = [0; 4096];
    while !got.ends_with(LAST_ANSWER.as_bytes()) {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(more) => got.extend_from_slice(&part[..more]),
            // The reset of a connection that was closed with bytes unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!(
                "{address}: {error}; so far {:?}",
                String::from_utf8_lossy(&got)
            ),
        }
    }
    let text: String = got.iter().map(|&byte| char::from(byte)).collect();
    masked(&text)
}

/// The number of the client, in the answer to HELLO.
fn masked(text: &str) -> String {
    let mut parts = text.split("$2\r\nid\r\n:");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all += "$2\r\nid\r\n:N";
        all += part.trim_start_matches(|digit: char| digit.is_ascii_digit());
    }
    all
}

fn encoded(requests: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        let words: Vec<&str> = request.split(' ').collect();
        bytes.extend(format!("*{}\r\n", words.len()).bytes());
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
    }
    bytes
}

fn compare(ours: SocketAddr, reference: SocketAddr, conversations: &[&[&str]]) {
    for conversation in conversations {
        // Request by request, so that a difference names the request, each in the state of those before it.
        // A client that wants no answers gets none to the last question either.
        let silent = conversation
            .iter()
            .any(|request| request.starts_with("CLIENT REPLY S"));
        let first = if silent { conversation.len() } else { 1 };
        for count in first..=conversation.len() {
            let sent = encoded(&conversation[..count]);
            let wanted = transcript(reference, sent.clone());
            let asked = conversation[count - 1];
            assert_eq!(
                transcript(ours, sent),
                wanted,
                "{asked:?} after {:?}",
                &conversation[..count - 1]
            );
        }
    }
}

fn is_7_0() -> bool {
    let version = Command::new("redis-server")
        .arg("--version")
        .output()
        .unwrap();
    String::from_utf8_lossy(&version.stdout).contains(" v=7.0.")
}

const MASKED: &[&str] = &[
    "last-ping-sent",
    "last-ok-ping-reply",
    "last-ping-reply",
    "link-pending-commands",
    "info-refresh",
    "role-reported-time",
    "slave-repl-offset",
    "last-hello-message",
];

/// One row: names and values in order, with those masked that count time.
fn row(value: &redis::Value) -> Vec<(String, String)> {
    let texts: Vec<String> = redis::from_redis_value_ref(value).unwrap();
    let pairs = texts.chunks(2).map(|pair| {
        let masked = MASKED.contains(&pair[0].as_str());
        let number = if masked {
            pair[1]
                .parse::<u64>()
                .map(|_| "a number".to_owned())
                .unwrap()
        } else {
            pair[1].clone()
        };
        (pair[0].clone(), number)
    });
    pairs.collect()
}

fn rows(address: SocketAddr, words: &[&str]) -> Vec<Vec<(String, String)>> {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut command = redis::cmd("SENTINEL");
    words.iter().for_each(|word| {
        command.arg(word);
    });
    let all: Vec<redis::Value> = command.query(&mut connection).unwrap();
    all.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_redis_sentinel() {
    if !is_7_0() {
        return;
    }
    let primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    replica.wait_for_info("master_link_status", "up");
    let monitor = format!(
        "sentinel monitor orders 127.0.0.1 {} 2\nsentinel down-after-milliseconds orders 2000\n",
        primary.port()
    );
    let (first, second) = (Reference::start(&monitor), Reference::start(&monitor));
    let known = wait::until("the sentinels know each other and the replica", || {
        let others = rows(first.address, &["SENTINELS", "orders"]);
        let replicas = rows(first.address, &["REPLICAS", "orders"]);
        let has = |row: &Vec<(String, String)>, field: &str, value: &str| {
            row.iter().any(|pair| pair.0 == field && pair.1 == value)
        };
        let connected = others.len() == 1 && has(&others[0], "flags", "sentinel");
        let follows = replicas.len() == 1
            && has(&replicas[0], "flags", "slave")
            && has(&replicas[0], "master-link-status", "ok");
        (connected && follows).then_some(others)
    });
    let value = |field: &str| {
        known[0]
            .iter()
            .find(|pair| pair.0 == field)
            .unwrap()
            .1
            .clone()
    };

    let mut view = view();
    let mut orders = service(
        "orders",
        &primary.instance().to_string(),
        &replica.instance().to_string(),
    );
    orders.primary_epoch = sentinel_core::id::Epoch(0);
    for (server, port) in [(&primary, primary.port()), (&replica, replica.port())] {
        let instance = orders
            .instances
            .get_mut(&id(&format!("127.0.0.1:{port}")))
            .unwrap();
        instance.facts.as_mut().unwrap().server = server.info("run_id").unwrap().as_str().into();
    }
    view.services = [("orders".into(), orders.into())].into();
    view.voters.remove(&"s3".into());
    let other = view.voters.get_mut(&"s2".into()).unwrap();
    other.announced.myid = value("runid");
    other.announced.resp = Some(id(&format!("127.0.0.1:{}", second.address.port())));
    let ours = Served::start(view, Setup::default()).await;

    compare(ours.address, first.address, CONVERSATIONS);
    for sent in RAW {
        let wanted = transcript(first.address, sent.to_vec());
        let shown = String::from_utf8_lossy(sent);
        assert_eq!(transcript(ours.address, sent.to_vec()), wanted, "{shown:?}");
    }
    for words in [
        &["MASTERS"][..],
        &["REPLICAS", "orders"],
        &["SENTINELS", "orders"],
    ] {
        assert_eq!(
            rows(ours.address, words),
            rows(first.address, words),
            "{words:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for_as_by_redis_sentinel() {
    if !is_7_0() {
        return;
    }
    let reference = Reference::start("requirepass geheim\n");
    let setup = Setup {
        password: Some(Password::new("geheim")),
        ..Setup::default()
    };
    let mut view = view();
    view.services.clear();
    let ours = Served::start(view, setup).await;
    compare(ours.address, reference.address, WITH_PASSWORD);
    for sent in [&b"*11\r\n"[..], b"*10\r\n$20000\r\n", b"*1\r\n$17000\r\n"] {
        let wanted = transcript(reference.address, sent.to_vec());
        assert_eq!(transcript(ours.address, sent.to_vec()), wanted, "{sent:?}");
    }
}
