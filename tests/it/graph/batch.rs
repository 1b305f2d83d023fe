//! `$batch`: twenty calls in one, each with its own answer.

use muster::domain::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, user};

async fn batch(caller: &Caller, requests: Value) -> (u16, Value) {
    let answer = caller.send(Method::POST, "/v1.0/$batch", Some(json!({ "requests": requests }))).await;
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn one<'a>(answer: &'a Value, id: &str) -> &'a Value {
    answer["responses"].as_array().unwrap().iter().find(|one| one["id"] == id).unwrap()
}

#[actix_web::test]
async fn calls_of_a_batch_are_answered_each_by_itself() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let own = format!("{}/v1.0/users/{}", caller.server.web, ana.id);
    let (status, answer) = batch(
        &caller,
        json!([
            { "id": "1", "method": "GET", "url": format!("/users/{}?$select=displayName", ana.id) },
            { "id": "2", "method": "get", "url": format!("users/{}", ana.id) },
            { "id": "3", "method": "GET", "url": own },
            { "id": "4", "method": "GET", "url": "https://evil.example/v1.0/users" },
            { "id": "5", "method": "GET", "url": format!("{}.evil.example/v1.0/users", caller.server.web) },
            { "id": 6, "method": "POST", "url": "/groups", "headers": { "Content-Type": "application/json" }, "body": { "displayName": "Sales" } },
            { "id": "7", "method": "POST", "url": "/groups", "body": { "displayName": "No type" } },
            { "id": "8", "method": "DELETE", "url": "/users/nobody@x.example" },
            { "id": "9", "method": "GET", "url": "/users/nobody@x.example", "dependsOn": ["8"] },
            { "id": "10", "method": "GET", "url": format!("/users/{}", ana.id), "depends_on": ["1"] },
            { "id": "11", "method": "POST", "url": "/$batch", "headers": { "content-type": "application/json" }, "body": { "requests": [] } },
            { "id": "12", "method": "GET", "url": "/users/$count" },
            { "id": "13", "method": "GET", "url": "/beta/users" },
        ]),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let status_of = |id: &str| one(&answer, id)["status"].as_u64().unwrap();
    assert_eq!(one(&answer, "1")["body"]["displayName"], "Ana");
    assert_eq!((status_of("2"), status_of("3"), status_of("4"), status_of("5")), (200, 200, 400, 400));
    assert_eq!(status_of("6"), 201);
    assert!(one(&answer, "6")["headers"]["Location"].as_str().unwrap().starts_with(&caller.server.web));
    assert_eq!((status_of("7"), status_of("8")), (400, 404));
    assert_eq!((status_of("9"), &one(&answer, "9")["body"]["error"]["code"]), (424, &json!("FailedDependency")));
    assert_eq!((status_of("10"), status_of("11"), status_of("13")), (200, 400, 400));
    assert_eq!(one(&answer, "12")["body"], "MQ==", "text in base64");
}

#[actix_web::test]
async fn a_batch_that_cannot_be_read_is_refused_whole() {
    let caller = Caller::everything().await;
    let get = |id: &str| json!({ "id": id, "method": "GET", "url": "/users" });
    let many: Vec<Value> = (0..21).map(|n| get(&n.to_string())).collect();
    for requests in [
        json!([]),
        json!(many),
        json!([get("a"), get("A")]),
        json!([get("")]),
        json!([{ "id": "1", "method": "GET" }]),
        json!([{ "id": "1", "method": "GET", "url": "/users", "dependsOn": ["1"] }]),
        json!([{ "id": "1", "method": "GET", "url": "/users", "dependsOn": ["2"] }]),
        json!([
            { "id": "1", "method": "GET", "url": "/users", "dependsOn": ["2"] },
            { "id": "2", "method": "GET", "url": "/users", "dependsOn": ["1"] },
        ]),
    ] {
        let (status, answer) = batch(&caller, requests.clone()).await;
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("BadRequest")), "{requests:.200}");
    }
    assert_eq!(caller.refused(Method::GET, "/v1.0/$batch", None).await, (405, "Request_BadRequest".to_owned()));
}

#[actix_web::test]
async fn a_batch_may_do_what_its_caller_may() {
    let caller = Caller::with(&[Scope::GroupReadAll]).await;
    let (status, answer) = batch(
        &caller,
        json!([
            { "id": "1", "method": "GET", "url": "/groups" },
            { "id": "2", "method": "GET", "url": "/users" },
            { "id": "3", "method": "POST", "url": "/groups", "headers": { "Content-Type": "application/json" }, "body": { "displayName": "X" } },
        ]),
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(
        (&one(&answer, "1")["status"], &one(&answer, "2")["status"], &one(&answer, "3")["status"]),
        (&json!(200), &json!(403), &json!(403))
    );
}
