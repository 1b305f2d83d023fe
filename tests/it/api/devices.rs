//! Readiness of devices.

use muster::domain::access::{Reach, Scope};
use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::service::directory;
use muster::store::{devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::refused;
use crate::desired::{device, enrollment};
use crate::graph::access::{delegated, give_within};
use crate::graph::{Caller, by, user};
use crate::support::server::Server;

/// The method of that name.
fn method<'a>(readiness: &'a Value, name: &str) -> &'a Value {
    readiness["methods"].as_array().unwrap().iter().find(|one| one["method"] == name).unwrap()
}

#[actix_web::test]
async fn readiness_names_what_is_missing_and_follows_what_changes() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let now = app.now();
    let mut pc = device("PC-A", Platform::Windows, Some(&ana.id));
    pc.os_version = Some("10.0.22631.1".into());
    let (row, enrolled) = (pc.clone(), enrollment(&pc, now));
    let managed = enrolled.id.clone();
    app.store
        .write(move |tx| {
            devices::insert_device(tx, &row, now)?;
            enrollments::insert_enrollment(tx, &enrolled)
        })
        .await
        .unwrap();
    let path = format!("/api/devices/{}/readiness", pc.id);
    let before = caller.get(&path).await;
    assert_eq!(caller.get(&format!("/api/devices/{managed}/readiness")).await, before, "by the id of the managed device, too");
    assert_eq!((&before["name"], &before["platform"]), (&json!("PC-A"), &json!("windows")));
    assert_eq!(method(&before, "windows-hello")["missing"], json!(["not-configured"]));
    assert_eq!(method(&before, "platform-sso")["standing"], "not-applicable");
    assert_eq!(method(&before, "temporary-access-pass")["missing"], json!(["no-pass"]));
    assert_eq!((&method(&before, "passkey")["standing"], &before["passwordless"]), (&json!("ready"), &json!(true)));

    let hello = json!({
        "@odata.type": "#microsoft.graph.windowsIdentityProtectionConfiguration", "displayName": "Hello",
        "windowsHelloForBusinessBlocked": false,
    });
    let made = caller.post("/beta/deviceManagement/deviceConfigurations", hello).await;
    let assign = format!("/beta/deviceManagement/deviceConfigurations/{}/assign", made["id"].as_str().unwrap());
    let everywhere = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }] });
    caller.post(&assign, everywhere).await;
    caller.post("/v1.0/users/ana@x.example/authentication/temporaryAccessPassMethods", json!({})).await;
    let after = caller.get(&path).await;
    let hello = method(&after, "windows-hello");
    assert_eq!((&hello["missing"], &hello["profiles"]), (&json!(["not-in-place"]), &json!(["Hello"])));
    assert_eq!(method(&after, "temporary-access-pass")["standing"], "ready");
    directory::enable_user(app, &ana.id, false, &by()).await.unwrap();
    let disabled = caller.get(&path).await;
    assert_eq!((&method(&disabled, "passkey")["missing"], &disabled["passwordless"]), (&json!(["user-disabled"]), &json!(false)));
    for id in ["x", "01900000-0000-7000-8000-000000000000"] {
        let path = format!("/api/devices/{id}/readiness");
        assert_eq!(refused(&caller, Method::GET, &path, None).await, (404, "not-found".to_owned()), "{id}");
    }
}

#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_only_their_devices() {
    let server = Server::start().await;
    let app = &server.app;
    let (helper, ana) = (user(&server, "helper@x.example", "Helper").await, user(&server, "ana@x.example", "Ana").await);
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    let (now, near, far) = (app.now(), device("PC-A", Platform::Windows, Some(&ana.id)), device("PC-B", Platform::Windows, None));
    let rows = [(near.clone(), enrollment(&near, now)), (far.clone(), enrollment(&far, now))];
    app.store
        .write(move |tx| {
            for (device, enrollment) in &rows {
                devices::insert_device(tx, device, now)?;
                enrollments::insert_enrollment(tx, enrollment)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    give_within(&server, "helpdesk", &helper.id, Reach::Groups([sales].into())).await;
    let token = delegated(&server, "helper@x.example", Scope::ALL).await;
    let helper = Caller::of(server, token);
    for what in ["readiness", "explanation"] {
        assert_eq!(helper.send(Method::GET, &format!("/api/devices/{}/{what}", near.id), None).await.status(), 200);
        let path = format!("/api/devices/{}/{what}", far.id);
        assert_eq!(refused(&helper, Method::GET, &path, None).await, (404, "not-found".to_owned()));
    }
    assert_eq!(helper.send(Method::GET, &format!("/api/signals/subjects/{}", near.id), None).await.status(), 200);
    let path = format!("/api/signals/subjects/{}", far.id);
    assert_eq!(refused(&helper, Method::GET, &path, None).await, (404, "not-found".to_owned()));
}
