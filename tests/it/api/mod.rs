//! The product's own API over real TLS.

mod access;
mod devices;
mod document;
mod errors;
mod operations;
mod pki;
mod signals;

use reqwest::Method;
use serde_json::Value;

use crate::graph::Caller;

/// Status and code of a call that fails, whose body is a problem in full.
async fn refused(caller: &Caller, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
    problem(path, caller.send(method, path, body).await).await
}

async fn problem(path: &str, answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let text = answer.text().await.unwrap();
    assert_eq!(kind, "application/problem+json", "{path}: {status} {text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status, "{path}: {body}");
    for member in ["type", "title", "detail", "trace_id"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{path}: {member}: {body}");
    }
    (status, body["code"].as_str().unwrap().to_owned())
}
