//! Groups and their members, as identity providers keep them.

use muster::domain::access::{Principal, Reach, Scope};
use muster::domain::device::Platform;
use muster::domain::group::{Group, Member};
use muster::ids::{GroupId, UserId};
use muster::service::{directory, role};
use muster::store::{devices, groups};
use reqwest::Method;
use serde_json::{Value, json};

use super::{GROUP, Provider, by, filter, patch, refusal};
use crate::desired::device;
use crate::graph::access::assignment;
use crate::locks::Other;
use crate::support::server::{Options, Server};

fn members(group: &Value) -> Vec<String> {
    let mut all: Vec<String> =
        group["members"].as_array().into_iter().flatten().map(|one| one["value"].as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

fn sorted(ids: &[&String]) -> Vec<String> {
    let mut all: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
    all.sort();
    all
}

#[actix_web::test]
async fn a_group_lives_with_its_members() {
    let idp = Provider::new().await;
    let (ann, bob, cy) = (idp.user("ann@x.example").await, idp.user("bob@x.example").await, idp.user("cy@x.example").await);
    // Entra ID makes groups without members and adds them afterwards.
    let made = idp
        .post(
            "/Groups",
            json!({ "schemas": [GROUP], "externalId": "8aa1a0c0", "displayName": "Sales", "meta": { "resourceType": "Group" }, "members": []
            }),
        )
        .await;
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["displayName"], &made["externalId"], made.get("members")), (&json!("Sales"), &json!("8aa1a0c0"), None));
    let path = format!("/Groups/{id}");
    let now = async || members(&idp.get(&path).await);
    idp.patch_group(&id, json!([{ "op": "Add", "path": "members", "value": [{ "$ref": null, "value": ann }, { "value": bob }] }])).await;
    assert_eq!(now().await, sorted(&[&ann, &bob]));
    let before = idp.get(&path).await["meta"]["version"].clone();
    idp.patch_group(&id, json!([{ "op": "Add", "path": "members", "value": [{ "value": ann }] }])).await;
    assert_eq!(idp.get(&path).await["meta"]["version"], before, "the same again changes nothing");
    idp.patch_group(&id, json!([{ "op": "Remove", "path": format!("members[value eq \"{ann}\"]") }])).await;
    assert_eq!(now().await, sorted(&[&bob]));
    assert_ne!(idp.get(&path).await["meta"]["version"], before);
    idp.patch_group(
        &id,
        json!([{ "op": "Remove", "path": "members", "value": [{ "value": bob }, { "value": ann }, { "value": "nobody" }] }]),
    )
    .await;
    assert_eq!(now().await, Vec::<String>::new());
    idp.patch_group(
        &id,
        json!([
            { "op": "replace", "path": "members", "value": [{ "value": ann }, { "value": bob }] },
            { "op": "add", "path": "members", "value": [{ "value": cy }] },
            { "op": "remove", "path": format!("members[value eq \"{bob}\"]") },
            { "op": "replace", "value": { "id": id, "displayName": "Sales and more" } },
        ]),
    )
    .await;
    let whole = idp.get(&path).await;
    assert_eq!((members(&whole), &whole["displayName"]), (sorted(&[&ann, &cy]), &json!("Sales and more")));
    let reference = json!({ "value": ann, "$ref": format!("{}/scim/v2/Users/{ann}", idp.server.web), "type": "User" });
    assert!(whole["members"].as_array().unwrap().contains(&reference));

    for text in
        [format!("members eq \"{ann}\""), format!("members[value eq \"{ann}\"]"), format!("id eq \"{id}\" and members.value eq \"{ann}\"")]
    {
        let found = idp.get(&format!("/Groups?attributes=id&{}", filter(&text))).await;
        assert_eq!(found["Resources"], json!([{ "id": id, "schemas": [GROUP] }]), "{text}");
    }
    assert_eq!(idp.get(&format!("/Groups?{}", filter(&format!("members eq \"{bob}\"")))).await["totalResults"], 0);
    for text in ["displayName eq \"SALES and more\"", "externalId eq \"8aa1a0c0\""] {
        let found = idp.get(&format!("/Groups?excludedAttributes=members&{}", filter(text))).await;
        assert_eq!((&found["totalResults"], found["Resources"][0].get("members")), (&json!(1), None), "{text}");
    }
    let listed = idp.get("/Groups").await;
    assert_eq!(members(&listed["Resources"][0]), sorted(&[&ann, &cy]));
    let person = idp.get(&format!("/Users/{ann}?attributes=groups")).await;
    assert_eq!((&person["groups"][0]["value"], &person["groups"][0]["display"]), (&json!(id), &json!("Sales and more")));
    assert_eq!(idp.get(&format!("/Users/{ann}")).await.get("groups"), None);
    let both = idp.get("/?count=3&startIndex=3").await;
    assert_eq!((&both["totalResults"], &both["itemsPerPage"]), (&json!(4), &json!(2)), "three users, then the group");

    // Okta replaces groups whole.
    let put =
        idp.told(Method::PUT, &path, Some(json!({ "schemas": [GROUP], "displayName": "Sales", "members": [{ "value": bob }] })), 200).await;
    assert_eq!((members(&put), put.get("externalId")), (sorted(&[&bob]), None));
    let put = idp.told(Method::PUT, &path, Some(json!({ "displayName": "Sales" })), 200).await;
    assert_eq!(members(&put), sorted(&[&bob]), "who says nothing of members leaves them");
    let put = idp.told(Method::PUT, &path, Some(json!({ "displayName": "Sales", "members": [] })), 200).await;
    assert_eq!(members(&put), Vec::<String>::new());
    let shown = idp
        .told(
            Method::PATCH,
            &format!("{path}?attributes=displayName"),
            Some(patch(&json!([{ "op": "remove", "path": "externalId" }]))),
            200,
        )
        .await;
    assert_eq!(shown["displayName"], "Sales");

    let stale = idp.request(Method::DELETE, &path).header("if-match", "W/\"x\"").send().await.unwrap();
    assert_eq!(stale.status(), 412);
    idp.told(Method::DELETE, &path, None, 204).await;
    assert_eq!(idp.refused(Method::GET, &path, None).await, refusal(404, ""));
    assert_eq!(idp.refused(Method::DELETE, &path, None).await, refusal(404, ""));
}

#[actix_web::test]
async fn what_is_no_group_is_refused_by_its_kind() {
    let idp = Provider::new().await;
    let ann = idp.user("ann@x.example").await;
    let id = idp.post("/Groups", json!({ "displayName": "One" })).await["id"].as_str().unwrap().to_owned();
    idp.post("/Groups", json!({ "displayName": "Two" })).await;
    let path = format!("/Groups/{id}");
    let unknown = "01900000-0000-7000-8000-000000000000";
    for (body, kind) in [
        (json!({ "displayName": "Two" }), refusal(409, "uniqueness USR0014")),
        (json!({}), refusal(400, "invalidValue")),
        (json!({ "displayName": "Three", "members": [{ "value": unknown }] }), refusal(400, "invalidValue USR0011")),
        (json!({ "displayName": "Three", "members": [{ "value": "x" }] }), refusal(400, "invalidValue USR0011")),
        (json!({ "displayName": "Three", "members": [{ "display": "x" }] }), refusal(400, "invalidValue")),
        (json!({ "displayName": "Three", "externalId": "x".repeat(200) }), refusal(400, "invalidValue PRF0004")),
    ] {
        assert_eq!(idp.refused(Method::POST, "/Groups", Some(body.clone())).await, kind, "{body:.80}");
    }
    assert_eq!(idp.get("/Groups").await["totalResults"], 2);
    for (operation, kind) in [
        (json!({ "op": "replace", "path": "displayName", "value": "Two" }), refusal(409, "uniqueness USR0014")),
        (
            json!({ "op": "add", "path": "members", "value": [{ "value": ann }, { "value": unknown }] }),
            refusal(400, "invalidValue USR0011"),
        ),
        (json!({ "op": "remove", "path": "members[display eq \"x\"]" }), refusal(400, "invalidFilter")),
        (json!({ "op": "replace", "path": "members.value", "value": ann }), refusal(400, "mutability")),
        (json!({ "op": "add", "path": "userName", "value": "x" }), refusal(400, "invalidPath")),
        (json!({ "op": "remove", "path": "displayName" }), refusal(400, "mutability")),
    ] {
        assert_eq!(idp.refused(Method::PATCH, &path, Some(patch(&json!([operation])))).await, kind, "{operation}");
    }
    assert_eq!(members(&idp.get(&path).await), Vec::<String>::new(), "all of a change, or nothing");
    assert_eq!(
        idp.refused(Method::PATCH, &format!("/Groups/{unknown}"), Some(patch(&json!([{ "op": "remove", "path": "members" }])))).await,
        refusal(404, "")
    );
}

#[actix_web::test]
async fn rules_roles_and_devices_are_respected() {
    let idp = Provider::of(Server::start().await, &[Scope::SynchronizationDataUserUpload]).await;
    let app = &idp.server.app;
    let ann = idp.user("ann@x.example").await;
    let add = || Some(patch(&json!([{ "op": "Add", "path": "members", "value": [{ "value": ann }] }])));
    let ruled = directory::create_group_by_rule(app, "By rule", "", Some("user.displayName -eq \"x\"".into()), &by()).await.unwrap();
    let path = format!("/Groups/{}", ruled.id);
    assert_eq!(idp.refused(Method::PATCH, &path, add()).await, refusal(400, "mutability DIR0001"));
    idp.patch_group(ruled.id.as_str(), json!([{ "op": "replace", "path": "externalId", "value": "e" }])).await;
    let kept: Group = app.store.read(move |conn| groups::load_group(conn, &ruled.id)).await.unwrap();
    assert_eq!((kept.rule.as_deref(), kept.external_id.as_deref()), (Some("user.displayName -eq \"x\""), Some("e")));

    // Whoever belongs to a group with a role has the role: nobody is given one by way of provisioning.
    let admins = directory::create_group(app, "Admins", "", &by()).await.unwrap();
    role::assign(app, assignment("administrator", Principal::Group(admins.id.clone()), Reach::All), None, &by()).await.unwrap();
    let path = format!("/Groups/{}", admins.id);
    assert_eq!(idp.refused(Method::PATCH, &path, add()).await, refusal(403, "ACC0008"));
    assert_eq!(
        idp.refused(Method::PUT, &path, Some(json!({ "displayName": "Admins", "members": [{ "value": ann }] }))).await,
        refusal(403, "ACC0008")
    );
    assert_eq!(idp.refused(Method::DELETE, &path, None).await, refusal(403, "ACC0008"));
    // So is nobody who has a role for a group given others to use it on.
    let reached = directory::create_group(app, "Reached", "", &by()).await.unwrap();
    let within = Reach::Groups([reached.id.clone()].into());
    role::assign(app, assignment("helpdesk", Principal::User(UserId::parse(&ann).unwrap()), within), None, &by()).await.unwrap();
    let path = format!("/Groups/{}", reached.id);
    assert_eq!(idp.refused(Method::PATCH, &path, add()).await, refusal(403, "ACC0008"));
    assert_eq!(idp.refused(Method::DELETE, &path, None).await, refusal(403, "ACC0008"));

    let team = directory::create_group(app, "Team", "", &by()).await.unwrap();
    let pc = device("PC", Platform::Windows, None);
    let (row, now) = (pc.clone(), app.now());
    app.store.write(move |tx| devices::insert_device(tx, &row, now)).await.unwrap();
    let both = vec![Member::Device(pc.id.clone()), Member::User(UserId::parse(&ann).unwrap())];
    directory::add_members(app, &team.id, both, &by()).await.unwrap();
    let path = format!("/Groups/{}", team.id);
    assert_eq!(members(&idp.get(&path).await), sorted(&[&ann]), "devices are not seen");
    idp.patch_group(team.id.as_str(), json!([{ "op": "remove", "path": "members" }])).await;
    let left = all_members(&idp, &team.id).await;
    assert_eq!(left, [Member::Device(pc.id.clone())], "and stay");
    let as_member = patch(&json!([{ "op": "Add", "path": "members", "value": [{ "value": pc.id }] }]));
    assert_eq!(idp.refused(Method::PATCH, &path, Some(as_member)).await, refusal(400, "invalidValue USR0011"));
}

async fn all_members(idp: &Provider, group: &GroupId) -> Vec<Member> {
    let group = group.clone();
    idp.server.app.store.read(move |conn| groups::list_members(conn, &group, ("", ""), 10)).await.unwrap()
}

/// Somebody gives the group a role while the provider's deletion waits for its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_gets_a_role_meanwhile_is_not_deleted() {
    let Some((url, store)) = crate::locks::database() else { return };
    let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
    let app = std::sync::Arc::clone(&server.app);
    let idp = Provider::of(server, &[Scope::SynchronizationDataUserUpload]).await;
    let admins = directory::create_group(&app, "Admins", "", &by()).await.unwrap();
    let mut other = Other::begin(&url, "SELECT pg_advisory_xact_lock(7709512301)");
    let path = format!("/Groups/{}", admins.id);
    let deletes = tokio::spawn(async move { (idp.refused(Method::DELETE, &path, None).await, idp) });
    let other = tokio::task::spawn_blocking(move || {
        other.is_waited_for();
        other
    });
    let other = other.await.unwrap();
    role::assign(&app, assignment("administrator", Principal::Group(admins.id.clone()), Reach::All), None, &by()).await.unwrap();
    other.commit();
    let (refused, _idp) = deletes.await.unwrap();
    assert_eq!(refused, refusal(403, "ACC0008"));
    app.store.read(move |conn| groups::load_group(conn, &admins.id)).await.unwrap();
}
