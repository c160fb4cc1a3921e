//! Asks a node over HTTP and reads the JSON of its answer.
//!
//! Written without the daemon's own client, so that a mistake there does not hide one in the server. Knows no path.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A node that does not answer within this is one that does not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The object at a path; `None` unless the answer has status 200.
pub(crate) fn get<T: DeserializeOwned>(node: SocketAddr, path: &str) -> Option<T> {
    let answer = ask(node, path).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return None;
    }
    Some(serde_json::from_str(body).expect("an answer with status 200 is the promised JSON"))
}

/// Longer than a node takes to answer an order.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);

/// Status and object of the answer to a POST.
pub(super) fn post(node: SocketAddr, path: &str, token: &str, body: &str) -> (u16, Value) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {node}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(node).expect("the node listens");
    let timeout = Some(ORDER_TIMEOUT);
    connection
        .set_read_timeout(timeout)
        .expect("no timeout of zero");
    connection
        .write_all(request.as_bytes())
        .expect("the node reads");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .expect("the node answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP has a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (
        status.expect("HTTP begins with a status"),
        serde_json::from_str(body).expect("every answer is JSON"),
    )
}

fn ask(node: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&node, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {node}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}
