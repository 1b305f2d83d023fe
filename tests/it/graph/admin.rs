//! Passes, roles and the audit log over the API.

use muster::domain::access::{Action, Assignment, Principal, Reach, Scope};
use muster::domain::group::Member;
use muster::ids::RoleAssignmentId;
use muster::service::{directory, role};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, give};
use super::{Caller, by, names, register, token, user};
use crate::support::server::Server;

const DENIED: &str = "Authorization_RequestDenied";

#[actix_web::test]
async fn a_pass_is_shown_once_and_the_next_one_replaces_it() {
    let caller = Caller::everything().await;
    user(&caller.server, "ana@x.example", "Ana").await;
    let path = "/v1.0/users/ana@x.example/authentication/temporaryAccessPassMethods";
    for minutes in [5, 43_201] {
        let refused = caller.refused(Method::POST, path, Some(json!({ "lifetimeInMinutes": minutes }))).await;
        assert_eq!(refused, (400, "Request_BadRequest".to_owned()), "{minutes}");
    }
    let past = caller.refused(Method::POST, path, Some(json!({ "startDateTime": "2020-01-01T00:00:00Z" }))).await;
    assert_eq!(past, (400, "ModelValidationFailure".to_owned()));
    let body = json!({ "@odata.type": "#microsoft.graph.temporaryAccessPassAuthenticationMethod", "lifetimeInMinutes": 60, "isUsableOnce": false });
    let first = caller.post(path, body).await;
    assert_eq!(first["temporaryAccessPass"].as_str().unwrap().len(), 14);
    assert_eq!((&first["lifetimeInMinutes"], &first["isUsableOnce"], &first["isUsable"]), (&json!(60), &json!(false), &json!(true)));
    let id = first["id"].as_str().unwrap();
    let shown = caller.get(&format!("{path}/{id}")).await;
    assert_eq!((&shown["temporaryAccessPass"], &shown["methodUsabilityReason"]), (&Value::Null, &json!("EnabledByPolicy")));
    let second = caller.post(path, json!({})).await;
    assert_eq!(caller.refused(Method::GET, &format!("{path}/{id}"), None).await.0, 404, "the first is void");
    let later = caller.server.app.now().plus(3_600_000);
    let planned = caller.post(path, json!({ "startDateTime": later.to_string() })).await;
    assert_eq!((&planned["isUsable"], &planned["methodUsabilityReason"]), (&json!(false), &json!("NotYetValid")));
    assert_ne!(planned["id"], second["id"]);
    let methods = caller.get("/v1.0/users/ana@x.example/authentication/methods").await;
    assert_eq!(methods["value"][0]["@odata.type"], "#microsoft.graph.temporaryAccessPassAuthenticationMethod");
    let path = format!("{path}/{}", planned["id"].as_str().unwrap());
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
    assert_eq!(caller.refused(Method::DELETE, &path, None).await.0, 404);
}

#[actix_web::test]
async fn helping_people_back_in_makes_nobody_an_administrator() {
    let server = Server::start().await;
    let helper = user(&server, "helper@x.example", "Helper").await;
    let boss = user(&server, "boss@x.example", "Boss").await;
    user(&server, "ana@x.example", "Ana").await;
    role::set_administrator(&server.app, &boss.id, true, &by()).await.unwrap();
    give(&server, "helpdesk", &helper.id).await;
    let token = delegated(&server, "helper@x.example", Scope::ALL).await;
    let caller = Caller::of(server, token);
    let path = |upn: &str| format!("/v1.0/users/{upn}/authentication/temporaryAccessPassMethods");
    assert!(caller.post(&path("ana@x.example"), json!({})).await["temporaryAccessPass"].is_string());
    for upn in ["boss@x.example", "helper@x.example"] {
        assert_eq!(caller.refused(Method::POST, &path(upn), Some(json!({}))).await, (403, DENIED.to_owned()), "{upn}");
    }
    let answer = caller.send(Method::POST, &path("boss@x.example"), Some(json!({}))).await;
    assert!(answer.text().await.unwrap().contains("ACC0013"));
    let answer = caller.send(Method::POST, &path("helper@x.example"), Some(json!({}))).await;
    assert!(answer.text().await.unwrap().contains("AUT0009"));
}

#[actix_web::test]
async fn roles_are_kept_over_the_api() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let roles = caller.get("/v1.0/deviceManagement/roleDefinitions").await;
    assert_eq!(roles["value"].as_array().unwrap().len(), 5);
    let reader = roles["value"].as_array().unwrap().iter().find(|role| role["displayName"] == "Read Only Operator").unwrap();
    let actions = &reader["rolePermissions"][0]["resourceActions"][0]["allowedResourceActions"];
    assert!(actions.as_array().unwrap().contains(&json!("Microsoft.Intune_ManagedDevices_Read")));
    let body = |actions: Value| json!({ "displayName": "Wipers", "description": "", "rolePermissions": [{ "resourceActions": [{ "allowedResourceActions": actions }] }] });
    let made = caller.post("/v1.0/deviceManagement/roleDefinitions", body(json!(["Microsoft.Intune_RemoteTasks_Wipe"]))).await;
    let path = format!("/v1.0/deviceManagement/roleDefinitions/{}", made["id"].as_str().unwrap());
    let refused = caller.refused(Method::POST, "/v1.0/deviceManagement/roleDefinitions", Some(body(json!(["Microsoft.Intune_Fly"])))).await;
    assert_eq!(refused, (400, "Request_BadRequest".to_owned()));
    let changed = caller.send(Method::PATCH, &path, Some(json!({ "displayName": "Erasers" }))).await;
    assert_eq!(changed.status(), 200);
    assert_eq!(caller.get(&path).await["displayName"], "Erasers");
    let built_in = format!("/v1.0/deviceManagement/roleDefinitions/{}", reader["id"].as_str().unwrap());
    assert_eq!(caller.refused(Method::PATCH, &built_in, Some(json!({ "displayName": "X" }))).await.0, 400);
    assert_eq!(caller.refused(Method::DELETE, &built_in, None).await.0, 400);

    let group = caller.post("/v1.0/groups", json!({ "displayName": "Sales" })).await;
    let bind = |id: &Value| format!("{}/beta/deviceManagement/roleDefinitions('{}')", caller.server.web, id.as_str().unwrap());
    let assignment = json!({
        "displayName": "Sales", "members": [ana.id], "resourceScopes": [group["id"]], "roleDefinition@odata.bind": bind(&made["id"]),
    });
    let given = caller.post("/v1.0/deviceManagement/roleAssignments", assignment).await;
    assert_eq!((&given["members"], &given["resourceScopes"]), (&json!([ana.id]), &json!([group["id"]])));
    assert_eq!(caller.get(&format!("{path}/roleAssignments")).await["value"].as_array().unwrap().len(), 1);
    for (change, name) in [
        (json!({ "displayName": "X", "members": [ana.id], "roleDefinition@odata.bind": bind(&made["id"]) }), "says not where"),
        (
            json!({ "displayName": "X", "members": ["nobody"], "scopeType": "allDevices", "roleDefinition@odata.bind": bind(&made["id"]) }),
            "nobody",
        ),
        (json!({ "displayName": "X", "members": [], "scopeType": "allDevices" }), "no role"),
    ] {
        assert_eq!(caller.refused(Method::POST, "/v1.0/deviceManagement/roleAssignments", Some(change)).await.0, 400, "{name}");
    }
    let own = format!("/v1.0/deviceManagement/roleAssignments/{}", given["id"].as_str().unwrap());
    let widened = caller.send(Method::PATCH, &own, Some(json!({ "scopeType": "allDevicesAndLicensedUsers" }))).await;
    let widened = widened.json::<Value>().await.unwrap();
    assert_eq!((&widened["resourceScopes"], widened.get("scopeType")), (&json!([]), None), "only beta has it");
    assert_eq!(caller.get(&own.replacen("/v1.0", "/beta", 1)).await["scopeType"], "allDevicesAndLicensedUsers");
    assert_eq!(caller.refused(Method::DELETE, &path, None).await.0, 400, "somebody has it");
    assert_eq!(caller.send(Method::DELETE, &own, None).await.status(), 204);
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
}

#[actix_web::test]
async fn the_audit_log_is_read_newest_first_and_says_who() {
    let caller = Caller::everything().await;
    for number in 0..7 {
        caller.post("/v1.0/groups", json!({ "displayName": format!("G{number}") })).await;
    }
    let events = caller.get("/v1.0/deviceManagement/auditEvents?$top=3&$count=true&$filter=activity%20eq%20'group.create'").await;
    assert_eq!(events["@odata.count"], 7);
    let newest = &events["value"][0];
    assert_eq!((&newest["activityOperationType"], &newest["actor"]["auditActorType"]), (&json!("Create"), &json!("Application")));
    let changed = newest["resources"][0]["modifiedProperties"].as_array().unwrap();
    assert!(changed.iter().any(|one| one["displayName"] == "display_name" && one["newValue"] == "G6"), "{newest}");
    let next = events["@odata.nextLink"].as_str().unwrap().strip_prefix(&caller.server.web).unwrap().to_owned();
    let rest = caller.get(&next).await;
    let ids: Vec<i64> = names(&events, "id").into_iter().chain(names(&rest, "id")).map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 6 && ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    let one = caller.get(&format!("/v1.0/auditLogs/directoryAudits/{}", ids[0])).await;
    assert_eq!((&one["activityDisplayName"], one["initiatedBy"]["app"]["appId"].is_string()), (&json!("group.create"), true));
    assert_eq!(caller.refused(Method::GET, "/v1.0/auditLogs/directoryAudits/999999", None).await.0, 404);
    let since = "/v1.0/auditLogs/directoryAudits?$filter=activityDateTime%20ge%202999-01-01&$orderby=activityDateTime";
    assert!(caller.get(since).await["value"].as_array().unwrap().is_empty());
}

#[actix_web::test]
async fn nobody_comes_to_a_role_by_a_group_or_by_another_person() {
    let server = Server::start().await;
    let app = &server.app;
    let (boss, clerk) = (user(&server, "boss@x.example", "Boss").await, user(&server, "clerk@x.example", "Clerk").await);
    let ana = user(&server, "ana@x.example", "Ana").await;
    let admins = directory::create_group(app, "Admins", "", &by()).await.unwrap();
    directory::add_members(app, &admins.id, vec![Member::User(boss.id.clone())], &by()).await.unwrap();
    let everything = Assignment { members: [Principal::Group(admins.id.clone())].into(), ..role::administrator_assignment(&boss.id) };
    role::assign(app, everything, None, &by()).await.unwrap();
    // May change groups and people, and is no administrator.
    let actions = [Action::DirectoryRead, Action::DirectoryUpdate, Action::GroupsUpdate].into();
    let clerks = role::create(app, "Clerks", "", actions, None, &by()).await.unwrap();
    let given = |id, reach| Assignment {
        id,
        role: clerks.id.clone(),
        display_name: "Clerks".into(),
        description: String::new(),
        members: [Principal::User(clerk.id.clone())].into(),
        reach,
    };
    let own = RoleAssignmentId::new();
    role::assign(app, given(own.clone(), Reach::All), None, &by()).await.unwrap();
    let (application, secret) =
        register(&server, &[Scope::GroupMemberReadWriteAll, Scope::UserReadWriteAll, Scope::MethodReadWriteAll]).await;
    let tokens = [delegated(&server, "clerk@x.example", Scope::ALL).await, token(&server, &application, &secret).await];
    let path = format!("/v1.0/groups/{}", admins.id);
    let reference = json!({ "@odata.id": format!("{}/v1.0/directoryObjects/{}", server.web, clerk.id) });
    let mut caller = Caller::of(server, String::new());
    let denied = (403, DENIED.to_owned());
    for token in tokens {
        caller.token = token;
        assert_eq!(caller.refused(Method::POST, &format!("{path}/members/$ref"), Some(reference.clone())).await, denied);
        assert_eq!(caller.refused(Method::DELETE, &format!("{path}/members/{}/$ref", boss.id), None).await, denied);
        assert_eq!(caller.refused(Method::PATCH, "/v1.0/users/boss@x.example", Some(json!({ "accountEnabled": false }))).await, denied);
        assert_eq!(caller.refused(Method::DELETE, "/v1.0/users/boss@x.example", None).await, denied);
        assert_eq!(caller.send(Method::PATCH, "/v1.0/users/ana@x.example", Some(json!({ "jobTitle": "x" }))).await.status(), 204);
    }
    let pass = "/v1.0/users/boss@x.example/authentication/temporaryAccessPassMethods";
    assert_eq!(caller.refused(Method::POST, pass, Some(json!({}))).await, denied, "an application that may not change roles");

    // Bound to a group: says not who is in it, and makes nobody.
    let app = &caller.server.app;
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap();
    directory::add_members(app, &sales.id, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    role::assign(app, given(own, Reach::Groups([sales.id.clone()].into())), None, &by()).await.unwrap();
    caller.token = delegated(&caller.server, "clerk@x.example", Scope::ALL).await;
    let path = format!("/v1.0/groups/{}", sales.id);
    assert_eq!(caller.refused(Method::POST, &format!("{path}/members/$ref"), Some(reference)).await, denied);
    assert_eq!(caller.refused(Method::DELETE, &path, None).await, denied);
    let new = json!({ "displayName": "New", "userPrincipalName": "new@x.example" });
    assert_eq!(caller.refused(Method::POST, "/v1.0/users", Some(new)).await, denied);
    assert_eq!(caller.send(Method::PATCH, "/v1.0/users/ana@x.example", Some(json!({ "jobTitle": "y" }))).await.status(), 204);
    assert_eq!(caller.refused(Method::PATCH, "/v1.0/users/boss@x.example", Some(json!({ "jobTitle": "y" }))).await.0, 404);

    // The last administrators' group is neither emptied nor deleted.
    let app = &caller.server.app;
    let emptied = directory::remove_members(app, &admins.id, vec![Member::User(boss.id.clone())], &by()).await.unwrap_err();
    assert!(emptied.to_string().starts_with("ACC0009"), "{emptied}");
    let deleted = directory::delete_group(app, &admins.id, &by()).await.unwrap_err();
    assert!(deleted.to_string().starts_with("ACC0009"), "{deleted}");
}
