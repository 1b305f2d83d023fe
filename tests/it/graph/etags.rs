//! Versions of objects, and callers who call too often.

use muster::domain::access::Scope;
use reqwest::Method;
use serde_json::json;

use super::{Caller, register, token};
use crate::support::server::Server;

#[actix_web::test]
async fn a_change_of_what_somebody_else_changed_is_refused() {
    let caller = Caller::everything().await;
    let group = caller
        .post("/v1.0/groups", json!({ "displayName": "Sales", "mailEnabled": false, "mailNickname": "s", "securityEnabled": true }))
        .await;
    let path = format!("/v1.0/groups/{}", group["id"].as_str().unwrap());
    let shown = caller.send(Method::GET, &path, None).await;
    let etag = shown.headers()["etag"].to_str().unwrap().to_owned();
    assert!(etag.starts_with("W/\""), "{etag}");
    assert_eq!(shown.json::<serde_json::Value>().await.unwrap()["@odata.etag"], etag.as_str());
    assert_eq!(group["@odata.etag"], etag.as_str(), "what is made says its version, too");
    let with = |method: Method, path: &str, name: &'static str, value: &str| {
        caller.client.request(method, format!("{}{path}", caller.server.web)).bearer_auth(&caller.token).header(name, value)
    };
    // Whoever has it already is not sent it again, however little they select.
    for query in ["", "?$select=id"] {
        let again = with(Method::GET, &format!("{path}{query}"), "If-None-Match", &etag).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.headers()["etag"].to_str().unwrap()), (304, etag.as_str()));
        assert_eq!(again.text().await.unwrap(), "");
    }
    let name = |name: &str| json!({ "displayName": name });
    let changed = with(Method::PATCH, &path, "If-Match", &etag).json(&name("Sale")).send().await.unwrap();
    assert_eq!(changed.status().as_u16(), 204);
    for method in [Method::PATCH, Method::DELETE] {
        let stale = with(method, &path, "If-Match", &etag).json(&name("Lost")).send().await.unwrap();
        assert_eq!(stale.status().as_u16(), 412);
        assert_eq!(stale.json::<serde_json::Value>().await.unwrap()["error"]["code"], "PreconditionFailed");
    }
    let now = caller.send(Method::GET, &path, None).await;
    let newer = now.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(now.json::<serde_json::Value>().await.unwrap()["displayName"], "Sale");
    assert_ne!(newer, etag);
    // The last writer wins where nobody says what they saw; and `*` is any version.
    for (header, name_of) in [("*", "Star"), (newer.trim_start_matches("W/"), "Late")] {
        let answer = with(Method::PATCH, &path, "If-Match", header).json(&name(name_of)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), if header == "*" { 204 } else { 412 }, "{header}");
    }
    assert_eq!(caller.send(Method::PATCH, &path, Some(name("Last"))).await.status().as_u16(), 204);
}

#[actix_web::test]
async fn policies_and_configurations_have_versions() {
    let caller = Caller::everything().await;
    for (set, body) in [
        (
            "deviceManagement/deviceConfigurations",
            json!({ "@odata.type": "#microsoft.graph.windows10CustomConfiguration", "displayName": "One", "omaSettings": [] }),
        ),
        (
            "deviceManagement/deviceCompliancePolicies",
            json!({
                "@odata.type": "#microsoft.graph.windows10CompliancePolicy", "displayName": "One", "bitLockerEnabled": true,
                "scheduledActionsForRule": [{ "ruleName": "x", "scheduledActionConfigurations": [{ "actionType": "block", "gracePeriodHours": 0 }] }],
            }),
        ),
    ] {
        let made = caller.post(&format!("/v1.0/{set}"), body).await;
        let path = format!("/v1.0/{set}/{}", made["id"].as_str().unwrap());
        let etag = made["@odata.etag"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let change = async |etag: &str, name: &str| {
            let body = json!({ "@odata.type": made["@odata.type"], "displayName": format!("{name} of {set}") });
            let url = format!("{}{path}", caller.server.web);
            caller.client.patch(url).bearer_auth(&caller.token).header("If-Match", etag).json(&body).send().await.unwrap().status().as_u16()
        };
        assert_eq!(change(&etag, "Two").await, 200, "{set}");
        assert_eq!(change(&etag, "Three").await, 412, "{set}");
        let page = caller.get(&format!("/v1.0/{set}")).await;
        assert_eq!(page["value"][0]["displayName"], format!("Two of {set}"));
        assert_eq!(change(page["value"][0]["@odata.etag"].as_str().unwrap(), "Three").await, 200, "a list says the versions, too");
    }
}

/// Of those who saw the same, one changes it; and nobody else's change is written over by who changes something else.
#[actix_web::test]
async fn of_changes_at_once_none_is_lost() {
    let caller = Caller::everything().await;
    let user = json!({ "accountEnabled": true, "displayName": "Ann", "userPrincipalName": "ann@example.org" });
    let group = json!({ "displayName": "Sales", "mailEnabled": false, "mailNickname": "s", "securityEnabled": true });
    let configuration = json!({ "@odata.type": "#microsoft.graph.windows10CustomConfiguration", "displayName": "One", "omaSettings": [] });
    let policy = json!({
        "@odata.type": "#microsoft.graph.windows10CompliancePolicy", "displayName": "Two", "bitLockerEnabled": true,
        "scheduledActionsForRule": [{ "ruleName": "x", "scheduledActionConfigurations": [{ "actionType": "block", "gracePeriodHours": 0 }] }],
    });
    let send = async |path: &str, etag: Option<&str>, body: &serde_json::Value| {
        let url = format!("{}{path}", caller.server.web);
        let request = caller.client.patch(url).bearer_auth(&caller.token).json(body);
        let request = if let Some(etag) = etag { request.header("If-Match", etag) } else { request };
        request.send().await.unwrap().status().as_u16()
    };
    for (set, body) in [
        ("users", &user),
        ("groups", &group),
        ("deviceManagement/deviceConfigurations", &configuration),
        ("deviceManagement/deviceCompliancePolicies", &policy),
    ] {
        let made = caller.post(&format!("/v1.0/{set}"), body.clone()).await;
        let path = format!("/v1.0/{set}/{}", made["id"].as_str().unwrap());
        let shown = caller.get(&path).await;
        let etag = shown["@odata.etag"].as_str().unwrap();
        let names: Vec<_> = (0..12).map(|n| json!({ "@odata.type": body["@odata.type"], "displayName": format!("{set} {n}") })).collect();
        let names: Vec<_> = if set == "users" || set == "groups" {
            (0..12).map(|n| json!({ "displayName": format!("{set} {n}") })).collect()
        } else {
            names
        };
        let answers = futures_util::future::join_all(names.iter().map(|body| send(&path, Some(etag), body))).await;
        let won = answers.iter().filter(|status| **status < 300).count();
        assert!(won == 1 && answers.iter().all(|status| *status < 300 || *status == 412), "{set}: {answers:?}");
    }
    let page = caller.get("/v1.0/users?$filter=userPrincipalName%20eq%20'ann@example.org'").await;
    let path = format!("/v1.0/users/{}", page["value"][0]["id"].as_str().unwrap());
    for round in 0..12 {
        assert_eq!(send(&path, None, &json!({ "accountEnabled": true })).await, 204);
        let (disable, title) = (json!({ "accountEnabled": false }), json!({ "jobTitle": format!("Title {round}") }));
        let (one, two) = futures_util::future::join(send(&path, None, &disable), send(&path, None, &title)).await;
        assert_eq!((one, two), (204, 204));
        let now = caller.get(&format!("{path}?$select=accountEnabled,jobTitle")).await;
        assert_eq!((&now["accountEnabled"], &now["jobTitle"]), (&json!(false), &title["jobTitle"]), "{now}");
    }
}

#[actix_web::test]
async fn an_action_on_one_object_looks_at_its_version() {
    let caller = Caller::everything().await;
    let body = json!({ "@odata.type": "#microsoft.graph.windows10CustomConfiguration", "displayName": "One", "omaSettings": [] });
    let made = caller.post("/v1.0/deviceManagement/deviceConfigurations", body).await;
    let path = format!("/v1.0/deviceManagement/deviceConfigurations/{}", made["id"].as_str().unwrap());
    let everybody = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }] });
    let assign = async |etag: &str, path: &str| {
        let request = caller.client.post(format!("{}{path}", caller.server.web)).bearer_auth(&caller.token).header("If-Match", etag);
        request.json(&everybody).send().await.unwrap().status().as_u16()
    };
    let (old, assignments) = (made["@odata.etag"].as_str().unwrap(), format!("{path}/assignments"));
    let renamed = json!({ "@odata.type": made["@odata.type"], "displayName": "Two" });
    assert_eq!(caller.send(Method::PATCH, &path, Some(renamed)).await.status(), 200);
    assert_eq!(assign(old, &format!("{path}/assign")).await, 412);
    assert_eq!(caller.get(&assignments).await["value"], json!([]));
    let new = caller.get(&path).await["@odata.etag"].as_str().unwrap().to_owned();
    for etag in [new.as_str(), "*"] {
        assert_eq!(assign(etag, &format!("{path}/assign")).await, 200, "{etag}");
    }
    assert_eq!(caller.get(&assignments).await["value"].as_array().unwrap().len(), 1);
    // What is made in a set has no version before.
    let answer = caller.client.post(format!("{}/v1.0/users", caller.server.web)).bearer_auth(&caller.token).header("If-Match", old);
    let body = json!({ "displayName": "Ana", "userPrincipalName": "ana@x.example", "accountEnabled": true });
    assert_eq!(answer.json(&body).send().await.unwrap().status(), 201);
}

#[actix_web::test]
async fn whoever_calls_too_often_waits_and_what_is_urgent_gets_through() {
    let server = Server::tweaked(|config| {
        config.limits.api_per_second = 1;
        config.limits.api_burst = 3;
    })
    .await;
    let everything: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).collect();
    let (application, secret) = register(&server, &everything).await;
    let (other, others) = register(&server, &everything).await;
    let (third, thirds) = register(&server, &everything).await;
    let (first, second) = (token(&server, &application, &secret).await, token(&server, &other, &others).await);
    let third = token(&server, &third, &thirds).await;
    let caller = Caller::of(server, first);
    let mut waits = Vec::new();
    for _ in 0..40 {
        let answer = caller.send(Method::GET, "/v1.0/users", None).await;
        if answer.status().as_u16() == 429 {
            waits.push(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap());
            assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["error"]["code"], "TooManyRequests");
        }
    }
    assert!(!waits.is_empty() && waits.iter().all(|seconds| (1..=4).contains(seconds)), "{waits:?}");
    // Each call of a batch counts.
    let requests: Vec<_> = (0..20).map(|id| json!({ "id": id.to_string(), "method": "GET", "url": "/users" })).collect();
    let url = format!("{}/v1.0/$batch", caller.server.web);
    let batch = caller.client.post(url).bearer_auth(&third).json(&json!({ "requests": requests })).send().await.unwrap();
    let batch: serde_json::Value = batch.json().await.unwrap();
    let throttled: Vec<_> = batch["responses"].as_array().unwrap().iter().filter(|one| one["status"] == 429).collect();
    assert!(throttled.len() >= 16 && throttled.iter().all(|one| one["headers"]["retry-after"].is_string()), "{batch}");
    // What takes rights away waits behind no reading, and nobody waits for somebody else.
    let of = |set: &str, order: &str| format!("{set}/01900000-0000-7000-8000-000000000000/{order}");
    let (devices, authorities) = ("/v1.0/deviceManagement/managedDevices", "/beta/deviceManagement/cloudCertificationAuthority");
    let mut written = 0;
    for _ in 0..6 {
        written = caller.send(Method::POST, "/v1.0/groups", Some(json!({}))).await.status().as_u16();
    }
    assert_eq!(written, 429, "nor behind other changes");
    for urgent in [of(devices, "wipe"), of(authorities, "revokeLeafCertificate"), of(authorities, "revokeLeafCertificateBySerialNumber")] {
        let gone = json!({ "leafCertificateId": "x", "certificateSerialNumber": "00" });
        assert_eq!(caller.send(Method::POST, &urgent, Some(gone)).await.status().as_u16(), 404, "{urgent}");
    }
    let neighbour = Caller { token: second, client: caller.client.clone(), server: caller.server };
    assert_eq!(neighbour.send(Method::GET, "/v1.0/users", None).await.status().as_u16(), 200);
}
