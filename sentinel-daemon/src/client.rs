//! Asks a node over HTTP. Blocking, with one deadline for the whole answer.
//!
//! Knows how an answer arrives, and not what it means. Follows no redirect and uses no proxy: a node is asked directly.

use std::time::Duration;

use sentinel_core::id::InstanceId;
use sentinel_core::runtime::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::api::ErrorJson;
use crate::orders::SWITCHOVER_MAX;

/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an order may take: longer than the node itself waits for the end of one.
const ORDER_TIMEOUT: Duration = SWITCHOVER_MAX.saturating_add(Duration::from_secs(5));

/// Longest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A node to ask.
#[derive(Debug)]
pub(crate) struct Client {
    agent: ureq::Agent,
    node: InstanceId,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// What the user gave is no address of a node.
    #[error("`{given}` is no address of a node: {problem}")]
    Address {
        /// As given.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nobody answered in time.
    #[error("node {node} cannot be reached ({problem}): start it, or name another one with --node")]
    Unreachable {
        /// The node that was asked.
        node: InstanceId,
        /// What the network said.
        problem: String,
    },
    /// Something answered that is no node of ours, or one of another version.
    #[error(
        "{node} gave an answer that is not understood ({problem}): name a node's listen.http with --node"
    )]
    Foreign {
        /// Who was asked.
        node: InstanceId,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The node answered that it cannot do it.
    #[error("{}", answer.error)]
    Refused {
        /// HTTP status.
        status: u16,
        /// What is wrong and what to do, in the node's words.
        answer: Box<ErrorJson>,
    },
}

impl Client {
    /// A client of the node at this address.
    pub(crate) fn new(node: InstanceId) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .build()
            .new_agent();
        Self { agent, node }
    }

    /// A client of the node at `http://HOST:PORT`, or `HOST:PORT` for short.
    pub(crate) fn at(url: &str) -> Result<Self, ClientError> {
        let address = |problem: String| ClientError::Address {
            given: url.to_owned(),
            problem,
        };
        if url.starts_with("https://") {
            return Err(address("nodes answer http, not https".to_owned()));
        }
        let bare = url.strip_prefix("http://").unwrap_or(url);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let node = bare
            .parse()
            .map_err(|error: sentinel_core::id::AddressError| address(error.to_string()))?;
        Ok(Self::new(node))
    }

    /// Who is asked.
    pub(crate) fn node(&self) -> &InstanceId {
        &self.node
    }

    /// Asks for the object at a path.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let called = self.agent.get(format!("http://{}{path}", self.node)).call();
        self.read(called)
    }

    /// Orders something with the token of those who may, and waits for the end of it.
    pub(crate) fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        token: &Secret,
        body: &B,
    ) -> Result<T, ClientError> {
        let called = self
            .agent
            .post(format!("http://{}{path}", self.node))
            .config()
            .timeout_global(Some(ORDER_TIMEOUT))
            .build()
            .header("Authorization", format!("Bearer {}", token.reveal()))
            .send_json(body);
        self.read(called)
    }

    fn read<T: DeserializeOwned>(
        &self,
        called: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ClientError> {
        let mut response = called.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.unanswered(&error))?;
        let foreign = |error: serde_json::Error| ClientError::Foreign {
            node: self.node.clone(),
            problem: format!("HTTP status {status}, {error}"),
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(foreign);
        }
        Err(ClientError::Refused {
            status: status.as_u16(),
            answer: serde_json::from_slice(&body).map_err(foreign)?,
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an enum of somebody else's that grows; every other cause is shown as it is"
    )]
    fn unanswered(&self, error: &ureq::Error) -> ClientError {
        let node = self.node.clone();
        match error {
            ureq::Error::Timeout(_) => ClientError::Unreachable {
                node,
                problem: "no answer in time".to_owned(),
            },
            ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused => {
                ClientError::Unreachable {
                    node,
                    problem: "nothing listens there".to_owned(),
                }
            }
            ureq::Error::Protocol(_) | ureq::Error::BodyExceedsLimit(_) => ClientError::Foreign {
                node,
                problem: error.to_string(),
            },
            other => ClientError::Unreachable {
                node,
                problem: other.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_node_is_named_in_three_ways() {
        for given in ["http://h:1", "http://h:1/", "h:1"] {
            assert_eq!(Client::at(given).unwrap().node(), &InstanceId::new("h", 1));
        }
        assert_eq!(
            Client::at("https://h:1").unwrap_err().to_string(),
            "`https://h:1` is no address of a node: nodes answer http, not https"
        );
        assert_eq!(
            Client::at("http://h").unwrap_err().to_string(),
            "`http://h` is no address of a node: `h` has no port; write host:port, for example 10.0.0.21:6379"
        );
    }
    /// A client of something that reads one request and answers so.
    fn answering(answer: &'static str) -> Client {
        use std::io::{BufRead as _, BufReader, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = BufReader::new(stream.try_clone().unwrap()).lines();
            let is_header =
                |line: &std::io::Result<String>| line.as_ref().is_ok_and(|line| !line.is_empty());
            assert_ne!(request.take_while(is_header).count(), 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Client::new(InstanceId::new("127.0.0.1", port))
    }

    fn error_of(answer: &'static str) -> ClientError {
        answering(answer)
            .get::<serde_json::Value>("/v1/status")
            .unwrap_err()
    }

    #[test]
    fn an_answer_is_read() {
        let client = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"ok\": 1}");
        let answer: serde_json::Value = client.get("/v1/status").unwrap();
        assert_eq!(answer["ok"], 1);
    }

    #[test]
    fn a_refusal_keeps_the_words_of_the_node() {
        let body = r#"{"schema":1,"error":"service `x` is unknown","hint":"look"}"#;
        assert_eq!(body.len(), 59);
        let error = error_of(
            "HTTP/1.1 404 Not Found\r\ncontent-length: 59\r\n\r\n{\"schema\":1,\"error\":\"service `x` is unknown\",\"hint\":\"look\"}",
        );
        assert!(matches!(
            error,
            ClientError::Refused { status: 404, ref answer } if answer.hint == "look"
        ));
        assert_eq!(error.to_string(), "service `x` is unknown");
    }

    #[test]
    fn what_is_no_node_of_ours_is_told_apart() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 500 Oops\r\ncontent-length: 5\r\n\r\nhello",
            "-ERR unknown command 'GET'\r\n",
        ] {
            let error = error_of(answer);
            assert!(matches!(error, ClientError::Foreign { .. }), "{error:?}");
        }
        let error = error_of("");
        assert!(
            matches!(error, ClientError::Unreachable { .. }),
            "{error:?}"
        );
    }
}
