//! Query options: what is asked is done, at small sets as at large ones, or refused by name.

use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::service::directory;
use muster::store::{devices, enrollments};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, by, names, user};
use crate::desired::{device, enrollment};

/// The text of a refusal, which has to be 400 in Graph's form.
async fn why(caller: &Caller, path: &str) -> String {
    let answer = caller.send(Method::GET, path, None).await;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(status, 400, "{path}: {body}");
    assert_eq!(body["error"]["code"], "BadRequest", "{path}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// A PC of a person, as it is stored.
async fn pc_of(caller: &Caller, upn: &str) -> (String, String) {
    let owner = user(&caller.server, upn, "Ana").await;
    let now = caller.server.app.now();
    let pc = device("PC-1", Platform::Windows, Some(&owner.id));
    let enrolled = enrollment(&pc, now);
    let ids = (pc.id.to_string(), enrolled.id.to_string());
    let put = caller.server.app.store.write(move |tx| {
        devices::insert_device(tx, &pc, now)?;
        enrollments::insert_enrollment(tx, &enrolled)
    });
    put.await.unwrap();
    ids
}

const POLICIES: &str = "/v1.0/deviceManagement/deviceCompliancePolicies";

async fn policy(caller: &Caller, name: &str) -> String {
    let body = json!({
        "@odata.type": "#microsoft.graph.windows10CompliancePolicy", "displayName": name, "bitLockerEnabled": true,
        "scheduledActionsForRule": [{ "ruleName": "r", "scheduledActionConfigurations": [{ "actionType": "block" }] }],
    });
    caller.post(POLICIES, body).await["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn small_sets_are_filtered_ordered_counted_and_paged() {
    let caller = Caller::everything().await;
    let roles = "/v1.0/deviceManagement/roleDefinitions";
    assert!(names(&caller.get(&format!("{roles}?$filter=displayName eq 'nope'")).await, "id").is_empty());
    assert!(!names(&caller.get(&format!("{roles}?$filter=isBuiltIn eq true and contains(displayName,'e')")).await, "id").is_empty());
    let mut all = names(&caller.get(&format!("{roles}?$orderby=displayName")).await, "displayName");
    assert!(all.len() > 3 && all.is_sorted_by_key(|name| name.to_lowercase()), "{all:?}");
    all.reverse();
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("{roles}?$top=2&$orderby=displayName desc&$count=true&$select=displayName"));
    while let Some(path) = next {
        let page = caller.get(&path).await;
        assert_eq!(page["@odata.count"], all.len());
        assert!(page["value"][0].get("isBuiltIn").is_none() && page["value"][0]["id"].is_string(), "{page}");
        found.extend(names(&page, "displayName"));
        next = page["@odata.nextLink"].as_str().map(|link| link.strip_prefix(&caller.server.web).unwrap().to_owned());
        pages += 1;
    }
    assert_eq!((found, pages), (all.clone(), all.len().div_ceil(2)));
    let none = caller.get(&format!("{roles}?$top=0&$count=true")).await;
    assert_eq!((&none["value"], &none["@odata.count"], none.get("@odata.nextLink")), (&json!([]), &json!(all.len()), None));
}

#[actix_web::test]
async fn every_small_set_does_what_is_asked_or_refuses_it_by_name() {
    let caller = Caller::everything().await;
    let (device, managed) = pc_of(&caller, "ana@x.example").await;
    let id = policy(&caller, "Disks").await;
    let target = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }] });
    caller.post(&format!("{POLICIES}/{id}/assign"), target).await;
    let sets = [
        "deviceManagement/roleDefinitions".to_owned(),
        "deviceManagement/roleAssignments".into(),
        "deviceManagement/deviceEnrollmentConfigurations".into(),
        "organization".into(),
        "domains".into(),
        "subscribedSkus".into(),
        "subscriptions".into(),
        "policies/authenticationMethodsPolicy/authenticationMethodConfigurations".into(),
        "users/ana@x.example/authentication/methods".into(),
        "users/ana@x.example/authentication/fido2Methods".into(),
        "users/ana@x.example/authentication/temporaryAccessPassMethods".into(),
        "users/ana@x.example/memberOf".into(),
        format!("devices/{device}/memberOf"),
        format!("deviceManagement/managedDevices/{managed}/deviceCompliancePolicyStates"),
        format!("deviceManagement/managedDevices/{managed}/deviceConfigurationStates"),
        format!("deviceManagement/deviceCompliancePolicies/{id}/assignments"),
        format!("deviceManagement/deviceCompliancePolicies/{id}/scheduledActionsForRule"),
    ];
    for set in sets {
        for (option, named) in [
            ("$filter=nonsense eq 1", "nonsense"),
            ("$filter=id eq 'x' or not (nonsense/x eq 'y')", "nonsense"),
            ("$orderby=nonsense", "nonsense"),
            ("$select=nonsense", "nonsense"),
            ("$expand=nonsense", "nonsense"),
            ("$search=x", "$search"),
            ("$skiptoken=x", "$skiptoken"),
            ("$deltatoken=x", "$deltatoken"),
            ("$top=x", "$top"),
            ("$nonsense=1", "nonsense"),
        ] {
            let text = why(&caller, &format!("/v1.0/{set}?{option}")).await;
            assert!(text.contains(named), "{set}?{option}: {text}");
        }
        let whole = caller.get(&format!("/v1.0/{set}?$count=true&$orderby=id desc")).await;
        let mut ids = names(&whole, "id");
        assert_eq!(whole["@odata.count"], ids.len(), "{set}");
        ids.reverse();
        assert!(ids.is_sorted_by_key(|id| id.to_lowercase()), "{set}: {ids:?}");
        assert!(names(&caller.get(&format!("/v1.0/{set}?$filter=id eq 'nope'")).await, "id").is_empty(), "{set}");
    }
    for single in [
        "users/ana@x.example".to_owned(),
        format!("devices/{device}"),
        format!("deviceManagement/managedDevices/{managed}"),
        format!("deviceManagement/deviceCompliancePolicies/{id}"),
        "policies/authenticationMethodsPolicy/authenticationMethodConfigurations/Fido2".into(),
    ] {
        for option in ["$filter=id eq 'x'", "$top=1", "$orderby=id", "$skip=1", "$search=x", "$count=true", "$expand=nonsense"] {
            let text = why(&caller, &format!("/v1.0/{single}?{option}")).await;
            assert!(text.contains(option.split('=').next().unwrap()) || text.contains("nonsense"), "{single}?{option}: {text}");
        }
    }
}

#[actix_web::test]
async fn what_hangs_on_objects_is_expanded_or_refused_by_name() {
    let caller = Caller::everything().await;
    let (device, managed) = pc_of(&caller, "ana@x.example").await;
    let app = &caller.server.app;
    let mut many = Vec::new();
    for number in 0..25 {
        many.push(Member::User(user(&caller.server, &format!("u{number}@x.example"), "U").await.id));
    }
    let (big, small) =
        (directory::create_group(app, "Big", "", &by()).await.unwrap(), directory::create_group(app, "Small", "", &by()).await.unwrap());
    directory::add_members(app, &big.id, many.clone(), &by()).await.unwrap();
    let pc = directory::find_member(app, &device).await.unwrap();
    directory::add_members(app, &small.id, vec![many[0].clone(), pc], &by()).await.unwrap();
    directory::create_group(app, "Empty", "", &by()).await.unwrap();
    let groups = caller.get("/v1.0/groups?$orderby=displayName&$select=displayName&$expand=members($select=id,displayName)").await;
    let members: Vec<usize> = groups["value"].as_array().unwrap().iter().map(|one| one["members"].as_array().unwrap().len()).collect();
    assert_eq!((names(&groups, "displayName"), members), (vec!["Big".into(), "Empty".into(), "Small".into()], vec![20, 0, 2]));
    let own = &groups["value"][2]["members"];
    let kinds: Vec<&Value> = own.as_array().unwrap().iter().map(|one| &one["@odata.type"]).collect();
    assert_eq!(kinds, ["#microsoft.graph.device", "#microsoft.graph.user"]);
    assert_eq!((&own[0]["displayName"], own[1].get("userPrincipalName")), (&json!("PC-1"), None));
    let one = caller.get(&format!("/v1.0/groups/{}?$expand=members", small.id)).await;
    assert_eq!((one["members"][1]["userPrincipalName"].clone(), &one["displayName"]), (json!("u0@x.example"), &json!("Small")));

    for path in ["/v1.0/devices?$expand=registeredOwners".to_owned(), "/v1.0/devices?$expand=registeredUsers($select=mail)".into()] {
        let found = caller.get(&path).await;
        let property = if path.contains("Owners") { "registeredOwners" } else { "registeredUsers" };
        assert_eq!(found["value"][0][property].as_array().map(Vec::len), Some(1), "{path}: {found}");
    }
    let one = caller.get(&format!("/v1.0/devices/{device}?$expand=registeredOwners&$select=displayName")).await;
    assert_eq!(one["registeredOwners"][0]["userPrincipalName"], "ana@x.example");

    let id = policy(&caller, "Disks").await;
    let target = json!({ "assignments": [{ "target": { "@odata.type": "#microsoft.graph.allDevicesAssignmentTarget" } }] });
    caller.post(&format!("{POLICIES}/{id}/assign"), target).await;
    let path = format!("{POLICIES}?$expand=assignments($select=id),scheduledActionsForRule($expand=scheduledActionConfigurations)");
    let all = caller.get(&path).await;
    let found = &all["value"][0];
    assert!(found["assignments"][0]["id"].is_string() && found["assignments"][0].get("target").is_none(), "{found}");
    assert_eq!(found["scheduledActionsForRule"][0]["scheduledActionConfigurations"][0]["actionType"], "block");
    let path = format!("/v1.0/deviceManagement/managedDevices/{managed}");
    let whole = caller.get(&format!("{path}?$expand=deviceCompliancePolicyStates,deviceConfigurationStates&$select=deviceName")).await;
    assert!(whole["deviceCompliancePolicyStates"].is_array() && whole["deviceConfigurationStates"].is_array(), "{whole}");
    assert_eq!((&whole["deviceName"], whole.get("serialNumber")), (&json!("PC-1"), None));

    for (path, named) in [
        ("users?$expand=nonsense", "nonsense"),
        ("users?$expand=manager", "manager"),
        ("users/$count?$expand=manager", "manager"),
        ("groups?$expand=owners", "owners"),
        ("groups?$expand=members($select=nonsense)", "nonsense"),
        ("groups?$expand=members($top=3)", "$top"),
        ("groups?$expand=members($expand=manager)", "manager"),
        ("devices?$expand=memberOf", "memberOf"),
        ("deviceManagement/managedDevices?$expand=deviceCompliancePolicyStates", "deviceCompliancePolicyStates"),
        ("deviceManagement/deviceConfigurations?$expand=nonsense", "nonsense"),
        ("deviceManagement/deviceCompliancePolicies?$expand=assignments($select=nonsense)", "nonsense"),
        ("deviceManagement/deviceCompliancePolicies?$expand=assignments($filter=id eq 'x')", "$filter"),
        ("deviceManagement/deviceCompliancePolicies?$expand=scheduledActionsForRule($expand=nonsense)", "nonsense"),
        ("users?$deltatoken=x", "$deltatoken"),
    ] {
        let text = why(&caller, &format!("/v1.0/{path}")).await;
        assert!(text.contains(named), "{path}: {text}");
    }
}

#[actix_web::test]
async fn the_roots_and_addresses_with_too_many_slashes_answer_as_graph_does() {
    let caller = Caller::everything().await;
    for path in ["/v1.0", "/v1.0/", "/beta", "/BETA", "/beta//", "//v1.0//users", "//v1.0", "///beta/users"] {
        assert!(why(&caller, path).await.contains("segment"), "{path}");
        let answer = caller.client.get(format!("{}{path}", caller.server.web)).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "InvalidAuthenticationToken", "{path}");
    }
    let other = caller.send(Method::GET, "/v1.0x", None).await;
    assert_eq!((other.status().as_u16(), other.headers()["content-type"].to_str().unwrap()), (404, "application/problem+json"));
}
