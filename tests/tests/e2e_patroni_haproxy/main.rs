#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! A real HAProxy with the configurations that Patroni publishes, of which only addresses and ports differ.

#[path = "../http_patroni/endpoint.rs"]
#[expect(dead_code, reason = "made for the paths, of which HAProxy asks two")]
mod endpoint;
mod failover;
mod guarded;
#[path = "../resp_conformance/view.rs"]
#[expect(
    dead_code,
    reason = "made for the Sentinel protocol, of which HTTP needs a part"
)]
mod view;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use endpoint::Endpoint;
use sentinel_core::discovery::View;
use sentinel_core::id::InstanceId;
use sentinel_daemon::source::StaleAnswers;
use sentinel_tests::haproxy::{Behind, Configuration, Haproxy};
use sentinel_tests::wait;

/// A server that says its name to whoever connects, and keeps the connection.
fn named_server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::io::Write::write_all(&mut stream, name.as_bytes()).unwrap();
            kept.push(stream);
        }
    });
    address
}

/// A session through HAProxy, and who is at its other end; `None` when there is nobody.
fn session(at: SocketAddr) -> Option<(TcpStream, String)> {
    let mut stream = TcpStream::connect(at).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let mut name = [0; 3];
    stream.read_exact(&mut name).ok()?;
    Some((stream, String::from_utf8_lossy(&name).into_owned()))
}

fn name_at(at: SocketAddr) -> Option<String> {
    session(at).map(|(_, name)| name)
}

/// The table after `primary` took over from `replica`, or before.
fn table(primary: SocketAddr, replica: SocketAddr) -> View {
    let mut view = view::view();
    let orders = view::service("orders", &primary.to_string(), &replica.to_string());
    view.services.insert("orders".into(), orders.into());
    view
}

/// Three servers, of which the last has an agent of nothing beside it, and the agents.
async fn behind([old, new, other]: [SocketAddr; 3], view: &View) -> (Vec<Endpoint>, Vec<Behind>) {
    let (mut agents, mut servers) = (Vec::new(), Vec::new());
    for (server, is_agent) in [(old, true), (new, true), (other, false)] {
        let id = InstanceId::new(server.ip().to_string(), server.port());
        let own = if is_agent { vec![id] } else { vec![] };
        let agent = Endpoint::start(view.clone(), &own, StaleAnswers::Serve).await;
        servers.push(Behind {
            server,
            check: agent.address,
        });
        agents.push(agent);
    }
    (agents, servers)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_template_made_for_patroni_follows_the_table() {
    follows_the_table(Configuration::Template).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_that_we_advise_follows_the_table() {
    follows_the_table(Configuration::Advised).await;
}

async fn follows_the_table(configuration: Configuration) {
    let [old, new, other] = ["old", "new", "not"].map(named_server);
    let before = table(old, new);
    let (agents, servers) = behind([old, new, other], &before).await;
    let proxy = Haproxy::start(&servers, configuration);
    proxy.wait_for_up("primary", &[old]);
    proxy.wait_for_up("replicas", &[new]);
    let (mut standing, name) = session(proxy.primary).unwrap();
    assert_eq!(name, "old");
    assert_eq!(name_at(proxy.replicas).unwrap(), "new");

    let after = table(new, old);
    for agent in &agents {
        agent.set_view(after.clone());
    }
    // Three checks at 3 s, and a little; the end of the session is what tells the client.
    standing.set_read_timeout(Some(wait::BOUND)).unwrap();
    let ended = standing.read(&mut [0]);
    assert!(
        matches!(ended, Ok(0))
            || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
    );
    let found = wait::until("a client finds the new primary", || name_at(proxy.primary));
    assert_eq!(found, "new");
    proxy.wait_for_up("replicas", &[old]);
    assert_eq!(proxy.up("primary"), [new]);
    assert_eq!(name_at(proxy.replicas).unwrap(), "old");
}

/// It has one section, and asks for `/` without a method of its own.
#[tokio::test(flavor = "multi_thread")]
async fn the_sample_made_for_patroni_follows_the_table() {
    let [old, new, other] = ["old", "new", "not"].map(named_server);
    let (agents, servers) = behind([old, new, other], &table(old, new)).await;
    let proxy = Haproxy::start(&servers, Configuration::Sample);
    proxy.wait_for_up("primary", &[old]);
    assert_eq!(name_at(proxy.primary).unwrap(), "old");
    for agent in &agents {
        agent.set_view(table(new, old));
    }
    // Three checks at 3 s to leave the old one, and two to take the new one.
    let what = "clients find the new primary alone";
    wait::until_within(wait::BOUND_CLUSTER, what, || {
        (proxy.up("primary") == [new]).then_some(())
    });
    assert_eq!(name_at(proxy.primary).unwrap(), "new");
}
