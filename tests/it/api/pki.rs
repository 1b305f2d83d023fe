//! Authorities, certificates and requests that wait.

use muster::domain::access::{Action, Principal, Reach, Scope};
use muster::domain::certificate::{Grant, Purpose};
use muster::domain::user::User;
use muster::service::{directory, role};
use muster::wire::pkcs10::Wish;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Req};
use reqwest::Method;
use serde_json::{Value, json};

use super::refused;
use crate::desired;
use crate::graph::access::{assignment, delegated, give};
use crate::graph::{Caller, by, user};
use crate::scep::{Answer, Device, mint, start};
use crate::support::server::{Options, Server};

fn request() -> String {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut builder = X509Req::builder().unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

#[actix_web::test]
async fn authorities_are_made_paused_and_revoked() {
    let caller = Caller::everything().await;
    let all = caller.get("/api/authorities").await;
    let names: Vec<&str> = all["value"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"root") && names.contains(&"issuing"), "{all}");
    let body = json!({ "name": "printers", "common_name": "Printers", "parent": "root", "key": "p-256", "days": 400 });
    let answer = caller.send(Method::POST, "/api/authorities", Some(body.clone())).await;
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = answer.json().await.unwrap();
    assert_eq!((&made["status"], &made["kind"], &made["key"]), (&json!("active"), &json!("issuing"), &json!("p-256")));
    assert_eq!(caller.get(location.strip_prefix(&caller.server.web).unwrap()).await, made);
    for (change, status, code) in [
        (json!({}), 422, "CRT0048"),
        (json!({ "name": "Printers" }), 422, "CRT0024"),
        (json!({ "name": "other", "parent": "issuing" }), 422, "CRT0011"),
        (json!({ "name": "other", "parent": "nobody" }), 404, "not-found"),
        (json!({ "name": "other", "key": "rsa-1024" }), 400, "malformed"),
        (json!({ "name": "other", "days": 0 }), 400, "malformed"),
        (json!({ "name": "other", "more": 1 }), 400, "malformed"),
    ] {
        let mut wrong = body.clone();
        wrong.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(refused(&caller, Method::POST, "/api/authorities", Some(wrong)).await, (status, code.to_owned()), "{change}");
    }
    assert_eq!(caller.post("/api/authorities/printers/pause", json!({})).await["status"], "paused");
    let issue = json!({ "csr": request(), "authority": "printers", "subject": "CN=printer" });
    assert_eq!(refused(&caller, Method::POST, "/api/certificates", Some(issue)).await, (422, "CRT0011".to_owned()));
    assert_eq!(caller.post("/api/authorities/printers/activate", json!({})).await["status"], "active");
    let before = caller.get("/api/authorities/printers/crl").await["number"].as_i64();
    let list = caller.post("/api/authorities/printers/crl", json!({})).await;
    assert!(list["number"].as_i64() > before && list["url"].as_str().unwrap().ends_with(".crl"), "{list}");
    let audited = caller.get("/v1.0/deviceManagement/auditEvents?$filter=activity%20eq%20'crl.publish'").await;
    let kinds = audited["value"].as_array().unwrap().iter().map(|row| &row["actor"]["auditActorType"]);
    assert_eq!(kinds.filter(|kind| **kind == "Application").count(), 1, "who asked for it, not the system: {audited}");

    let path = "/api/authorities/printers/revoke";
    let told = refused(&caller, Method::POST, path, Some(json!({ "confirmed": false }))).await;
    assert_eq!(told, (422, "CRT0053".to_owned()));
    let held = json!({ "confirmed": true, "reason": "certificate-hold" });
    assert_eq!(refused(&caller, Method::POST, path, Some(held)).await, (422, "CRT0042".to_owned()));
    let root = refused(&caller, Method::POST, "/api/authorities/root/revoke", Some(json!({ "confirmed": true }))).await;
    assert_eq!(root, (422, "CRT0051".to_owned()));
    assert_eq!(caller.post(path, json!({ "confirmed": true })).await, json!({ "name": "printers", "fallen": 0 }));
    assert_eq!(refused(&caller, Method::POST, path, Some(json!({ "confirmed": true }))).await, (422, "CRT0019".to_owned()));
    let woken = refused(&caller, Method::POST, "/api/authorities/printers/activate", None).await;
    assert_eq!(woken, (422, "CRT0011".to_owned()));
    let events = caller.get("/v1.0/deviceManagement/auditEvents?$filter=activity%20eq%20'authority.revoke'").await;
    assert_eq!(events["value"][0]["actor"]["auditActorType"], "Application");
}

#[actix_web::test]
async fn a_certificate_is_issued_found_held_released_and_revoked() {
    let caller = Caller::everything().await;
    user(&caller.server, "ana@x.example", "Ana").await;
    let body = json!({
        "csr": request(), "subject": "CN={{UserPrincipalName}}", "upn": ["{{UserPrincipalName}}"], "user": "ana@x.example", "days": 30,
    });
    let made = caller.post("/api/certificates", body.clone()).await;
    let certificate = &made["certificate"];
    assert_eq!((&certificate["subject"], &certificate["user"]), (&json!("CN=ana@x.example"), &json!("ana@x.example")));
    assert_eq!((&certificate["status"], &certificate["purpose"]), (&json!("active"), &json!("manual")));
    X509::from_pem(made["pem"].as_str().unwrap().as_bytes()).unwrap();
    let id = certificate["id"].as_str().unwrap();
    let path = format!("/api/certificates/{id}");
    assert_eq!(caller.get(&path).await, made);
    for (change, status, code) in [
        (json!({ "csr": "x" }), 422, "CRT0047"),
        (json!({ "user": null }), 422, "CRT0021"),
        (json!({ "subject": "CN={{ShoeSize}}" }), 422, "CRT0023"),
        (json!({ "eku": ["abc"] }), 422, "CRT0046"),
        (json!({ "sid": true }), 422, "CRT0045"),
        (json!({ "authority": "root" }), 422, "CRT0044"),
        (json!({ "user": "nobody@x.example" }), 404, "not-found"),
        (json!({ "device": "x" }), 404, "not-found"),
        (json!({ "days": 4 }), 400, "malformed"),
    ] {
        let mut wrong = body.clone();
        wrong.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (told, said) = refused(&caller, Method::POST, "/api/certificates", Some(wrong)).await;
        assert_eq!(told, status, "{change}: {said}");
        assert!(said == code || code == "CRT0021" && said.starts_with("CRT002"), "{change}: {said}");
    }
    let second = caller.post("/api/certificates", json!({ "csr": request(), "subject": "CN=printer", "days": 30 })).await;
    let page = caller.get("/api/certificates?limit=1").await;
    assert_eq!(page["value"][0]["id"], second["certificate"]["id"], "the newest first");
    let next = page["next"].as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    assert!(next.contains("before="), "{next}");
    assert_eq!(caller.get(&next).await["value"][0]["id"], id);
    let found = async |query: &str| caller.get(&format!("/api/certificates?{query}")).await["value"].as_array().unwrap().len();
    assert_eq!(found("user=ana@x.example").await, 1);
    assert_eq!(found(&format!("serial={}", certificate["serial"].as_str().unwrap())).await, 1);
    assert_eq!((found("subject=CN%3Dprin").await, found("status=revoked").await), (1, 0));
    assert_eq!(found(&format!("after={id}&status=active")).await, 1);
    for query in ["serial=x", "after=x", "status=lost"] {
        let told = refused(&caller, Method::GET, &format!("/api/certificates?{query}"), None).await;
        assert_eq!(told, (400, "malformed".to_owned()), "{query}");
    }

    let release = format!("{path}/release");
    assert_eq!(refused(&caller, Method::POST, &release, None).await, (422, "CRT0018".to_owned()));
    let revoke = format!("{path}/revoke");
    caller.post(&revoke, json!({ "reason": "certificate-hold" })).await;
    assert_eq!(caller.get(&path).await["certificate"]["status"], "held");
    assert_eq!(caller.send(Method::POST, &release, None).await.status(), 204);
    let revoked = caller.post(&revoke, json!({ "reason": "superseded" })).await;
    assert_eq!(revoked, json!({ "still_good": [], "device": null }));
    assert_eq!(caller.get(&path).await["certificate"]["reason"], "superseded");
    assert_eq!(refused(&caller, Method::POST, &revoke, Some(json!({}))).await, (422, "CRT0019".to_owned()));
    let authority = caller.get("/api/certificates?subject=CN&limit=1000").await;
    let own = authority["value"].as_array().unwrap().iter().find(|one| one["purpose"] == "authority");
    if let Some(own) = own {
        let path = format!("/api/certificates/{}/revoke", own["id"].as_str().unwrap());
        assert_eq!(refused(&caller, Method::POST, &path, Some(json!({}))).await, (422, "CRT0053".to_owned()));
    }
}

#[actix_web::test]
async fn who_decides_on_a_request_sees_it_whole() {
    let caller = Caller::on(start(Options::default()).await).await;
    let app = &caller.server.app;
    let mut waiting = Vec::new();
    for name in ["printer 1", "printer 2"] {
        let device = Device::new(app);
        let challenge = mint(app, Grant::client(Purpose::Manual, name, 30), true).await;
        let wish = Wish { challenge: Some(challenge), ..Wish::common_name(name) };
        assert_eq!(device.send(app, &device.csr_of(&wish)).await, Err(Answer::Pending));
        waiting.push(device.transaction);
        // Which one is older is told by the clock, which stands still.
        caller.server.clock.advance(1000);
    }
    let all = caller.get("/api/scep/requests").await;
    let first = &all["value"][0];
    assert_eq!((&first["subject"], &first["challenged_by"]), (&json!("CN=printer 1"), &json!("test")));
    assert_eq!((&first["transaction"], &first["renews"]), (&json!(waiting[0]), &json!(false)));
    assert_eq!(caller.get("/api/scep/requests?limit=1").await["value"].as_array().unwrap().len(), 1);
    let path = |number: usize, what: &str| {
        let authority = first["authority"].as_str().unwrap();
        format!("/api/scep/requests/{authority}/{}/{what}", waiting[number])
    };
    let granted = caller.post(&path(0, "approve"), json!({})).await;
    let certificate = format!("/api/certificates/{}", granted["certificate"].as_str().unwrap());
    assert_eq!(caller.get(&certificate).await["certificate"]["subject"], "CN=printer 1");
    assert_eq!(caller.send(Method::POST, &path(1, "refuse"), None).await.status(), 204);
    for what in ["approve", "refuse"] {
        assert_eq!(refused(&caller, Method::POST, &path(0, what), None).await, (422, "SCP0001".to_owned()), "{what}");
        let unknown = format!("/api/scep/requests/issuing/none/{what}");
        assert_eq!(refused(&caller, Method::POST, &unknown, None).await, (404, "not-found".to_owned()));
    }
    assert!(caller.get("/api/scep/requests").await["value"].as_array().unwrap().is_empty());
}

/// Somebody who may issue certificates and little else, and somebody who may do everything.
async fn clerk_and_administrator(server: Server) -> (Caller, Caller) {
    let app = &server.app;
    let ana = User {
        mail: Some("Ana.Ant@x.example".into()),
        sam_account_name: Some("aant".into()),
        security_identifier: Some("S-1-5-21-1-2-3-1001".into()),
        ..desired::user("ana@x.example")
    };
    let ana = directory::create_user(app, ana, &by()).await.unwrap();
    give(&server, "administrator", &ana.id).await;
    let clerk = user(&server, "clerk@x.example", "Clerk").await;
    user(&server, "bob@x.example", "Bob").await;
    let actions = [Action::AuthoritiesRead, Action::AuthoritiesUpdate, Action::DirectoryRead].into();
    let made = role::create(app, "Certificates", "", actions, None, &by()).await.unwrap();
    let given = muster::domain::access::Assignment { role: made.id, ..assignment("read-only", Principal::User(clerk.id), Reach::All) };
    role::assign(app, given, None, &by()).await.unwrap();
    let tokens = (delegated(&server, "clerk@x.example", Scope::ALL).await, delegated(&server, "ana@x.example", Scope::ALL).await);
    let ana = Caller { server: Server::start().await, token: tokens.1, client: server.client() };
    (Caller::of(server, tokens.0), ana)
}

#[actix_web::test]
async fn nobody_gets_a_certificate_in_the_name_of_somebody_who_may_do_more() {
    let (clerk, ana) = clerk_and_administrator(start(Options::default()).await).await;
    let issue = async |caller: &Caller, names: Value| {
        let mut body = json!({ "csr": request(), "subject": "CN=x", "days": 30 });
        body.as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
        let url = format!("{}/api/certificates", clerk.server.web);
        let answer = caller.client.post(url).bearer_auth(&caller.token).json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    for names in [
        json!({ "user": "ana@x.example" }),
        json!({ "upn": ["Ana@X.example"] }),
        json!({ "dns": ["x.example"], "email": ["b@x.example", "ana.ant@x.example"] }),
        json!({ "subject": "CN=ana@x.example,O=Example" }),
        json!({ "subject": "CN=x+UID=AAnt" }),
        json!({ "subject": "E=ana.ant@X.example" }),
        json!({ "uri": ["tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001"] }),
        json!({ "uri": ["mailto:ana@x.example"] }),
    ] {
        assert_eq!(issue(&clerk, names.clone()).await, (403, "ACC0013".to_owned()), "{names}");
        assert_eq!(issue(&ana, names.clone()).await, (201, String::new()), "{names}");
    }
    for names in [
        json!({ "user": "bob@x.example", "upn": ["{{UserPrincipalName}}"] }),
        json!({ "user": "clerk@x.example", "subject": "CN={{UserPrincipalName}}" }),
        json!({ "dns": ["printer.x.example"] }),
    ] {
        assert_eq!(issue(&clerk, names.clone()).await, (201, String::new()), "{names}");
    }
    let many: Vec<String> = (0..101).map(|number| format!("h{number}.x.example")).collect();
    assert_eq!(issue(&clerk, json!({ "dns": many })).await, (422, "CRT0020".to_owned()));
    assert_eq!(issue(&clerk, json!({ "dns": many[..60], "uri": many[..41] })).await, (422, "CRT0020".to_owned()));
    assert_eq!(issue(&clerk, json!({ "dns": many[1..] })).await, (201, String::new()));

    // And nobody agrees to such a request of a device.
    let app = &clerk.server.app;
    let device = Device::new(app);
    let challenge = mint(app, Grant::client(Purpose::Manual, "ana@x.example", 30), true).await;
    let wish = Wish { challenge: Some(challenge), ..Wish::common_name("ana@x.example") };
    assert_eq!(device.send(app, &device.csr_of(&wish)).await, Err(Answer::Pending));
    let waiting = clerk.get("/api/scep/requests").await;
    let path = format!("/api/scep/requests/{}/{}/approve", waiting["value"][0]["authority"].as_str().unwrap(), device.transaction);
    assert_eq!(refused(&clerk, Method::POST, &path, None).await, (403, "ACC0013".to_owned()));
    assert_eq!(clerk.get("/api/scep/requests").await, waiting);
    let agreed = ana.client.post(format!("{}{path}", clerk.server.web)).bearer_auth(&ana.token).send().await.unwrap();
    assert_eq!(agreed.status(), 200);
}

#[actix_web::test]
async fn who_revokes_waits_behind_nothing_that_they_wrote() {
    let server = Server::tweaked(|config| {
        config.limits.api_per_second = 1;
        config.limits.api_burst = 3;
    });
    let caller = Caller::on(server.await).await;
    let body = json!({ "csr": request(), "subject": "CN=printer", "days": 30 });
    let made = caller.post("/api/certificates", body.clone()).await;
    let mut throttled = false;
    for _ in 0..50 {
        throttled = caller.send(Method::POST, "/api/certificates", Some(json!({}))).await.status() == 429;
        if throttled {
            break;
        }
    }
    assert!(throttled);
    let path = format!("/api/certificates/{}/revoke", made["certificate"]["id"].as_str().unwrap());
    caller.post(&path, json!({ "reason": "key-compromise" })).await;
    caller.post("/api/authorities/issuing/revoke", json!({ "confirmed": true })).await;
}
