//! `$batch`: up to twenty calls in one, each with its own answer.

use std::collections::BTreeMap;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Body, base};
use super::error::{GraphProblem, Result};
use super::request::Request;
use super::{entity, route};
use crate::app::App;
use crate::domain::access::Caller;

/// How many calls a batch has at most.
const MOST: usize = 20;

#[derive(Deserialize)]
struct Batch {
    requests: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: Value,
    method: String,
    url: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    body: Option<Value>,
    // The Python SDK spells it so.
    #[serde(default, rename = "dependsOn", alias = "depends_on")]
    depends_on: Option<Vec<Value>>,
}

/// Whether the call is a batch.
pub(super) fn is_batch(request: &Request) -> bool {
    request.segments.first().is_some_and(|segment| segment.eq_ignore_ascii_case("$batch"))
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| (1..=100).contains(&text.len())),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Answers the calls of a batch: those that depend on none at once, the others when theirs are done.
///
/// # Errors
/// 400 when the batch as a whole cannot be read.
pub(super) async fn answer(app: &App, caller: &Caller, origin: &str, request: &Request) -> Result<Answer> {
    if request.method != Method::POST || request.segments.len() != 1 {
        return Err(GraphProblem::new(StatusCode::METHOD_NOT_ALLOWED, "Request_BadRequest", "Only POST is possible at $batch."));
    }
    let batch: Batch = request.rows()?;
    if batch.requests.is_empty() || batch.requests.len() > MOST {
        return Err(GraphProblem::bad(format!("A batch has 1 to {MOST} requests.")));
    }
    let mut open: Vec<(String, Vec<String>, Item)> = Vec::new();
    for item in batch.requests {
        let name = id(&item.id).ok_or_else(|| GraphProblem::bad("Each request of a batch has an id of 1 to 100 letters."))?;
        if open.iter().any(|(known, ..)| known.eq_ignore_ascii_case(&name)) {
            return Err(GraphProblem::bad(format!("Two requests of the batch have the id '{name}'.")));
        }
        let on = item.depends_on.iter().flatten().map(|value| id(value).unwrap_or_default()).collect();
        open.push((name, on, item));
    }
    let names: Vec<String> = open.iter().map(|(name, ..)| name.clone()).collect();
    if let Some((name, ..)) = open.iter().find(|(name, on, _)| on.iter().any(|one| one == name || !names.contains(one))) {
        return Err(GraphProblem::bad(format!("The request '{name}' depends on one that is not in the batch.")));
    }
    let mut done: BTreeMap<String, u16> = BTreeMap::new();
    let mut answers = Vec::new();
    while !open.is_empty() {
        let (ready, later): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, on, _)| on.iter().all(|one| done.contains_key(one)));
        if ready.is_empty() {
            return Err(GraphProblem::bad("The requests of the batch depend on each other in a circle."));
        }
        let work = ready.iter().map(|(name, on, item)| {
            let failed = on.iter().any(|one| done.get(one).is_none_or(|status| *status >= 400));
            async move {
                let outcome = if failed { Err(dependency()) } else { one(app, caller, origin, request, item).await };
                (name.clone(), outcome)
            }
        });
        for (name, outcome) in join_all(work).await {
            let answer = outcome.unwrap_or_else(|problem| Answer {
                status: problem.status,
                headers: problem.headers().collect(),
                body: Body::Json(problem.body("", app.now().to_utc())),
            });
            done.insert(name.clone(), answer.status.as_u16());
            answers.push(show(&name, answer));
        }
        open = later;
    }
    Ok(Answer::ok(json!({ "responses": answers })))
}

fn dependency() -> GraphProblem {
    GraphProblem::new(StatusCode::FAILED_DEPENDENCY, "FailedDependency", "A request on which this one depends failed.")
}

async fn one(app: &App, caller: &Caller, origin: &str, outer: &Request, item: &Item) -> Result<Answer> {
    let method = Method::from_bytes(item.method.to_ascii_uppercase().as_bytes()).map_err(|_| GraphProblem::bad("The method is none."))?;
    let own = base(&app.config, outer.version);
    // Relative to the root, with or without a slash before it, or absolute on our own base.
    let relative = match item.url.strip_prefix(&own) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', '?']) => rest,
        None if !item.url.contains("://") => item.url.as_str(),
        _ => return Err(GraphProblem::bad("The url of the request is not below this API.")),
    };
    let (path, query) = relative.split_once('?').unwrap_or((relative, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in &item.headers {
        let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = value.as_str().map(HeaderValue::from_str);
        let (Ok(name), Some(Ok(value))) = (name, value) else { return Err(GraphProblem::bad("A header of the request is none.")) };
        headers.insert(name, value);
    }
    let body = match &item.body {
        None | Some(Value::Null) => Bytes::new(),
        Some(_) if !headers.contains_key("content-type") => {
            return Err(GraphProblem::bad("A request with a body needs the header Content-Type."));
        }
        // What is not JSON is text in base64.
        Some(Value::String(text)) => Bytes::from(STANDARD.decode(text).map_err(|_| GraphProblem::bad("The body is not base64."))?),
        Some(value) => Bytes::from(value.to_string()),
    };
    let mut call = Request::new(outer.version, method, path, query, &headers, body)?;
    if is_batch(&call) {
        return Err(GraphProblem::bad("A batch inside a batch is not possible."));
    }
    call.in_batch = true;
    // A handler may hold a batch's future itself; the table does not lead here again.
    Box::pin(route::dispatch(app, caller, origin, &call, entity::TABLE)).await
}

fn show(id: &str, answer: Answer) -> Value {
    let mut headers: Map<String, Value> = answer.headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let mut shown = json!({ "id": id, "status": answer.status.as_u16() });
    let (kind, body) = match answer.body {
        Body::Empty => (None, None),
        Body::Json(value) => (Some("application/json"), Some(value)),
        Body::Text(text) => (Some("text/plain"), Some(Value::String(STANDARD.encode(text)))),
    };
    if let Some(kind) = kind {
        headers.insert("Content-Type".into(), kind.into());
    }
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("headers".into(), Value::Object(headers));
        shown.extend(body.map(|body| ("body".to_owned(), body)));
    }
    shown
}
