//! What belongs to whom: groups of people and devices, devices of people, and how devices stand with what they were given.

use muster::domain::access::Scope;
use muster::domain::compliance::{PolicyResult, State, Status, Verdict};
use muster::domain::desired::State as Progress;
use muster::domain::device::{Device, Platform};
use muster::domain::group::Member;
use muster::ids::{ProfileId, UserId};
use muster::service::directory;
use muster::store::{compliance, desired_items, devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give_within};
use super::{Caller, by, names, user};
use crate::desired::{device, enrollment};
use crate::support::server::Server;

/// PCs, as they are stored.
async fn pcs(caller: &Caller, of: &[(&str, Option<&UserId>)]) -> Vec<Device> {
    let now = caller.server.app.now();
    let all: Vec<Device> = of.iter().map(|(name, user)| device(name, Platform::Windows, *user)).collect();
    let put = all.clone();
    let put = caller.server.app.store.write(move |tx| {
        for one in &put {
            devices::insert_device(tx, one, now)?;
            enrollments::insert_enrollment(tx, &enrollment(one, now))?;
        }
        Ok(())
    });
    put.await.unwrap();
    all
}

fn texts(answer: &Value) -> Vec<&str> {
    answer["value"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect()
}

#[actix_web::test]
async fn groups_and_devices_are_told_of_people_and_of_oneself() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    let (ana, bob) = (user(&caller.server, "ana@x.example", "Ana").await, user(&caller.server, "bob@x.example", "Bob").await);
    let all = pcs(&caller, &[("PC-A", Some(&ana.id)), ("PC-B", Some(&bob.id)), ("PC-0", None)]).await;
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    let other = directory::create_group(app, "Others", "", &by()).await.unwrap().id;
    let members = vec![Member::User(ana.id.clone()), Member::User(bob.id.clone()), Member::Device(all[2].id.clone())];
    directory::add_members(app, &sales, members, &by()).await.unwrap();

    let path = format!("/v1.0/groups/{sales}");
    let count = caller.send(Method::GET, &format!("{path}/members/$count"), None).await;
    assert_eq!(count.text().await.unwrap(), "3");
    let people = caller.get(&format!("{path}/members/microsoft.graph.user?$select=userPrincipalName&$count=true")).await;
    assert_eq!(
        (names(&people, "userPrincipalName"), &people["@odata.count"]),
        (vec!["ana@x.example".into(), "bob@x.example".into()], &json!(2))
    );
    assert_eq!(names(&caller.get(&format!("{path}/transitiveMembers/microsoft.graph.device")).await, "displayName"), ["PC-0"]);
    let first = caller.get(&format!("{path}/members/microsoft.graph.user?$top=1")).await;
    let next = first["@odata.nextLink"].as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    assert_eq!(names(&caller.get(&next).await, "displayName"), ["Bob"]);
    assert_eq!(caller.get(&format!("{path}/owners")).await["value"], json!([]));
    assert_eq!(caller.refused(Method::GET, "/v1.0/groups/01900000-0000-7000-8000-000000000000/owners", None).await.0, 404);

    for (of, expected) in [
        ("users/ana@x.example".to_owned(), vec![sales.as_str()]),
        (format!("devices/{}", all[0].id), vec![sales.as_str()]),
        (format!("devices/{}", all[2].id), vec![sales.as_str()]),
        (format!("groups/{sales}"), vec![]),
    ] {
        for action in ["getMemberGroups", "getMemberObjects"] {
            let told = caller.post(&format!("/v1.0/{of}/{action}"), json!({ "securityEnabledOnly": true })).await;
            assert_eq!(texts(&told), expected, "{of}/{action}");
        }
        let asked = json!([sales, other]);
        let told = caller.post(&format!("/v1.0/{of}/checkMemberGroups"), json!({ "groupIds": asked })).await;
        assert_eq!(texts(&told), expected, "{of}");
        let told = caller.post(&format!("/v1.0/{of}/checkMemberObjects"), json!({ "ids": asked })).await;
        assert_eq!(texts(&told), expected, "{of}");
    }
    let ids = json!({ "groupIds": vec![sales.as_str(); 21] });
    assert_eq!(caller.refused(Method::POST, "/v1.0/users/ana@x.example/checkMemberGroups", Some(ids)).await.0, 400);
    assert_eq!(caller.refused(Method::POST, "/v1.0/users/ana@x.example/checkMemberGroups", Some(json!({}))).await.0, 400);
    let groups = caller.get("/v1.0/users/ana@x.example/memberOf/microsoft.graph.group?$filter=displayName eq 'Sales'").await;
    assert_eq!(names(&groups, "displayName"), ["Sales"]);

    for set in ["ownedDevices", "registeredDevices"] {
        let own = caller.get(&format!("/v1.0/users/ana@x.example/{set}?$count=true")).await;
        assert_eq!((names(&own, "displayName"), &own["@odata.count"]), (vec!["PC-A".into()], &json!(1)));
        assert_eq!(own["value"][0]["@odata.type"], "#microsoft.graph.device");
    }
    for (set, pc, expected) in
        [("registeredOwners", &all[0], vec!["Ana"]), ("registeredUsers", &all[1], vec!["Bob"]), ("registeredOwners", &all[2], vec![])]
    {
        assert_eq!(names(&caller.get(&format!("/v1.0/devices/{}/{set}", pc.id)).await, "displayName"), expected);
    }

    // The same of oneself, with no role: nobody else's.
    let scopes = [Scope::UserRead, Scope::ManagedDevicesReadAll];
    let token = delegated(&caller.server, "bob@x.example", &scopes).await;
    let bob = Caller { server: caller.server, token, client: caller.client };
    assert_eq!(names(&bob.get("/v1.0/me/managedDevices").await, "deviceName"), ["PC-B"]);
    assert_eq!(
        names(&bob.get("/v1.0/me/managedDevices?$filter=startswith(deviceName,'PC') or deviceName eq 'PC-A'").await, "deviceName"),
        ["PC-B"]
    );
    assert_eq!(names(&bob.get("/v1.0/me/ownedDevices").await, "displayName"), ["PC-B"]);
    assert_eq!(names(&bob.get("/v1.0/me/transitiveMemberOf/microsoft.graph.group").await, "displayName"), ["Sales"]);
    assert_eq!(texts(&bob.post("/v1.0/me/getMemberGroups", json!({})).await), [sales.as_str()]);
    assert_eq!(texts(&bob.post("/v1.0/me/checkMemberGroups", json!({ "groupIds": [other] })).await), [""; 0]);
    assert_eq!(bob.refused(Method::GET, "/v1.0/users/bob@x.example/ownedDevices", None).await.0, 403);
}

#[actix_web::test]
async fn a_pc_makes_new_recovery_passwords() {
    let caller = Caller::everything().await;
    let pc = pcs(&caller, &[("PC-A", None)]).await.remove(0);
    let path = format!("deviceManagement/managedDevices/{}", pc.id);
    assert_eq!(caller.send(Method::POST, &format!("/beta/{path}/rotateBitLockerKeys"), None).await.status(), 204);
    assert_eq!(caller.get(&format!("/v1.0/{path}")).await["deviceActionResults"][0]["actionName"], "rotateBitLockerKeys");
    assert_eq!(caller.refused(Method::POST, &format!("/v1.0/{path}/rotateBitLockerKeys"), None).await.0, 400, "only beta has it");
}

/// All that a path gives, page by page.
async fn pages(caller: &Caller, path: &str) -> (Vec<Value>, usize) {
    let (mut all, mut count, mut next) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(path) = next {
        let page = caller.get(&path).await;
        all.extend(page["value"].as_array().unwrap().clone());
        next = page["@odata.nextLink"].as_str().map(|link| link.strip_prefix(&caller.server.web).unwrap().to_owned());
        count += 1;
    }
    (all, count)
}

#[actix_web::test]
async fn devices_stand_with_a_policy_and_a_configuration_one_by_one_and_counted() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let owners = [("PC-0", Some(&ana.id)), ("PC-1", None), ("PC-2", None), ("PC-3", None), ("PC-4", None)];
    let all = pcs(&caller, &owners).await;
    let target = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }] });
    let mut paths = Vec::new();
    for (set, body) in [
        (
            "deviceCompliancePolicies",
            json!({
                "@odata.type": "#microsoft.graph.windows10CompliancePolicy", "displayName": "Disks", "bitLockerEnabled": true,
                "scheduledActionsForRule": [{ "ruleName": "r", "scheduledActionConfigurations": [{ "actionType": "block" }] }],
            }),
        ),
        (
            "deviceConfigurations",
            json!({ "@odata.type": "#microsoft.graph.windows10CustomConfiguration", "displayName": "Camera", "omaSettings": [{
                "@odata.type": "#microsoft.graph.omaSettingInteger", "displayName": "A", "value": 0,
                "omaUri": "./Device/Vendor/MSFT/Policy/Config/Camera/AllowCamera",
            }] }),
        ),
    ] {
        let made = caller.post(&format!("/v1.0/deviceManagement/{set}"), body).await;
        let id = made["id"].as_str().unwrap().to_owned();
        caller.post(&format!("/v1.0/deviceManagement/{set}/{id}/assign"), target.clone()).await;
        paths.push((format!("deviceManagement/{set}/{id}"), id));
    }
    let [(policy, policy_id), (configuration, configuration_id)] = <[_; 2]>::try_from(paths).unwrap();
    for (path, id) in [(&policy, &policy_id), (&configuration, &configuration_id)] {
        let (statuses, count) = pages(&caller, &format!("/v1.0/{path}/deviceStatuses?$top=2")).await;
        let mut found: Vec<&str> = statuses.iter().map(|one| one["deviceDisplayName"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!((found, count), (vec!["PC-0", "PC-1", "PC-2", "PC-3", "PC-4"], 3), "{path}");
        let own = statuses.iter().find(|one| one["deviceDisplayName"] == "PC-0").unwrap();
        assert_eq!(own["id"], format!("{}_{id}_{}", ana.id, all[0].id));
        assert_eq!((&own["userPrincipalName"], &own["status"]), (&json!("ana@x.example"), &json!("unknown")));
        assert_eq!(own["lastReportedDateTime"], "0001-01-01T00:00:00Z");
        let overview = caller.get(&format!("/v1.0/{path}/deviceStatusOverview")).await;
        assert_eq!((&overview["pendingCount"], &overview["successCount"], &overview["id"]), (&json!(5), &json!(0), &json!(id)));
        let found = caller.get(&format!("/v1.0/{path}/deviceStatuses?$filter=userPrincipalName eq 'ANA@x.example'&$count=true")).await;
        assert_eq!((names(&found, "deviceDisplayName"), &found["@odata.count"]), (vec!["PC-0".into()], &json!(1)));
        assert_eq!(caller.refused(Method::GET, &format!("/v1.0/{path}/deviceStatuses?$filter=id eq 'x'"), None).await.0, 400);
    }
    let at = caller.server.app.now();
    let (judged, of, to) = (policy_id.clone(), ProfileId::parse(&configuration_id).unwrap(), all.clone());
    let wrote = caller.server.app.store.write(move |tx| {
        for (pc, status) in to.iter().zip([Status::NonCompliant, Status::Compliant, Status::Conflict, Status::Error]) {
            let result = PolicyResult {
                policy: judged.clone(),
                version: 1,
                status,
                failing_since: None,
                grace_expires_at: None,
                settings: Vec::new(),
            };
            let state = State::Noncompliant;
            let verdict =
                Verdict { state, compliant: false, grace_expires_at: None, reevaluate_at: None, held: None, policies: vec![result] };
            compliance::claim_verdict(tx, &pc.id, &verdict, None, at)?;
        }
        for (pc, state) in to.iter().zip([Progress::Verified, Progress::Failed, Progress::Conflict]) {
            let mine = desired_items::list_items(tx.conn(), &pc.id)?.into_iter().map(|(item, ..)| item);
            let item = mine.into_iter().find(|item| item.profile_id == of).unwrap();
            desired_items::update_item(tx, &muster::domain::desired::Item { state, ..item }, at)?;
        }
        Ok(())
    });
    wrote.await.unwrap();
    let counts = async |path: String| {
        let shown = caller.get(&path).await;
        ["successCount", "failedCount", "errorCount", "conflictCount", "pendingCount"].map(|name| shown[name].as_i64())
    };
    assert_eq!(counts(format!("/beta/{policy}/deviceStatusOverview")).await, [Some(1), Some(1), Some(1), Some(1), Some(1)]);
    assert_eq!(counts(format!("/v1.0/{policy}/deviceStatusOverview")).await, [Some(1), Some(2), Some(1), None, Some(1)]);
    assert_eq!(counts(format!("/beta/{configuration}/deviceStatusOverview")).await, [Some(1), Some(0), Some(1), Some(1), Some(2)]);
    let failed = caller.get(&format!("/v1.0/{configuration}/deviceStatuses?$filter=status eq 'error'")).await;
    assert_eq!((names(&failed, "deviceDisplayName"), names(&failed, "status")), (vec!["PC-1".into()], vec!["error".into()]));
    assert_ne!(failed["value"][0]["lastReportedDateTime"], "0001-01-01T00:00:00Z");
    let judged = caller.get(&format!("/v1.0/{policy}/deviceStatuses?$filter=deviceDisplayName eq 'pc-0'")).await;
    assert_eq!(names(&judged, "status"), ["nonCompliant"]);
}

#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_the_statuses_of_their_devices() {
    let server = Server::start().await;
    let (helper, ana) = (user(&server, "helper@x.example", "Helper").await, user(&server, "ana@x.example", "Ana").await);
    let caller = Caller::on(server).await;
    pcs(&caller, &[("PC-A", Some(&ana.id)), ("PC-B", None)]).await;
    let app = &caller.server.app;
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    let body = json!({
        "@odata.type": "#microsoft.graph.windows10CompliancePolicy", "displayName": "Disks", "bitLockerEnabled": true,
        "scheduledActionsForRule": [{ "ruleName": "r", "scheduledActionConfigurations": [{ "actionType": "block" }] }],
    });
    let id = caller.post("/v1.0/deviceManagement/deviceCompliancePolicies", body).await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1.0/deviceManagement/deviceCompliancePolicies/{id}");
    let target = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }] });
    caller.post(&format!("{path}/assign"), target).await;
    let reach = muster::domain::access::Reach::Groups([sales].into());
    give_within(&caller.server, "read-only", &helper.id, reach).await;
    let token = delegated(&caller.server, "helper@x.example", &[Scope::ConfigurationReadAll]).await;
    let helper = Caller { server: caller.server, token, client: caller.client };
    assert_eq!(names(&helper.get(&format!("{path}/deviceStatuses")).await, "deviceDisplayName"), ["PC-A"]);
    assert_eq!(helper.refused(Method::GET, &format!("{path}/deviceStatusOverview"), None).await.0, 403);
}
