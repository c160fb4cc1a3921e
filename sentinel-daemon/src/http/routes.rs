//! The paths, and which status an answer has.
//!
//! Every answer with a status of 400 and more is JSON with a hint. What stands in the answers is `answers.rs`'s knowledge.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use sentinel_core::discovery::{Freshness, ServiceView};
use sentinel_core::id::{InstanceId, ServiceName};
use serde::Serialize;

use crate::api::{ErrorJson, SCHEMA};
use crate::http::metrics::{self, Counted};
use crate::http::patroni;
use crate::http::{admin, answers};
use crate::orders::Orders;
use crate::source::{Moment, Source};

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) source: Source,
    pub(crate) counted: Counted,
    /// Instances on this host that the node is the agent of.
    pub(crate) agent_of: BTreeSet<(ServiceName, InstanceId)>,
    pub(crate) orders: Option<Orders>,
}

type At = State<Arc<Shared>>;
pub(super) type Name = Result<Path<String>, PathRejection>;

/// All paths of the endpoint.
pub(crate) fn router(shared: Shared) -> Router {
    patroni::add(Router::new())
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/services/{name}/primary", get(primary))
        .route("/v1/services/{name}/explain", get(explain))
        .route("/v1/services/{name}/switchover", post(admin::switchover))
        .route("/v1/status", get(status))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(Arc::new(shared))
}

async fn services(State(shared): At) -> Response {
    Json(answers::services(&shared.source.moment())).into_response()
}

async fn service(State(shared): At, name: Name) -> Response {
    of_service(&shared, name, |moment, name, service| {
        Json(answers::service(moment, name, service)).into_response()
    })
}

async fn explain(State(shared): At, name: Name) -> Response {
    of_service(&shared, name, |moment, name, service| {
        Json(answers::explain(moment, name, service)).into_response()
    })
}

async fn primary(State(shared): At, name: Name) -> Response {
    of_service(
        &shared,
        name,
        |moment, name, service| match answers::primary(moment, name, service) {
            Ok(primary) => Json(primary).into_response(),
            Err(none) => error(
                StatusCode::SERVICE_UNAVAILABLE,
                none.to_string(),
                none.hint(),
            ),
        },
    )
}

async fn status(State(shared): At) -> Response {
    Json(answers::status(&shared.source.moment())).into_response()
}

#[derive(Serialize)]
struct Live {
    schema: u32,
    live: bool,
}

/// That this is answered is the answer.
async fn live() -> Response {
    Json(Live {
        schema: SCHEMA,
        live: true,
    })
    .into_response()
}

#[derive(Serialize)]
struct Ready {
    schema: u32,
    ready: bool,
}

async fn ready(State(shared): At) -> Response {
    let moment = shared.source.moment();
    match moment.freshness() {
        Freshness::Fresh => Json(Ready {
            schema: SCHEMA,
            ready: true,
        })
        .into_response(),
        Freshness::Stale(_) => {
            let stale_after = moment.view.stale_after.as_millis();
            let since = match moment.as_of_ms() {
                Some(ms) => {
                    format!("no leader was heard for {ms} ms (stale_after is {stale_after} ms)")
                }
                None => "no leader was heard since this node was started".to_owned(),
            };
            let hint = "check that a majority of the voters runs and can be reached: /v1/status names them";
            error(StatusCode::SERVICE_UNAVAILABLE, since, hint.to_owned())
        }
    }
}

async fn metrics(State(shared): At) -> Response {
    let text = metrics::render(&shared.source.moment(), &shared.counted);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn no_path(uri: Uri) -> Response {
    let hint = "the paths are /v1/services, /v1/services/{name}, /v1/services/{name}/primary, \
                /v1/services/{name}/explain, /v1/services/{name}/switchover (POST), /v1/status, /livez, \
                /readyz and /metrics, and on agents Patroni's";
    let problem = format!("no such path `{}`", shown(uri.path()));
    error(StatusCode::NOT_FOUND, problem, hint.to_owned())
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let problem = format!(
        "method {} is not answered at `{}`",
        shown(method.as_str()),
        shown(uri.path())
    );
    let hint = if uri.path().ends_with("/switchover") {
        "use POST"
    } else {
        "use GET"
    };
    error(StatusCode::METHOD_NOT_ALLOWED, problem, hint.to_owned())
}

/// Answers for the service that the path names, or says that there is none.
fn of_service(
    shared: &Shared,
    name: Name,
    answer: impl FnOnce(&Moment, &ServiceName, &ServiceView) -> Response,
) -> Response {
    let hint = || "/v1/services lists all services".to_owned();
    let name = match name {
        Ok(Path(name)) => name,
        Err(rejection) => {
            let problem = format!("the name of the service cannot be read: {rejection}");
            return error(StatusCode::BAD_REQUEST, problem, hint());
        }
    };
    let moment = shared.source.moment();
    match moment.view.services.get_key_value(name.as_str()) {
        Some((name, service)) => answer(&moment, name, service),
        None => {
            let problem = format!("no service named `{}`", shown(&name));
            error(StatusCode::NOT_FOUND, problem, hint())
        }
    }
}

pub(super) fn error(status: StatusCode, error: String, hint: String) -> Response {
    (status, Json(ErrorJson::new(error, hint))).into_response()
}

/// The beginning of what a client sent; an error need not repeat all of it.
fn shown(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(200)
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}
