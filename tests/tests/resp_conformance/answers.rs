//! What every command answers, in RESP2 and RESP3.

use sentinel_core::detector::{Evidence, Health};
use sentinel_core::discovery::StageView;
use sentinel_core::observation::{Link, Role, Upstream};
use sentinel_daemon::source::StaleAnswers;

use crate::view::{
    MYID, PEER_2, PEER_3, RUN_1, RUN_2, Served, Setup, at_ms, id, service, view, view_with,
};

type Pairs<'a> = Vec<(&'a str, &'a str)>;

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn row(pairs: &Pairs<'_>, protocol: u8) -> String {
    let mut bytes = match protocol {
        2 => format!("*{}\r\n", pairs.len() * 2),
        _ => format!("%{}\r\n", pairs.len()),
    };
    for (field, value) in pairs {
        bytes += &bulk(field);
        bytes += &bulk(value);
    }
    bytes
}

fn rows(all: &[Pairs<'_>], protocol: u8) -> String {
    let rows: String = all.iter().map(|pairs| row(pairs, protocol)).collect();
    format!("*{}\r\n{rows}", all.len())
}

fn primary() -> Pairs<'static> {
    vec![
        ("name", "orders"),
        ("ip", "127.0.0.1"),
        ("port", "33423"),
        ("runid", RUN_1),
        ("flags", "master"),
        ("link-pending-commands", "0"),
        ("link-refcount", "1"),
        ("last-ping-sent", "0"),
        ("last-ok-ping-reply", "106"),
        ("last-ping-reply", "106"),
        ("down-after-milliseconds", "2000"),
        ("info-refresh", "106"),
        ("role-reported", "master"),
        ("role-reported-time", "5311"),
        ("config-epoch", "3"),
        ("num-slaves", "1"),
        ("num-other-sentinels", "2"),
        ("quorum", "2"),
        ("failover-timeout", "180000"),
        ("parallel-syncs", "1"),
    ]
}

fn replica() -> Pairs<'static> {
    vec![
        ("name", "127.0.0.1:49397"),
        ("ip", "127.0.0.1"),
        ("port", "49397"),
        ("runid", RUN_2),
        ("flags", "slave"),
        ("link-pending-commands", "0"),
        ("link-refcount", "1"),
        ("last-ping-sent", "0"),
        ("last-ok-ping-reply", "106"),
        ("last-ping-reply", "106"),
        ("down-after-milliseconds", "2000"),
        ("info-refresh", "106"),
        ("role-reported", "slave"),
        ("role-reported-time", "5311"),
        ("master-link-down-time", "0"),
        ("master-link-status", "ok"),
        ("master-host", "127.0.0.1"),
        ("master-port", "33423"),
        ("slave-priority", "100"),
        ("slave-repl-offset", "815"),
        ("replica-announced", "1"),
    ]
}

fn voter(port: &'static str, myid: &'static str) -> Pairs<'static> {
    vec![
        ("name", myid),
        ("ip", "127.0.0.1"),
        ("port", port),
        ("runid", myid),
        ("flags", "sentinel"),
        ("link-pending-commands", "0"),
        ("link-refcount", "1"),
        ("last-ping-sent", "0"),
        ("last-ok-ping-reply", "767"),
        ("last-ping-reply", "767"),
        ("down-after-milliseconds", "2000"),
        ("last-hello-message", "767"),
        ("voted-leader", "?"),
        ("voted-leader-epoch", "0"),
    ]
}

/// Replaces values, and puts new fields behind the one that is named.
fn with<'a>(
    mut pairs: Pairs<'a>,
    values: &[(&'a str, &'a str)],
    new: &[(&str, (&'a str, &'a str))],
) -> Pairs<'a> {
    for (field, value) in values {
        pairs.iter_mut().find(|(name, _)| name == field).unwrap().1 = value;
    }
    for (behind, pair) in new {
        let at = pairs.iter().position(|(name, _)| name == behind).unwrap();
        pairs.insert(at + 1, *pair);
    }
    pairs
}

const UNKNOWN: &str = "-ERR No such master with that name\r\n";
const HELLO_3: &str = "%6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
                       $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n";
const HELLO_2: &str = "*12\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n\
                       $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n$7\r\nmodules\r\n*0\r\n";

#[tokio::test]
async fn steady() {
    let served = Served::start(view(), Setup::default()).await;
    for protocol in [2, 3] {
        let mut client = served.client().await;
        let null = if protocol == 2 { "*-1\r\n" } else { "_\r\n" };
        if protocol == 3 {
            client.send(&["HELLO", "3"]).await;
            client.read(HELLO_3.len()).await;
        }
        let address = "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n33423\r\n";
        let voters = rows(&[voter("46123", PEER_2), voter("53611", PEER_3)], protocol);
        let myid = bulk(MYID);
        let table: &[(&[&str], &str)] = &[
            (&["PING"], "+PONG\r\n"),
            (&["PING", "hi"], "$2\r\nhi\r\n"),
            (&["sentinel", "get-master-addr-by-name", "orders"], address),
            (&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "nosuch"], null),
            (&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "fresh"], null),
            (
                &["SENTINEL", "MASTER", "orders"],
                &row(&primary(), protocol),
            ),
            (&["SENTINEL", "MASTERS"], &rows(&[primary()], protocol)),
            (
                &["SENTINEL", "REPLICAS", "orders"],
                &rows(&[replica()], protocol),
            ),
            (
                &["sentinel", "slaves", "orders"],
                &rows(&[replica()], protocol),
            ),
            (&["SENTINEL", "SENTINELS", "orders"], &voters),
            (
                &["SENTINEL", "CKQUORUM", "orders"],
                "+OK 3 usable Sentinels. Quorum and failover authorization can be reached\r\n",
            ),
            (&["SENTINEL", "MYID"], &myid),
            (
                &["SENTINEL", "FAILOVER", "orders"],
                "-NOPERM An order needs the admin token, which is not given here: use `sentinel switchover orders`. \
                 A primary that is down is replaced without an order\r\n",
            ),
            (&["SENTINEL", "FAILOVER", "nosuch"], UNKNOWN),
            (&["SENTINEL", "MASTER", "nosuch"], UNKNOWN),
            (&["SENTINEL", "MASTER", "fresh"], UNKNOWN),
            (&["SENTINEL", "REPLICAS", "nosuch"], UNKNOWN),
            (&["SENTINEL", "SENTINELS", "nosuch"], UNKNOWN),
            (&["SENTINEL", "CKQUORUM", "nosuch"], UNKNOWN),
            (&["ROLE"], "*2\r\n$8\r\nsentinel\r\n*1\r\n$6\r\norders\r\n"),
            (&["INFO", "nosuch"], "$0\r\n\r\n"),
            // Twelve, where Redis Sentinel has fifteen: ACL, PUBLISH and SHUTDOWN are not for clients here.
            (&["COMMAND", "COUNT"], ":12\r\n"),
        ];
        for (request, wanted) in table {
            client.expect(request, wanted).await;
        }
    }
}

#[tokio::test]
async fn a_primary_that_is_down() {
    let down = view_with(|orders| {
        let primary = orders.instances.get_mut(&id("127.0.0.1:33423")).unwrap();
        primary.health = Health::Down(Evidence::Silence);
        primary.health_since = at_ms(99_637);
        primary.facts_at = Some(at_ms(97_636));
        orders.witnesses = ["s1".into(), "s2".into()].into();
        orders.stage = StageView::Promoting(id("127.0.0.1:49397"));
    });
    let served = Served::start(down, Setup::default()).await;
    let mut client = served.client().await;
    let silence = [
        ("last-ping-sent", "2364"),
        ("last-ok-ping-reply", "2364"),
        ("last-ping-reply", "2364"),
        ("info-refresh", "2364"),
        ("role-reported-time", "363"),
        (
            "flags",
            "s_down,o_down,master,disconnected,failover_in_progress",
        ),
    ];
    let new = [
        ("last-ping-reply", ("o-down-time", "363")),
        ("last-ping-reply", ("s-down-time", "363")),
        ("link-refcount", ("failover-state", "wait_promotion")),
    ];
    let wanted = rows(&[with(primary(), &silence, &new)], 2);
    client.expect(&["SENTINEL", "MASTERS"], &wanted).await;
    let wanted = rows(&[with(replica(), &[("flags", "slave,promoted")], &[])], 2);
    client
        .expect(&["SENTINEL", "REPLICAS", "orders"], &wanted)
        .await;
    let agrees = with(
        voter("46123", PEER_2),
        &[("flags", "sentinel,master_down")],
        &[],
    );
    let wanted = rows(&[agrees, voter("53611", PEER_3)], 2);
    client
        .expect(&["SENTINEL", "SENTINELS", "orders"], &wanted)
        .await;
}

/// A client that finds the new primary may use it although replicas are still being moved: no client
/// takes a primary that is flagged `failover_in_progress`.
#[tokio::test]
async fn the_new_primary_is_plain_at_once() {
    let repointing = view_with(|orders| orders.stage = StageView::Repointing);
    let served = Served::start(repointing, Setup::default()).await;
    let wanted = row(&primary(), 2);
    served
        .client()
        .await
        .expect(&["SENTINEL", "MASTER", "orders"], &wanted)
        .await;
}

#[tokio::test]
async fn replicas_that_do_not_follow() {
    let broken = view_with(|orders| {
        let replica = orders.instances.get_mut(&id("127.0.0.1:49397")).unwrap();
        let facts = replica.facts.as_mut().unwrap();
        facts.role = Role::Replica {
            upstream: Upstream::Frozen,
            link: Link::Broken,
        };
        let silent = orders
            .instances
            .get_mut(&id("127.0.0.1:49397"))
            .unwrap()
            .clone();
        let mut never = silent;
        never.facts = None;
        never.facts_at = None;
        never.health = Health::Down(Evidence::Refusal);
        never.health_since = at_ms(99_000);
        orders.instances.insert(id("[::1]:50000"), never);
    });
    let served = Served::start(broken, Setup::default()).await;
    let frozen = with(
        replica(),
        &[
            ("master-link-down-time", "106"),
            ("master-link-status", "err"),
            ("master-host", "?"),
            ("master-port", "0"),
        ],
        &[],
    );
    let never = with(
        frozen.clone(),
        &[
            ("name", "[::1]:50000"),
            ("ip", "::1"),
            ("port", "50000"),
            ("runid", ""),
            ("flags", "s_down,slave,disconnected"),
            ("last-ping-sent", "1000"),
            ("last-ok-ping-reply", "1000"),
            ("last-ping-reply", "1000"),
            ("info-refresh", "0"),
            ("role-reported-time", "1000"),
            ("master-link-down-time", "0"),
            ("slave-repl-offset", "0"),
        ],
        &[("last-ping-reply", ("s-down-time", "1000"))],
    );
    let wanted = rows(&[frozen, never], 2);
    served
        .client()
        .await
        .expect(&["SENTINEL", "REPLICAS", "orders"], &wanted)
        .await;
}

#[tokio::test]
async fn voters_that_are_silent() {
    let mut alone = view();
    alone.voters.get_mut(&"s2".into()).unwrap().heard = Some(at_ms(96_000));
    alone.voters.get_mut(&"s3".into()).unwrap().heard = None;
    alone.voters.get_mut(&"s3".into()).unwrap().announced.resp = None;
    let served = Served::start(alone, Setup::default()).await;
    let mut client = served.client().await;
    let silence = [
        ("flags", "s_down,sentinel,disconnected"),
        ("last-ping-sent", "4000"),
        ("last-ok-ping-reply", "4000"),
        ("last-ping-reply", "4000"),
        ("last-hello-message", "4000"),
    ];
    let new = [("last-ping-reply", ("s-down-time", "2000"))];
    let wanted = rows(&[with(voter("46123", PEER_2), &silence, &new)], 2);
    client
        .expect(&["SENTINEL", "SENTINELS", "orders"], &wanted)
        .await;
    let wanted = "-NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this \
                  master. Not enough available Sentinels to reach the majority and authorize a failover\r\n";
    client
        .expect(&["SENTINEL", "CKQUORUM", "orders"], wanted)
        .await;
}

#[tokio::test]
async fn a_stale_node_serves_or_refuses() {
    for (stale_answers, serves) in [(StaleAnswers::Serve, true), (StaleAnswers::Refuse, false)] {
        let mut stale = view();
        stale.leader_heard = Some(at_ms(97_000));
        let setup = Setup {
            stale_answers,
            ..Setup::default()
        };
        let served = Served::start(stale, setup).await;
        let mut client = served.client().await;
        let (address, master, masters, role) = if serves {
            (
                "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n33423\r\n",
                row(&primary(), 2),
                rows(&[primary()], 2),
                "*2\r\n$8\r\nsentinel\r\n*1\r\n$6\r\norders\r\n",
            )
        } else {
            (
                "*-1\r\n",
                UNKNOWN.to_owned(),
                "*0\r\n".to_owned(),
                "*2\r\n$8\r\nsentinel\r\n*0\r\n",
            )
        };
        client
            .expect(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders"], address)
            .await;
        client
            .expect(&["SENTINEL", "MASTER", "orders"], &master)
            .await;
        client.expect(&["SENTINEL", "MASTERS"], &masters).await;
        client.expect(&["ROLE"], role).await;
        client.send(&["INFO", "sentinel"]).await;
        let info = String::from_utf8(client.read_some().await).unwrap();
        assert!(
            info.contains("sentinel_stale:1\r\nsentinel_as_of_ms:3000\r\n"),
            "{info}"
        );
        // As soon as a leader is heard, both answer alike.
        served.set_view(view());
        client
            .expect(
                &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders"],
                "*2\r\n$9\r\n127.0.0.1\r\n$5\r\n33423\r\n",
            )
            .await;
    }
}

#[tokio::test]
async fn info() {
    let mut two = view();
    two.services.insert(
        "users".into(),
        std::sync::Arc::new(service("users", "10.0.0.1:1", "10.0.0.2:2")),
    );
    let served = Served::start(two, Setup::default()).await;
    let mut client = served.client().await;
    let text = "# Sentinel\r\nsentinel_masters:2\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\n\
                sentinel_running_scripts:0\r\nsentinel_scripts_queue_length:0\r\nsentinel_simulate_failure_flags:0\r\n\
                sentinel_stale:0\r\nsentinel_as_of_ms:50\r\nsentinel_cluster:main\r\nsentinel_node:s1\r\n\
                sentinel_role:voter\r\nsentinel_leader:s2\r\nsentinel_term:5\r\nsentinel_services:3\r\n\
                master0:name=orders,status=ok,address=127.0.0.1:33423,slaves=1,sentinels=3\r\n\
                master1:name=users,status=ok,address=10.0.0.1:1,slaves=1,sentinels=3\r\n\r\n";
    client.expect(&["INFO", "sentinel"], &bulk(text)).await;
    client.send(&["HELLO", "3"]).await;
    client.read(HELLO_3.len()).await;
    // Redis Sentinel does not mark it as verbatim in RESP3 either, other than Redis.
    client.expect(&["info", "SENTINEL"], &bulk(text)).await;
    client.send(&["INFO"]).await;
    let all = String::from_utf8(client.read_some().await).unwrap();
    let wanted = [
        "# Server\r\n",
        "redis_mode:sentinel\r\n",
        "redis_version:7.0.15\r\n",
        "# Clients\r\n",
        "connected_clients:1\r\n",
        "# Stats\r\n",
        text,
    ];
    let places: Vec<_> = wanted.iter().map(|part| all.find(part)).collect();
    assert!(places.iter().all(Option::is_some), "{places:?} {all}");
}

fn arity(name: &str) -> String {
    format!("-ERR wrong number of arguments for '{name}' command\r\n")
}

fn subcommand(name: &str, of: &str) -> String {
    format!("-ERR unknown subcommand '{name}'. Try {of} HELP.\r\n")
}

const BAD_NAME: &str =
    "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";

/// One client asks all of it, in this order.
async fn check(table: Vec<(Vec<&str>, String)>) {
    let served = Served::start(view(), Setup::default()).await;
    let mut client = served.client().await;
    for (request, wanted) in &table {
        client.expect(request, wanted).await;
    }
}

#[tokio::test]
async fn handshakes() {
    check(vec![
        (vec!["HELLO"], HELLO_2.into()),
        (vec!["HELLO", "2"], HELLO_2.into()),
        (
            vec!["HELLO", "4"],
            "-NOPROTO unsupported protocol version\r\n".into(),
        ),
        (
            vec!["HELLO", "x"],
            "-ERR Protocol version is not an integer or out of range\r\n".into(),
        ),
        (
            vec!["HELLO", "2", "FOO"],
            "-ERR Syntax error in HELLO option 'FOO'\r\n".into(),
        ),
        (
            vec!["HELLO", "2", "AUTH", "x"],
            "-ERR Syntax error in HELLO option 'AUTH'\r\n".into(),
        ),
        (vec!["HELLO", "2", "SETNAME", "a b"], BAD_NAME.into()),
        (vec!["CLIENT", "GETNAME"], "$-1\r\n".into()),
        (vec!["HELLO", "2", "SETNAME", "foo"], HELLO_2.into()),
        (vec!["CLIENT", "GETNAME"], "$3\r\nfoo\r\n".into()),
        (vec!["HELLO", "3", "AUTH", "default", "any"], HELLO_3.into()),
        (vec!["HELLO", "2"], HELLO_2.into()),
    ])
    .await;
}

#[tokio::test]
async fn unknown_commands_and_wrong_numbers() {
    let (long, shown, fifty) = ("a".repeat(200), "a".repeat(128), "a".repeat(50));
    let unknown = |name: &str, args: &str| {
        format!("-ERR unknown command '{name}', with args beginning with: {args}\r\n")
    };
    check(vec![
        (vec!["QUIT"], unknown("QUIT", "")),
        (vec!["GET", "a", "b"], unknown("GET", "'a' 'b' ")),
        (
            vec!["foo", &long, "b"],
            unknown("foo", &format!("'{shown}' ")),
        ),
        (
            vec!["foo", &fifty, &fifty, &fifty, &fifty],
            unknown("foo", &format!("'{fifty}' '{fifty}' '{}' ", "a".repeat(22))),
        ),
        (vec![&long, "b"], unknown(&shown, "'b' ")),
        (vec!["foo'\"bar\\"], unknown("foo'\"bar\\", "")),
        (vec!["\0x"], unknown("", "")),
        (
            vec!["SENTINEL", "fo'o\r\nbar"],
            subcommand("fo'o  bar", "SENTINEL"),
        ),
        (vec!["SENTINEL"], arity("sentinel")),
        (vec!["sentinel", "FOO"], subcommand("FOO", "SENTINEL")),
        (vec!["SENTINEL", "MASTER"], arity("sentinel|master")),
        (
            vec!["SENTINEL", "master", "a", "b"],
            arity("sentinel|master"),
        ),
        (vec!["SENTINEL", "MASTERS", "x"], arity("sentinel|masters")),
        (vec!["SENTINEL", "slaves"], arity("sentinel|slaves")),
        (vec!["SENTINEL", "MYID", "x"], arity("sentinel|myid")),
    ])
    .await;
}

#[tokio::test]
async fn clients_and_commands() {
    check(vec![
        (vec!["CLIENT"], arity("client")),
        (vec!["CLIENT", "FOO"], subcommand("FOO", "CLIENT")),
        (vec!["CLIENT", "MAINT_NOTIFICATIONS", "ON"], subcommand("MAINT_NOTIFICATIONS", "CLIENT")),
        (vec!["CLIENT", "SETNAME"], arity("client|setname")),
        (vec!["CLIENT", "SETNAME", "a\nb"], BAD_NAME.into()),
        (vec!["CLIENT", "SETNAME", "ok"], "+OK\r\n".into()),
        (vec!["CLIENT", "GETNAME", "x"], arity("client|getname")),
        (vec!["CLIENT", "ID"], ":1\r\n".into()),
        // Not in 7.0.15: newer Redis accepts it, and newer clients send it.
        (vec!["CLIENT", "SETINFO", "LIB-NAME", "x"], "+OK\r\n".into()),
        (vec!["CLIENT", "SETINFO", "FOO", "x"], "-ERR Unrecognized option 'FOO'\r\n".into()),
        (
            vec!["CLIENT", "SETINFO", "LIB-NAME", "x y"],
            "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n".into(),
        ),
        (vec!["CLIENT", "NO-EVICT", "on"], "+OK\r\n".into()),
        (vec!["CLIENT", "NO-EVICT", "x"], "-ERR syntax error\r\n".into()),
        (vec!["CLIENT", "REPLY", "ON"], "+OK\r\n".into()),
        (vec!["CLIENT", "REPLY", "X"], "-ERR syntax error\r\n".into()),
        (vec!["CLIENT", "LIST", "ID", "77"], "$0\r\n\r\n".into()),
        (vec!["CLIENT", "LIST", "TYPE", "x"], "-ERR Unknown client type 'x'\r\n".into()),
        (vec!["CLIENT", "LIST", "ID", "x"], "-ERR Invalid client ID\r\n".into()),
        (vec!["COMMAND", "FOO"], subcommand("FOO", "COMMAND")),
        (vec!["COMMAND", "COUNT", "x"], arity("command|count")),
        (
            vec!["COMMAND", "INFO", "sentinel|myid", "nosuch"],
            "*2\r\n*10\r\n$13\r\nsentinel|myid\r\n:2\r\n*1\r\n+admin\r\n:0\r\n:0\r\n:0\r\n*3\r\n+@admin\r\n+@slow\r\n\
             +@dangerous\r\n*0\r\n*0\r\n*0\r\n$-1\r\n"
                .into(),
        ),
        (vec!["PING", "a", "b"], arity("ping")),
        (vec!["ROLE", "x"], arity("role")),
        (vec!["AUTH"], arity("auth")),
        (
            vec!["AUTH", "x"],
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?\r\n"
                .into(),
        ),
        (vec!["AUTH", "a", "b"], "-WRONGPASS invalid username-password pair or user is disabled.\r\n".into()),
        (vec!["AUTH", "a", "b", "c"], "-ERR syntax error\r\n".into()),
        (vec!["SUBSCRIBE"], arity("subscribe")),
        (vec!["PSUBSCRIBE"], arity("psubscribe")),
        (vec!["UNSUBSCRIBE"], "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n".into()),
        (vec!["PUNSUBSCRIBE", "a"], "*3\r\n$12\r\npunsubscribe\r\n$1\r\na\r\n:0\r\n".into()),
    ])
    .await;
}
