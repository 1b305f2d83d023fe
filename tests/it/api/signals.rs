//! Receivers of signals, the keys that sign, and what receivers were told.

use muster::domain::device::Platform;
use muster::domain::signal::{ComplianceChange, Initiator};
use muster::service::signals::caep;
use muster::store::{devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::{problem, refused};
use crate::desired::{device, enrollment};
use crate::graph::{Caller, user};

const PATH: &str = "/api/signals/receivers";

fn receiver(name: &str) -> Value {
    json!({ "name": name, "url": "https://127.0.0.1:1/events", "authorization": "Bearer for-our-eyes" })
}

#[actix_web::test]
async fn receivers_are_added_changed_and_removed_by_whoever_saw_them() {
    let caller = Caller::everything().await;
    let answer = caller.send(Method::POST, PATH, Some(receiver("ours"))).await;
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    let made: Value = answer.json().await.unwrap();
    assert_eq!((&made["status"], &made["authorization"], &made["audience"]), (&json!("enabled"), &json!(true), &made["url"]));
    assert!(!made.to_string().contains("for-our-eyes"));
    for (change, status, code) in [
        (json!({}), 422, "SIG0006"),
        (json!({ "name": "x", "url": "http://example.org/" }), 422, "SIG0003"),
        (json!({ "name": "x", "authorization": "a\u{20ac}" }), 201, ""),
        (json!({ "name": "x\n" }), 400, "malformed"),
        (json!({ "name": "x", "authorisation": "y" }), 400, "malformed"),
    ] {
        let mut body = receiver("ours");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = caller.send(Method::POST, PATH, Some(body)).await;
        if status == 201 {
            // UTF-8 is sendable in a header.
            assert_eq!(answer.status(), 201);
        } else {
            assert_eq!(problem(PATH, answer).await, (status, code.to_owned()), "{change}");
        }
    }
    let seen = caller.send(Method::GET, &location, None).await;
    let etag = seen.headers()["etag"].to_str().unwrap().to_owned();
    let with = async |method: Method, name: &str, value: &str, body: Option<Value>| {
        let request = caller.client.request(method, format!("{}{location}", caller.server.web)).bearer_auth(&caller.token);
        let request = request.header(name, value);
        body.map_or(request.try_clone().unwrap(), |body| request.json(&body)).send().await.unwrap()
    };
    assert_eq!(with(Method::GET, "if-none-match", &etag, None).await.status(), 304);
    let pause = json!({ "status": "paused", "reason": "moving house" });
    let paused = with(Method::PATCH, "if-match", &etag, Some(pause)).await;
    let tag = paused.headers()["etag"].to_str().unwrap().to_owned();
    let body: Value = paused.json().await.unwrap();
    assert_eq!((&body["status"], &body["reason"]), (&json!("paused"), &json!("moving house")));
    assert_ne!(tag, etag);
    for (method, body) in [(Method::PATCH, Some(json!({ "status": "enabled" }))), (Method::DELETE, None)] {
        let stale = with(method, "if-match", &etag, body).await;
        assert_eq!(problem(&location, stale).await, (412, "changed-meanwhile".to_owned()));
    }
    let status = caller.get("/api/status").await;
    assert_eq!(status["failing_receivers"][0]["why"], "moving house");
    let by_name = caller.send(Method::PATCH, &format!("{PATH}/ours"), Some(json!({ "status": "enabled" }))).await;
    assert_eq!(by_name.json::<Value>().await.unwrap()["reason"], Value::Null);

    let sent = caller.send(Method::POST, &format!("{location}/verifications"), None).await;
    assert_eq!(sent.status(), 202);
    let jti = sent.json::<Value>().await.unwrap()["jti"].as_str().unwrap().to_owned();
    let fate = caller.get(&format!("{location}/verifications/{jti}")).await;
    assert_eq!(fate, json!({ "jti": jti, "state": "queued", "attempts": 0, "last_error": null }));
    let audited = caller.get("/v1.0/deviceManagement/auditEvents?$filter=activity%20eq%20'receiver.test'").await;
    assert_eq!((audited["value"].as_array().unwrap().len(), &audited["value"][0]["actor"]["auditActorType"]), (1, &json!("Application")));
    for path in [format!("{location}/verifications/none"), format!("{PATH}/nobody"), format!("{PATH}/%00")] {
        assert_eq!(refused(&caller, Method::GET, &path, None).await, (404, "not-found".to_owned()), "{path}");
    }
    assert_eq!(caller.send(Method::DELETE, &location, None).await.status(), 204);
    assert_eq!(refused(&caller, Method::DELETE, &location, None).await, (404, "not-found".to_owned()));
    assert_eq!(caller.get(PATH).await["value"].as_array().unwrap().len(), 1);
    let events = caller.get("/v1.0/deviceManagement/auditEvents?$filter=activity%20eq%20'receiver.delete'").await;
    assert_eq!(events["value"][0]["actor"]["auditActorType"], "Application");
}

#[actix_web::test]
async fn what_receivers_were_told_of_a_device_is_shown() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    caller.post(PATH, receiver("ours")).await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let (now, pc) = (app.now(), device("PC-A", Platform::Windows, Some(&ana.id)));
    let (row, enrolled) = (pc.clone(), enrollment(&pc, now));
    let change = ComplianceChange {
        device: pc.id.clone(),
        previous: true,
        current: false,
        initiator: Initiator::Policy,
        reason: "old".into(),
        txn: "t".into(),
    };
    app.store
        .write(move |tx| {
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &enrolled)?;
            caep::enqueue_compliance_change(tx, &change, now)
        })
        .await
        .unwrap();
    let subject = caller.get(&format!("/api/signals/subjects/{}", pc.id)).await;
    assert_eq!((&subject["user"], &subject["compliant"]), (&json!("ana@x.example"), &Value::Null));
    let told = &subject["receivers"][0];
    assert_eq!((&told["receiver"], &told["waiting"], &told["last_state"]), (&json!("ours"), &json!(1), &json!("queued")));
    assert_eq!(told["missed"], false);
    let explained = caller.get(&format!("/api/devices/{}/explanation", pc.id)).await;
    assert_eq!((&explained["name"], &explained["state"]), (&json!("PC-A"), &json!("managed")));
    assert_eq!((&explained["reasons"], &explained["ownership"]), (&json!([]), &json!("personal")));
}

#[actix_web::test]
async fn keys_are_replaced_at_once_and_take_the_callers_token_with_them() {
    let caller = Caller::everything().await;
    let keys = caller.get("/api/signals/keys").await;
    assert_eq!(keys["value"][0]["signs_now"], true);
    let fresh = caller.post("/api/signals/keys/replace", json!({})).await;
    assert_ne!(fresh["kid"], keys["value"][0]["kid"]);
    assert_eq!(refused(&caller, Method::GET, "/api/signals/keys", None).await, (401, "unauthenticated".to_owned()));
}
