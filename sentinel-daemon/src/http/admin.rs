//! Orders over HTTP: who may give them, how large they may be, and which status their end has.
//!
//! Every order needs the token, from this machine too: a page in somebody's browser must not be able to move a primary.
//! What an order does is `orders.rs`'s knowledge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::sentinel::AskError;

use crate::api::{ErrorJson, SCHEMA, SwitchoverAskJson, SwitchoverJson};
use crate::http::answers;
use crate::http::routes::{Name, Shared};
use crate::orders::{Orders, SwitchError, Switched};

/// Longest body of an order.
const BODY_BYTES_MAX: usize = 4096;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// `POST /v1/services/{name}/switchover`.
pub(super) async fn switchover(
    State(shared): State<Arc<Shared>>,
    name: Name,
    request: Request<Body>,
) -> Response {
    let started = Instant::now();
    let orders = match admitted(shared.orders.as_ref(), request.headers()) {
        Ok(orders) => orders.clone(),
        Err(refusal) => return *refusal,
    };
    let name = match known(&shared, name) {
        Ok(name) => name,
        Err(refusal) => return *refusal,
    };
    let to = match read(request.into_body()).await {
        Ok(ask) => ask.to,
        Err(refusal) => return *refusal,
    };
    // A client that goes away takes back nothing: what was ordered is carried out to its end, and is in the log.
    match orders.switchover(&shared.source, &name, to).await {
        Ok(switched) => Json(done(name, switched, started)).into_response(),
        Err(error) => failed(&shared, &name, &error),
    }
}

fn done(service: ServiceName, switched: Switched, started: Instant) -> SwitchoverJson {
    SwitchoverJson {
        schema: SCHEMA,
        service,
        from: switched.from,
        to: switched.to,
        epoch: switched.epoch.0,
        token: switched.token.to_string(),
        took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// Refusals are large and rare.
type Refused<T> = Result<T, Box<Response>>;

/// Whether the client may give orders at all.
fn admitted<'a>(orders: Option<&'a Orders>, headers: &HeaderMap) -> Refused<&'a Orders> {
    let Some((orders, token)) = orders.and_then(|orders| Some((orders, orders.token.as_ref()?)))
    else {
        return refuse(
            StatusCode::FORBIDDEN,
            "admin_disabled",
            "this node takes no orders: it has no admin token",
            "set security.admin_token_file in its settings, to a file of mode 0600, and start it again",
        );
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(BEARER.len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER))
        .map(|(_, token)| token.trim_ascii());
    if given.is_some_and(|given| token.matches(given)) {
        return Ok(orders);
    }
    let error = match given {
        Some(_) => "the token is wrong",
        None => "an order needs a token",
    };
    let hint =
        "send `Authorization: Bearer TOKEN`, with the text of the node's security.admin_token_file";
    let mut refusal = answer(StatusCode::UNAUTHORIZED, coded("unauthorized", error, hint));
    let challenge = header::HeaderValue::from_static("Bearer");
    (refusal.headers_mut()).insert(header::WWW_AUTHENTICATE, challenge);
    Err(Box::new(refusal))
}

const BEARER: &[u8] = b"Bearer ";

fn known(shared: &Shared, name: Name) -> Refused<ServiceName> {
    let hint = "/v1/services lists all services";
    let name = match name {
        Ok(axum::extract::Path(name)) => name,
        Err(rejection) => {
            let error = format!("the name of the service cannot be read: {rejection}");
            return refuse(StatusCode::BAD_REQUEST, "bad_request", error, hint);
        }
    };
    let view = shared.source.moment().view;
    match view.services.get_key_value(name.as_str()) {
        Some((name, _)) => Ok(name.clone()),
        None => refuse(
            StatusCode::NOT_FOUND,
            "unknown_service",
            "no service of that name is guarded",
            hint,
        ),
    }
}

async fn read(body: Body) -> Refused<SwitchoverAskJson> {
    let hint = "send {\"to\": \"host:port\"}, or nothing, and the leader chooses";
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let error = format!("the body is longer than {BODY_BYTES_MAX} bytes, or broke off");
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "bad_request", error, hint);
        }
        Err(_) => {
            let error = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
            return refuse(StatusCode::REQUEST_TIMEOUT, "bad_request", error, hint);
        }
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(SwitchoverAskJson::default());
    }
    serde_json::from_slice(&bytes).or_else(|error| {
        let error = format!("the body is not understood: {error}");
        refuse(StatusCode::BAD_REQUEST, "bad_request", error, hint)
    })
}

/// The status of a switchover that was not done, and what to do.
fn failed(shared: &Shared, name: &ServiceName, error: &SwitchError) -> Response {
    let text = error.to_string();
    let status_hint = format!("`sentinel status {name}` shows what is going on");
    match error {
        SwitchError::Ask(AskError::NotLeader { leader }) => {
            let leader_http: Option<InstanceId> = answers::leader_http(&shared.source.moment());
            let hint = match &leader_http {
                Some(address) => format!("ask the leader, at http://{address}"),
                None => "ask again in a moment, or another voter".to_owned(),
            };
            let body = ErrorJson {
                leader: leader.clone(),
                leader_http,
                ..coded("not_leader", text, hint)
            };
            answer(StatusCode::SERVICE_UNAVAILABLE, body)
        }
        SwitchError::Ask(AskError::UnknownService) => answer(
            StatusCode::NOT_FOUND,
            coded("unknown_service", text, "/v1/services lists all services"),
        ),
        SwitchError::Ask(AskError::Refused { reasons }) => {
            let hint = format!("nothing was changed; `sentinel explain {name}` says more");
            let body = ErrorJson {
                reasons: reasons.clone(),
                ..coded("refused", text, hint)
            };
            answer(StatusCode::CONFLICT, body)
        }
        SwitchError::Ask(AskError::MovedOn) => {
            answer(StatusCode::CONFLICT, coded("moved_on", text, status_hint))
        }
        SwitchError::CalledOff(_) => {
            let hint = format!("the primary stays; `sentinel explain {name}` says more");
            answer(StatusCode::CONFLICT, coded("called_off", text, hint))
        }
        SwitchError::Ask(AskError::Stopped) => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            coded("stopped", text, status_hint),
        ),
        SwitchError::TooLong(_) => answer(
            StatusCode::GATEWAY_TIMEOUT,
            coded("under_way", text, status_hint),
        ),
    }
}

fn coded(code: &str, error: impl Into<String>, hint: impl Into<String>) -> ErrorJson {
    ErrorJson {
        code: Some(code.to_owned()),
        ..ErrorJson::new(error, hint)
    }
}

fn refuse<T>(
    status: StatusCode,
    code: &str,
    error: impl Into<String>,
    hint: impl Into<String>,
) -> Refused<T> {
    Err(Box::new(answer(status, coded(code, error, hint))))
}

fn answer(status: StatusCode, body: ErrorJson) -> Response {
    (status, Json(body)).into_response()
}
