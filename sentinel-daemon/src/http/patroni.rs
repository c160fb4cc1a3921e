//! Patroni's health paths, for load balancers and probes that were set up for it: which paths there are, and which
//! status an answer has.
//!
//! They speak of the instance that this node is the agent of, from the view alone. A node that is agent of none has
//! nothing to say there and answers 404. What makes a yes is `judgement.rs`'s knowledge.

mod documents;
mod judgement;
mod local;
mod refusal;
mod wanted;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use axum::{Json, Router};

use crate::http::routes::{Shared, error};
use judgement::{Check, judge};
use local::Local;
use serde_json::Value;
use wanted::Wanted;

type At = State<Arc<Shared>>;

/// The paths that say yes or no. Patroni's `/` is the first of them; nothing else of ours is there.
const CHECKS: [(&str, Check); 21] = [
    ("/", Check::Primary),
    ("/primary", Check::Primary),
    ("/master", Check::Primary),
    ("/read-write", Check::Primary),
    ("/leader", Check::Primary),
    ("/standby-leader", Check::StandbyLeader),
    ("/standby_leader", Check::StandbyLeader),
    ("/replica", Check::Replica),
    ("/read-only", Check::ReadOnly),
    ("/synchronous", Check::Synchronous),
    ("/sync", Check::Synchronous),
    ("/read-only-synchronous", Check::ReadOnlySynchronous),
    ("/read-only-sync", Check::ReadOnlySynchronous),
    ("/quorum", Check::Quorum),
    ("/read-only-quorum", Check::ReadOnlyQuorum),
    ("/asynchronous", Check::Asynchronous),
    ("/async", Check::Asynchronous),
    ("/health", Check::Health),
    ("/readiness", Check::Readiness),
    ("/liveness", Check::Liveness),
    ("/patroni", Check::Status),
];

/// Adds the paths.
pub(super) fn add(mut router: Router<Arc<Shared>>) -> Router<Arc<Shared>> {
    let methods = || {
        MethodFilter::GET
            .or(MethodFilter::HEAD)
            .or(MethodFilter::OPTIONS)
    };
    for (path, check) in CHECKS {
        let answer = move |State(shared): At, method: Method, RawQuery(query): RawQuery| {
            let answered = of_local(&shared, query.as_deref(), |local, wanted| {
                let judged = judge(check, local, wanted);
                let body = documents::patroni(local, judged.as_ref().err());
                (status(judged.is_ok()), body)
            });
            std::future::ready(bare(&method, answered))
        };
        router = router.route(path, on(methods(), answer));
    }
    for (path, document) in [
        ("/cluster", documents::cluster as fn(Local<'_>) -> Value),
        ("/history", documents::history),
    ] {
        let answer = move |State(shared): At, method: Method, RawQuery(query): RawQuery| {
            let answered = of_local(&shared, query.as_deref(), |local, _| {
                (StatusCode::OK, document(local))
            });
            std::future::ready(bare(&method, answered))
        };
        router = router.route(path, on(methods(), answer));
    }
    router
}

fn status(yes: bool) -> StatusCode {
    if yes {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// Answers for the instance that the request speaks of, or says why there is none.
fn of_local(
    shared: &Shared,
    query: Option<&str>,
    answer: impl FnOnce(Local<'_>, &Wanted) -> (StatusCode, Value),
) -> Response {
    let wanted = match Wanted::parse(query.unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(bad) => {
            return error(
                StatusCode::BAD_REQUEST,
                bad.to_string(),
                bad.hint().to_owned(),
            );
        }
    };
    let moment = shared.source.moment();
    match Local::of(&moment, &shared.agent_of, wanted.instance.as_ref()) {
        Some(local) => {
            let (status, body) = answer(local, &wanted);
            (status, Json(body)).into_response()
        }
        None => no_agent(shared, &wanted),
    }
}

fn no_agent(shared: &Shared, wanted: &Wanted) -> Response {
    let own: Vec<String> = shared
        .agent_of
        .iter()
        .map(|(_, id)| id.to_string())
        .collect();
    let (problem, hint) = match &wanted.instance {
        Some(instance) if !own.is_empty() => (
            format!("this node is not the agent of {instance}"),
            format!("it is the agent of {}", own.join(", ")),
        ),
        Some(_) | None => (
            "this node is the agent of no instance, so it has no health to tell".to_owned(),
            "ask the node on the database's host, which has [agent] in its settings, or ask \
             /v1/services/{name}/primary, which any node answers"
                .to_owned(),
        ),
    };
    error(StatusCode::NOT_FOUND, problem, hint)
}

/// HEAD and OPTIONS want the status line only.
fn bare(method: &Method, answer: Response) -> Response {
    if *method == Method::GET {
        return answer;
    }
    answer.status().into_response()
}
