#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! `sentinel primary SERVICE --dsn` with a real psql and real servers, named by a view made by hand.

#[path = "http_patroni/endpoint.rs"]
#[expect(dead_code, reason = "made for Patroni's paths")]
mod endpoint;
#[path = "resp_conformance/view.rs"]
#[expect(
    dead_code,
    reason = "made for the Sentinel protocol, of which HTTP needs a part"
)]
mod view;

use std::process::{Command, Output};

use endpoint::Endpoint;
use sentinel_core::detector::{Evidence, Health};
use sentinel_core::discovery::View;
use sentinel_daemon::source::StaleAnswers;
use sentinel_tests::binary;
use sentinel_tests::postgres_server::{PostgresServer, PostgresVersion, StopMode};

fn sentinel(endpoint: &Endpoint, arguments: &[&str]) -> Output {
    let node = format!("http://{}", endpoint.address);
    let mut command = Command::new(binary::sentinel());
    command.args(["primary", "--node", &node]).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// What an application would do: the printed string, with its own database and user behind it.
fn port_by_psql(server: &PostgresServer, dsn: &str) -> String {
    let string = format!("{dsn} dbname=postgres user=app");
    let mut psql = server.command("psql");
    psql.args([
        "-XAtw",
        "-c",
        "CREATE TEMP TABLE t (); SELECT inet_server_port()",
        &string,
    ]);
    let said = psql.output().unwrap();
    assert!(said.status.success(), "{string}: {}", text(&said.stderr));
    let lines = text(&said.stdout);
    lines.lines().last().unwrap_or_default().to_owned()
}

/// The primary and its standbys, of which the last one is down for the node.
fn orders(primary: &PostgresServer, standbys: &[PostgresServer]) -> View {
    let first = primary.instance().to_string();
    let mut orders = view::service("orders", &first, &standbys[0].instance().to_string());
    orders.settings.engine = "postgres".into();
    let mut down = orders.instances[&standbys[0].instance()].clone();
    down.health = Health::Down(Evidence::Silence);
    orders.instances.insert(standbys[1].instance(), down);
    let mut view = view::view();
    view.services.insert("orders".into(), orders.into());
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_string_finds_the_primary_before_and_after_a_failover() {
    for version in PostgresVersion::all_present() {
        let mut primary = PostgresServer::primary(&version);
        let standbys = [(); 2].map(|()| PostgresServer::standby_of(&primary));
        let endpoint = Endpoint::start(orders(&primary, &standbys), &[], StaleAnswers::Serve).await;
        let said = sentinel(&endpoint, &["orders", "--dsn"]);
        assert_eq!(said.status.code(), Some(0), "{}", text(&said.stderr));
        let dsn = text(&said.stdout);
        let ports = [primary.port(), standbys[0].port(), standbys[1].port()];
        let [first, second, third] = ports.map(|port| port.to_string());
        assert_eq!(
            dsn,
            format!(
                "host=127.0.0.1,127.0.0.1,127.0.0.1 port={first},{second},{third} connect_timeout=2 \
                 target_session_attrs=read-write"
            )
        );
        assert_eq!(port_by_psql(&primary, &dsn), first);

        // The string is older than the failover: the first host is gone, and the second one is a standby.
        for standby in &standbys {
            primary.wait_for_standby(standby);
        }
        primary.stop(StopMode::Fast);
        standbys[1].query("SELECT pg_promote(true, 20)");
        assert_eq!(port_by_psql(&primary, &dsn), third, "PostgreSQL {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_connection_string_is_told() {
    let endpoint = Endpoint::start(view::view(), &[], StaleAnswers::Serve).await;
    let said = sentinel(&endpoint, &["orders", "--dsn"]);
    assert_eq!(
        (said.status.code(), text(&said.stdout)),
        (Some(2), String::new())
    );
    assert_eq!(
        text(&said.stderr),
        "error: service `orders` is of engine \"redis\", and a connection string of libpq is for \"postgres\": leave --dsn out\n\
         hint: `sentinel primary orders` prints the address of its primary"
    );
    assert_eq!(sentinel(&endpoint, &["orders"]).status.code(), Some(0));
    assert_eq!(
        sentinel(&endpoint, &["fresh", "--dsn"]).status.code(),
        Some(4)
    );
    assert_eq!(
        sentinel(&endpoint, &["nobody", "--dsn"]).status.code(),
        Some(2)
    );

    let mut stale = view::view_with(|orders| orders.settings.engine = "postgres".into());
    stale.leader_heard = Some(view::at_ms(90_000));
    endpoint.set_view(stale);
    let said = sentinel(&endpoint, &["orders", "--dsn", "--json"]);
    assert!(
        text(&said.stderr).starts_with("hint: stale: node "),
        "{said:?}"
    );
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (&json["primary"], &json["dsn"], &json["stale"]),
        (
            &"127.0.0.1:33423".into(),
            &"host=127.0.0.1,127.0.0.1 port=33423,49397 connect_timeout=2 target_session_attrs=read-write".into(),
            &true.into()
        )
    );
}
