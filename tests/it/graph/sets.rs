//! Users, groups and orders: what is made, changed and taken away, and how errors look.

use muster::domain::device::Platform;
use muster::store::{devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, names, user};
use crate::desired::{device, enrollment};

#[actix_web::test]
async fn a_user_lives() {
    let caller = Caller::everything().await;
    let made = caller
        .send(
            Method::POST,
            "/v1.0/users",
            Some(json!({
                "@odata.type": "#microsoft.graph.user", "accountEnabled": true, "displayName": "Ana", "userPrincipalName": "Ana@X.example",
                "mailNickname": "ana", "passwordProfile": { "password": "ignored" }, "department": "Sales", "givenName": "Ana",
            })),
        )
        .await;
    assert_eq!(made.status(), 201);
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = made.json().await.unwrap();
    assert_eq!(location, format!("{}/v1.0/users/{}", caller.server.web, made["id"].as_str().unwrap()));
    assert_eq!((&made["userPrincipalName"], &made["givenName"]), (&json!("ana@x.example"), &json!("Ana")));
    assert!(made.get("department").is_none() && made.get("accountEnabled").is_none(), "the default set only");
    let shown = caller.get("/v1.0/users/ana@x.example?$select=department,accountEnabled").await;
    assert_eq!((&shown["department"], &shown["accountEnabled"], shown.get("displayName")), (&json!("Sales"), &json!(true), None));

    let change = json!({ "jobTitle": "Engineer", "department": null, "accountEnabled": false });
    assert_eq!(caller.send(Method::PATCH, "/v1.0/users/ana@x.example", Some(change)).await.status(), 204);
    let shown = caller.get("/v1.0/users/ana@x.example?$select=department,accountEnabled,jobTitle").await;
    assert_eq!((&shown["department"], &shown["accountEnabled"], &shown["jobTitle"]), (&json!(null), &json!(false), &json!("Engineer")));
    for (body, code) in [
        (json!({ "isAdmin": true }), "BadRequest"),
        (json!({ "accountEnabled": "yes" }), "ModelValidationFailure"),
        (json!({ "displayName": "" }), "ModelValidationFailure"),
        (json!({ "userPrincipalName": "nobody" }), "Request_BadRequest"),
        // It says in certificates whose account it is: nobody writes another's there.
        (json!({ "onPremisesSecurityIdentifier": "S-1-5-21-1-2-3-500" }), "BadRequest"),
        (json!({ "department": "x".repeat(200) }), "Request_BadRequest"),
    ] {
        let refused = caller.refused(Method::PATCH, "/v1.0/users/ana@x.example", Some(body.clone())).await;
        assert_eq!(refused, (400, code.to_owned()), "{body}");
    }
    let twice = json!({ "displayName": "X", "userPrincipalName": "ana@x.example" });
    let refused = caller.refused(Method::POST, "/v1.0/users", Some(twice)).await;
    assert_eq!(refused, (400, "Request_MultipleObjectsWithSameKeyValue".to_owned()));
    assert_eq!(caller.send(Method::DELETE, "/v1.0/users/ana@x.example", None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, "/v1.0/users/ana@x.example", None).await, (404, "ResourceNotFound".to_owned()));
}

#[actix_web::test]
async fn a_group_and_its_members_live() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let bob = user(&caller.server, "bob@x.example", "Bob").await;
    let reference = |id: &str| format!("{}/v1.0/directoryObjects/{id}", caller.server.web);
    let body = json!({
        "displayName": "Sales", "mailEnabled": false, "mailNickname": "sales", "securityEnabled": true,
        "members@odata.bind": [reference(ana.id.as_str())],
    });
    let group = caller.post("/v1.0/groups", body).await;
    assert_eq!((&group["mailNickname"], &group["isAssignableToRole"]), (&json!("sales"), &json!(false)), "{group}");
    let path = format!("/v1.0/groups/{}", group["id"].as_str().unwrap());
    assert_eq!(caller.send(Method::PATCH, &path, Some(json!({ "mailNickname": "sold" }))).await.status(), 204);
    assert_eq!(caller.get(&path).await["mailNickname"], "sold");
    for wrong in [json!({ "mailNickname": "a b" }), json!({ "mailNickname": "" }), json!({ "isAssignableToRole": true })] {
        assert_eq!(caller.send(Method::PATCH, &path, Some(wrong.clone())).await.status(), 400, "{wrong}");
    }
    let add = |id: &str| Some(json!({ "@odata.id": reference(id) }));
    assert_eq!(caller.send(Method::POST, &format!("{path}/members/$ref"), add(bob.id.as_str())).await.status(), 204);
    let members = caller.get(&format!("{path}/members?$select=id,displayName")).await;
    assert_eq!(names(&members, "displayName"), ["Ana", "Bob"]);
    assert_eq!(members["value"][0]["@odata.type"], "#microsoft.graph.user");
    let paged = caller.get(&format!("{path}/members?$top=1&$count=true")).await;
    assert!(paged["@odata.nextLink"].is_string() && paged["@odata.count"] == 2);
    let again = caller.refused(Method::POST, &format!("{path}/members/$ref"), add(bob.id.as_str())).await;
    assert_eq!(again, (400, "Request_BadRequest".to_owned()));
    let unknown = caller.refused(Method::POST, &format!("{path}/members/$ref"), add("01900000-0000-7000-8000-000000000000")).await;
    assert_eq!(unknown, (400, "Request_BadRequest".to_owned()));
    assert_eq!(names(&caller.get("/v1.0/users/bob@x.example/memberOf").await, "displayName"), ["Sales"]);
    assert_eq!(caller.send(Method::DELETE, &format!("{path}/members/{}/$ref", bob.id), None).await.status(), 204);
    assert_eq!(caller.refused(Method::DELETE, &format!("{path}/members/{}/$ref", bob.id), None).await.0, 404);
    assert_eq!(caller.send(Method::PATCH, &path, Some(json!({ "description": "Those who sell" }))).await.status(), 204);
    assert_eq!(caller.get(&path).await["description"], "Those who sell");
    let unified = json!({ "displayName": "Team", "groupTypes": ["Unified"] });
    assert_eq!(caller.refused(Method::POST, "/v1.0/groups", Some(unified)).await, (400, "BadRequest".to_owned()));
    let twice = caller.refused(Method::POST, "/v1.0/groups", Some(json!({ "displayName": "Sales" }))).await;
    assert_eq!(twice, (409, "NameConflict".to_owned()));
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
}

#[actix_web::test]
async fn devices_are_given_orders() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let now = caller.server.app.now();
    let mut pc = device("PC-1", Platform::Windows, Some(&ana.id));
    pc.os_version = Some("10.0.22631.1".into());
    let enrolled = enrollment(&pc, now);
    let (row, of) = (pc.clone(), enrolled.clone());
    caller
        .server
        .app
        .store
        .write(move |tx| {
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &of)
        })
        .await
        .unwrap();
    let path = format!("/v1.0/deviceManagement/managedDevices/{}", enrolled.id);
    // No body, an empty object, and Content-Length 0: clients differ.
    for body in [None, Some(json!({}))] {
        assert_eq!(caller.send(Method::POST, &format!("{path}/syncDevice"), body).await.status(), 204);
    }
    let bare = caller.client.post(format!("{}{path}/rebootNow", caller.server.web)).bearer_auth(&caller.token);
    assert_eq!(bare.header("Content-Length", "0").send().await.unwrap().status(), 204);
    assert_eq!(caller.send(Method::POST, &format!("{path}/rebootNow"), None).await.status(), 204);
    let results = caller.get(&path).await["deviceActionResults"].clone();
    assert_eq!(results.as_array().unwrap().len(), 1, "the same order that waits already is not given again: {results}");
    assert_eq!((&results[0]["actionName"], &results[0]["actionState"]), (&json!("rebootNow"), &json!("pending")));
    let not_here = caller.refused(Method::POST, &format!("{path}/resetPasscode"), None).await;
    assert_eq!(not_here, (400, "Request_BadRequest".to_owned()));
    let code = caller.refused(Method::POST, &format!("{path}/wipe"), Some(json!({ "macOsUnlockCode": "12" }))).await;
    assert_eq!(code, (400, "ModelValidationFailure".to_owned()));
    let wipe = json!({ "keepUserData": false, "keepEnrollmentData": false, "persistEsimDataPlan": false });
    assert_eq!(caller.send(Method::POST, &format!("{path}/wipe"), Some(wipe)).await.status(), 204);
    assert_eq!(caller.send(Method::POST, &format!("{path}/retire"), None).await.status(), 204);
    let beta = caller.refused(Method::POST, &format!("{path}/setDeviceName"), Some(json!({ "deviceName": "x" }))).await;
    assert_eq!(beta, (400, "BadRequest".to_owned()), "only beta has it");
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &path, None).await.0, 404);
}

#[actix_web::test]
async fn errors_are_json_wherever_they_come_from() {
    let caller = Caller::everything().await;
    let plain =
        |method: Method, path: &str| caller.client.request(method, format!("{}{path}", caller.server.web)).bearer_auth(&caller.token);
    for (method, path, status, code) in [
        (Method::GET, "/v1.0/nope", 400, "BadRequest"),
        (Method::GET, "/v1.0/", 400, "BadRequest"),
        (Method::GET, "/v1.0/users/a/b/c/d/e/f/g/h/i/j/k/l/m/n", 400, "BadRequest"),
        (Method::GET, "/v1.0/deviceManagement/managedDevices/not-a-guid", 404, "ResourceNotFound"),
        (Method::DELETE, "/v1.0/users", 405, "Request_BadRequest"),
        (Method::PUT, "/v1.0/deviceManagement/managedDevices", 405, "Request_BadRequest"),
        (Method::TRACE, "/v1.0/users", 405, "Request_BadRequest"),
    ] {
        let answer = plain(method.clone(), path).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        assert!(answer.headers().contains_key("request-id") && answer.headers()["odata-version"] == "4.0");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], code, "{method} {path}");
        assert!(body["error"]["innerError"]["request-id"].is_string());
    }
    let id = "11111111-1111-4111-8111-111111111111";
    let answer = plain(Method::GET, "/v1.0/users").header("client-request-id", id).send().await.unwrap();
    assert_eq!(answer.headers()["client-request-id"], id);
    let none: Value = plain(Method::GET, "/v1.0/users")
        .header("Accept", "application/json;odata.metadata=none")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(none.get("@odata.context").is_none());
    for (body, status) in
        [("{".to_owned(), 400), ("\u{0}".into(), 400), ("[]".into(), 400), ("[".repeat(10_000), 400), ("x".repeat(5_000_000), 413)]
    {
        let answer =
            plain(Method::POST, "/v1.0/groups").header("Content-Type", "application/json").body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{body:.20}");
        assert!(answer.json::<Value>().await.unwrap()["error"]["code"].is_string());
    }
    let large = json!({ "displayName": "Large", "unknown": "x".repeat(1_500_000) });
    assert_eq!(caller.send(Method::POST, "/v1.0/groups", Some(large.clone())).await.status(), 201, "as long as Graph's own");
    let strange = caller.client.post(format!("{}/v1.0/groups", caller.server.web)).json(&large).send().await;
    assert!(strange.is_err() || strange.is_ok_and(|answer| answer.status() == 401), "of a stranger nothing is read");
    let invalid = plain(Method::POST, "/v1.0/groups").header("Content-Type", "application/json").body(vec![0xff, 0xfe]);
    assert_eq!(invalid.send().await.unwrap().status(), 400);
    let organisation = caller.get("/v1.0/organization").await;
    assert_eq!(organisation["value"][0]["id"].as_str(), Some(caller.server.app.tenant.as_str()));
    assert!(caller.get("/v1.0/subscribedSkus").await["value"].as_array().unwrap().is_empty());
}
