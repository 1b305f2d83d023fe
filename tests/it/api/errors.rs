//! Errors of the router, of bodies and of limits are problems, too.

use reqwest::Method;
use serde_json::{Value, json};

use super::{problem, refused};
use crate::graph::Caller;
use crate::support::server::Server;

#[actix_web::test]
async fn whatever_is_wrong_with_a_call_is_a_problem_with_a_code() {
    let caller = Caller::everything().await;
    for path in ["/api", "/api/", "/api/nothing", "/api/status/", "/api//status", "/api/status/x", "/api/a/b/c/d/e/f/g/h/i/j/k/l/m/n"] {
        assert_eq!(refused(&caller, Method::GET, path, None).await, (404, "not-found".to_owned()), "{path}");
    }
    let answer = caller.send(Method::DELETE, "/api/status", None).await;
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    assert_eq!(problem("DELETE", answer).await, (405, "method-not-allowed".to_owned()));
    let answer = caller.send(Method::OPTIONS, "/api/outbox/1/retry", None).await;
    assert_eq!(answer.headers()["allow"], "POST");
    let answer = caller.send(Method::POST, "/api/openapi.json", None).await;
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    assert_eq!(problem("POST", answer).await, (405, "method-not-allowed".to_owned()));
    for path in [
        "/api/outbox?stat=dead",
        "/api/outbox?limit=0",
        "/api/outbox?limit=1001",
        "/api/outbox?state=lost",
        "/api/jobs?limit=1",
        "/api/%ff",
    ] {
        assert_eq!(refused(&caller, Method::GET, path, None).await, (400, "malformed".to_owned()), "{path}");
    }
    let url = |path: &str| format!("{}{path}", caller.server.web);
    let with = |request: reqwest::RequestBuilder| request.bearer_auth(&caller.token);
    let html = with(caller.client.get(url("/api/status"))).header("accept", "application/xml").send().await.unwrap();
    assert_eq!(problem("accept", html).await, (406, "not-acceptable".to_owned()));
    let page = with(caller.client.get(url("/api/nothing"))).header("accept", "text/html, */*").send().await.unwrap();
    assert_eq!(problem("browser", page).await.0, 404);
    let retry = url("/api/outbox/1/retry");
    let text = with(caller.client.post(&retry)).body("x").send().await.unwrap();
    assert_eq!(problem("text", text).await, (415, "content-type".to_owned()));
    let packed = with(caller.client.post(&retry)).header("content-encoding", "gzip").body("x").send().await.unwrap();
    assert_eq!(problem("packed", packed).await, (415, "content-encoding".to_owned()));
    let large = with(caller.client.post(&retry)).body(vec![b' '; 1024 * 1024 + 1]).send().await.unwrap();
    assert_eq!(problem("large", large).await, (413, "too-large".to_owned()));
    assert_eq!(refused(&caller, Method::POST, "/api/outbox/1/retry", Some(json!({ "x": 1 }))).await, (400, "malformed".to_owned()));
    for number in ["1", "x", "99999999999999999999"] {
        let path = format!("/api/outbox/{number}/retry");
        assert_eq!(refused(&caller, Method::POST, &path, Some(json!({}))).await, (404, "not-found".to_owned()), "{number}");
    }
    let head = caller.send(Method::HEAD, "/api/status", None).await;
    assert_eq!((head.status().as_u16(), head.headers()["content-type"].to_str().unwrap()), (200, "application/json"));
    assert!(head.bytes().await.unwrap().is_empty());
}

#[actix_web::test]
async fn strangers_are_told_how_to_be_known_and_after_how_long_to_come_again() {
    let server = Server::tweaked(|config| {
        config.limits.anonymous_per_second = 1;
        config.limits.anonymous_burst = 3;
    })
    .await;
    let client = server.client();
    let ask = async |token: Option<&str>| {
        let request = client.get(format!("{}/api/status", server.web));
        token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token)).send().await.unwrap()
    };
    let answer = ask(Some("forged")).await;
    assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    assert_eq!(problem("forged", answer).await, (401, "unauthenticated".to_owned()));
    let mut last = ask(None).await;
    for _ in 0..20 {
        if last.status() == 429 {
            break;
        }
        last = ask(None).await;
    }
    assert!(last.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(problem("throttled", last).await, (429, "throttled".to_owned()));
    let document = client.get(format!("{}/api/openapi.json", server.web)).send().await.unwrap();
    let told: Value = document.json().await.unwrap();
    assert_eq!(told["code"], "throttled");
}

#[actix_web::test]
async fn a_caller_who_calls_too_often_waits() {
    let server = Server::tweaked(|config| {
        config.limits.api_per_second = 1;
        config.limits.api_burst = 2;
    });
    let caller = Caller::on(server.await).await;
    let mut last = caller.send(Method::GET, "/api/jobs", None).await;
    assert_eq!(last.status(), 200);
    for _ in 0..20 {
        if last.status() == 429 {
            break;
        }
        last = caller.send(Method::GET, "/api/jobs", None).await;
    }
    assert!(last.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(problem("/api/jobs", last).await, (429, "throttled".to_owned()));
}
