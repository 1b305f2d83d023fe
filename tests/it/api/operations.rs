//! The instance, its jobs and its outbox.

use muster::domain::access::Scope;
use muster::service::jobs;
use muster::service::signals::receiver::{NewReceiver, add};
use muster::service::signals::{caep, receiver};
use muster::store::outbox;
use reqwest::Method;
use serde_json::{Value, json};

use super::refused;
use crate::graph::Caller;

#[actix_web::test]
async fn the_status_says_what_asks_for_attention() {
    let caller = Caller::with(&[Scope::OperationsReadAll]).await;
    let status = caller.get("/api/status").await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["tenant"], &status["web"]), (&json!(caller.server.app.tenant), &json!(caller.server.web)));
    assert_eq!((&status["alarm"], &status["database"]), (&json!(false), &json!("SQLite")));
    assert_eq!(status["issuing"]["name"], "issuing");
    let of_push = |status: &Value| status["attention"].as_array().unwrap().iter().any(|one| one["part"] == "apple_push");
    assert!(of_push(&status), "{status}");
    muster::service::pki::authority::set_paused(&caller.server.app, "issuing", true, "cli:test", "local").await.unwrap();
    let status = caller.get("/api/status").await;
    let first = &status["attention"][0];
    assert_eq!((&status["alarm"], &first["alarm"], &first["part"]), (&json!(true), &json!(true), &json!("issuing")));
    assert!(first["text"].as_str().unwrap().contains("issuing is paused"), "{first}");
    assert_eq!(status["issuing"], Value::Null);
}

#[actix_web::test]
async fn jobs_say_when_they_run_and_how_they_went() {
    let caller = Caller::with(&[Scope::OperationsReadAll]).await;
    assert_eq!(caller.get("/api/jobs").await, json!({ "value": [], "next": null }));
    jobs::run_due(&caller.server.app).await.unwrap();
    let all = caller.get("/api/jobs").await;
    let all = all["value"].as_array().unwrap();
    assert_eq!(all.len(), jobs::JOBS.len());
    let crl = all.iter().find(|job| job["name"] == "crl").unwrap();
    assert_eq!((&crl["last_error"], &crl["runs_on"]), (&Value::Null, &Value::Null));
    assert!(crl["next_run"].as_str() > crl["finished"].as_str(), "{crl}");
}

#[actix_web::test]
async fn what_was_given_up_is_listed_in_pages_and_put_in_again() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    let new = NewReceiver { name: "ours".into(), endpoint_url: "https://127.0.0.1:1/events".into(), audience: None, authorization: None };
    let added = add(app, new, &crate::graph::by()).await.unwrap();
    for _ in 0..3 {
        receiver::test(app, "ours", &crate::graph::by()).await.unwrap();
    }
    let first = caller.get("/api/outbox?limit=2").await;
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    assert_eq!((&first["value"][0]["receiver"], &first["value"][0]["topic"]), (&json!("ours"), &json!(caep::TOPIC)));
    let next = first["next"].as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    let rest = caller.get(&next).await;
    assert_eq!((rest["value"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    assert!(rest["value"][0]["number"].as_i64() > first["value"][1]["number"].as_i64());

    let destination = caep::destination(&added.id);
    let now = app.now();
    app.store.write(move |tx| outbox::update_abandoned(tx, &destination, "gone", now)).await.unwrap();
    let dead = caller.get("/api/outbox?state=dead").await;
    let dead: Vec<i64> = dead["value"].as_array().unwrap().iter().map(|row| row["number"].as_i64().unwrap()).collect();
    assert_eq!(dead.len(), 3);
    let path = format!("/api/outbox/{}/retry", dead[0]);
    assert_eq!(caller.send(Method::POST, &path, None).await.status(), 204);
    assert_eq!(caller.get("/api/outbox").await["value"][0]["number"], dead[0]);
    assert_eq!(refused(&caller, Method::POST, &path, None).await, (404, "not-found".to_owned()), "it waits again");
    let audited = caller.get("/v1.0/deviceManagement/auditEvents?$filter=activity%20eq%20'outbox.retry'").await;
    assert_eq!(audited["value"][0]["actor"]["auditActorType"], "Application");

    // A newer one that was delivered makes the older ones needless.
    let newest = dead[2];
    app.store.write(move |tx| outbox::update_requeued(tx, newest, now).map(drop)).await.unwrap();
    let lease = outbox::Lease { node: "here".into(), coalesced: Vec::new(), millis: 60_000 };
    let settled = app.store.write(move |tx| {
        for claim in outbox::claim_due(tx, &lease, &[], 10, now)? {
            let mut next = Some(claim);
            while let Some(claim) = next {
                next = outbox::settle(tx, &claim, &lease, &outbox::Settled::Done, true, now)?;
            }
        }
        Ok(())
    });
    settled.await.unwrap();
    let path = format!("/api/outbox/{}/retry", dead[1]);
    assert_eq!(refused(&caller, Method::POST, &path, None).await, (422, "SIG0001".to_owned()));
}
