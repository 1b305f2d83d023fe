//! Users and groups are deleted, restored, and gone for good.

use std::collections::BTreeSet;

use muster::clock::{DAY, MINUTE};
use muster::domain::access::{Principal, Reach, Scope};
use muster::domain::application::Grants;
use muster::domain::assignment::{Assignment, Mode, Target};
use muster::domain::device::Platform;
use muster::domain::group::Member;
use muster::domain::profile::{Document, Kind};
use muster::domain::tap::Policy;
use muster::ids::{AssignmentId, GroupId, UserId};
use muster::service::identity::tap;
use muster::service::{application, directory, jobs, role};
use muster::store::{assignments, compliance, desired_items, devices, enrollment_tokens, enrollments, groups, profiles, roles, taps};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{assignment, delegated};
use super::{Caller, by, names, user};
use crate::desired::{device, enrollment, profile, sealer};

const USERS: &str = "/v1.0/directory/deletedItems/microsoft.graph.user";
const GROUPS: &str = "/v1.0/directory/deletedItems/microsoft.graph.group";

fn item(id: &str) -> String {
    format!("/v1.0/directory/deletedItems/{id}")
}

async fn members(caller: &Caller, group: &GroupId) -> BTreeSet<Member> {
    let group = group.clone();
    let found = caller.server.app.store.read(move |conn| groups::list_members(conn, &group, ("", ""), 100)).await.unwrap();
    found.into_iter().collect()
}

/// A managed PC of that user.
async fn pc_of(caller: &Caller, owner: &UserId) -> muster::domain::device::Device {
    let now = caller.server.app.now();
    let pc = device("PC-1", Platform::Windows, Some(owner));
    let (row, of) = (pc.clone(), enrollment(&pc, now));
    let put = caller.server.app.store.write(move |tx| {
        devices::insert_device(tx, &row, now)?;
        enrollments::insert_enrollment(tx, &of)
    });
    put.await.unwrap();
    pc
}

#[actix_web::test]
async fn a_deleted_user_signs_in_nowhere_and_comes_back_without_roles() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let path = "/v1.0/users/ana@x.example";
    let create = async |name: &str, rule: Option<&str>| {
        directory::create_group_by_rule(app, name, "", rule.map(str::to_owned), &by()).await.unwrap().id
    };
    let by_hand = create("By hand", None).await;
    let by_rule = create("By rule", Some("user.displayName -eq \"ana\"")).await;
    let (helpers, risen) = (create("Helpers", None).await, create("Risen", None).await);
    for group in [&by_hand, &helpers, &risen] {
        directory::add_members(app, group, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    }
    for principal in [Principal::Group(helpers.clone()), Principal::User(ana.id.clone())] {
        role::assign(app, assignment("helpdesk", principal, Reach::All), None, &by()).await.unwrap();
    }
    let pc = pc_of(&caller, &ana.id).await;
    let id = ana.id.clone();
    let held = async || {
        let id = id.clone();
        app.store.read(move |conn| roles::list_roles_of_user(conn, &id)).await.unwrap().len()
    };
    let person = async || {
        let pc = pc.id.clone();
        format!("{:?}", app.store.read(move |conn| compliance::load_subject(conn, &pc)).await.unwrap().person)
    };
    assert_eq!((held().await, person().await.as_str()), (2, "Present"));

    // She signed in, has a pass, and began to enrol another device.
    let token = delegated(&caller.server, "ana@x.example", Scope::ALL).await;
    let me = async || caller.client.get(format!("{}/v1.0/me", caller.server.web)).bearer_auth(&token).send().await.unwrap().status();
    assert_eq!(me().await, 200);
    tap::create(app, &ana.id, Policy::default(), None, "cli:test", "local").await.unwrap();
    let (owner, now) = (ana.id.clone(), app.now());
    let begun = enrollment_tokens::EnrollmentToken {
        hash: "h".into(),
        user_id: owner.clone(),
        platform: Platform::Windows,
        mode: None,
        method: "tap".into(),
        tap_id: None,
        expires_at: now.plus(MINUTE),
        used_at: None,
    };
    app.store.write(move |tx| enrollment_tokens::insert_token(tx, &begun, now)).await.unwrap();

    assert_eq!(caller.send(Method::DELETE, path, None).await.status(), 204);
    assert_eq!(me().await, 401);
    let left = app.store.read(move |conn| Ok((taps::list_taps(conn, &owner, now, 9)?, enrollment_tokens::find_token(conn, "h")?)));
    let (passes, begun) = left.await.unwrap();
    assert!(passes.is_empty() && begun.is_none());
    assert_eq!(tap::create(app, &ana.id, Policy::default(), None, "cli:test", "local").await.unwrap_err().to_string()[..7], *"AUT0001");
    assert_eq!((held().await, person().await.as_str()), (0, "Missing"));
    for group in [&by_hand, &by_rule, &helpers, &risen] {
        assert_eq!(members(&caller, group).await, BTreeSet::new());
    }
    for gone in [path, &format!("/v1.0/users/{}", ana.id)] {
        assert_eq!(caller.refused(Method::GET, gone, None).await.0, 404);
        assert_eq!(caller.refused(Method::PATCH, gone, Some(json!({ "accountEnabled": true }))).await.0, 404);
        assert_eq!(caller.refused(Method::DELETE, gone, None).await.0, 404);
    }
    assert_eq!(names(&caller.get("/v1.0/users").await, "displayName"), [""; 0]);
    let add = directory::add_members(app, &by_hand, vec![Member::User(ana.id.clone())], &by()).await.unwrap_err();
    assert!(add.to_string().starts_with("USR0011"), "{add}");
    let give = role::assign(app, assignment("helpdesk", Principal::User(ana.id.clone()), Reach::All), None, &by()).await.unwrap_err();
    assert!(give.to_string().starts_with("ACC0006"), "{give}");
    let machine = &caller.get("/v1.0/deviceManagement/managedDevices").await["value"][0];
    assert_eq!((&machine["deviceName"], &machine["userId"]), (&json!("PC-1"), &json!(ana.id)), "it stays");

    // She is found among what is deleted, and cannot go for good while the device names her.
    let found = &caller.get(USERS).await["value"][0];
    assert_eq!((&found["id"], &found["userPrincipalName"]), (&json!(ana.id), &json!("ana@x.example")));
    assert!(found["deletedDateTime"].as_str().unwrap().ends_with('Z'));
    let groups = USERS.replace(".user", ".group");
    for (set, filter, expected) in [(USERS, "", "1"), (USERS, "?$filter=displayName%20eq%20'Bob'", "0"), (&groups, "", "0")] {
        let count = caller.send(Method::GET, &format!("{set}/$count{filter}"), None).await;
        assert_eq!(count.text().await.unwrap(), expected, "{set}{filter}");
    }
    let one = caller.get(&item(ana.id.as_str())).await;
    assert_eq!((&one["@odata.type"], &one["displayName"]), (&json!("#microsoft.graph.user"), &json!("Ana")));
    let kept = caller.send(Method::DELETE, &item(ana.id.as_str()), None).await;
    assert_eq!(kept.status(), 400);
    assert!(kept.text().await.unwrap().contains("USR0010"));

    // Her name is free, and she does not come back onto it.
    role::assign(app, assignment("helpdesk", Principal::Group(risen.clone()), Reach::All), None, &by()).await.unwrap();
    let other = user(&caller.server, "ana@x.example", "Other").await;
    let restore = format!("{}/restore", item(ana.id.as_str()));
    let taken = caller.send(Method::POST, &restore, None).await;
    assert_eq!(taken.status(), 400);
    assert!(taken.text().await.unwrap().contains("DIR0004"));
    let renamed = json!({ "userPrincipalName": "other@x.example" });
    assert_eq!(caller.send(Method::PATCH, &format!("/v1.0/users/{}", other.id), Some(renamed)).await.status(), 204);
    let back = caller.post(&restore, json!({})).await;
    assert_eq!((&back["@odata.type"], &back["id"]), (&json!("#microsoft.graph.user"), &json!(ana.id)));
    assert_eq!(caller.get(path).await["displayName"], "Ana");
    assert_eq!(caller.refused(Method::POST, &restore, None).await.0, 404, "once");
    for (group, belongs) in [(&by_hand, true), (&by_rule, true), (&helpers, false), (&risen, false)] {
        assert_eq!(members(&caller, group).await.contains(&Member::User(ana.id.clone())), belongs, "{group}");
    }
    assert_eq!((held().await, person().await.as_str()), (0, "Present"));
    assert_eq!(names(&caller.get(USERS).await, "id"), [""; 0]);
}

#[actix_web::test]
async fn a_deleted_group_comes_back_with_members_and_assignments() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    let (ana, bob) = (user(&caller.server, "ana@x.example", "Ana").await, user(&caller.server, "bob@x.example", "Bob").await);
    let pc = pc_of(&caller, &ana.id).await;
    let sales = directory::create_group(app, "Sales", "Those who sell", &by()).await.unwrap().id;
    let ruled = directory::create_group_by_rule(app, "Ruled", "", Some("user.mail -ne \"x\"".into()), &by()).await.unwrap().id;
    let all: BTreeSet<Member> = [Member::User(ana.id.clone()), Member::User(bob.id.clone()), Member::Device(pc.id.clone())].into();
    directory::add_members(app, &sales, all.iter().cloned().collect(), &by()).await.unwrap();
    let given = profile("given", Kind::Configuration, Platform::Windows, Document::default());
    let to =
        Assignment { id: AssignmentId::new(), profile_id: given.id.clone(), mode: Mode::Include, target: Target::Group(sales.clone()) };
    let (row, now) = (given.clone(), app.now());
    let put = app.store.write(move |tx| {
        profiles::insert_profile(tx, &sealer(), &row, now)?;
        assignments::insert_assignment(tx, &to, now)?;
        desired_items::recompute_profile(tx, &row.id, now).map(drop)
    });
    put.await.unwrap();
    let desired = async || {
        let (device, profile) = (pc.id.clone(), given.id.clone());
        app.store.read(move |conn| desired_items::is_desired(conn, &device, &profile)).await.unwrap()
    };
    assert!(desired().await);

    for group in [&sales, &ruled] {
        let path = format!("/v1.0/groups/{group}");
        assert_eq!(caller.send(Method::DELETE, &path, None).await.status(), 204);
        for (method, body) in [(Method::GET, None), (Method::DELETE, None), (Method::PATCH, Some(json!({ "description": "x" })))] {
            assert_eq!(caller.refused(method, &path, body).await.0, 404);
        }
        assert_eq!(members(&caller, group).await, BTreeSet::new());
    }
    assert!(!desired().await);
    assert_eq!(names(&caller.get("/v1.0/groups").await, "displayName"), [""; 0]);
    assert_eq!(names(&caller.get("/v1.0/users/ana@x.example/memberOf").await, "displayName"), [""; 0]);
    let carl = user(&caller.server, "carl@x.example", "Carl").await;
    assert_eq!(members(&caller, &ruled).await, BTreeSet::new(), "its rule is not followed");
    let listed = caller.get(&format!("{GROUPS}?$orderby=displayName&$count=true&$select=displayName,deletedDateTime")).await;
    assert_eq!((names(&listed, "displayName"), &listed["@odata.count"]), (vec!["Ruled".to_owned(), "Sales".to_owned()], &json!(2)));

    // Its name is free. Bob is deleted meanwhile, and comes back after the group.
    let other = directory::create_group(app, "Sales", "", &by()).await.unwrap();
    directory::delete_user(app, &bob.id, &by()).await.unwrap();
    let restore = async |id: &str| caller.send(Method::POST, &format!("{}/restore", item(id)), None).await;
    let taken = restore(sales.as_str()).await;
    assert_eq!(taken.status(), 400);
    assert!(taken.text().await.unwrap().contains("DIR0004"));
    directory::delete_group(app, &other.id, &by()).await.unwrap();
    for group in [&sales, &ruled] {
        let back = restore(group.as_str()).await;
        assert_eq!(back.status(), 200);
        assert_eq!(back.json::<Value>().await.unwrap()["@odata.type"], "#microsoft.graph.group");
    }
    assert!(desired().await);
    let without = |gone: &UserId| all.iter().filter(|member| **member != Member::User(gone.clone())).cloned().collect::<BTreeSet<_>>();
    assert_eq!(members(&caller, &sales).await, without(&bob.id));
    let people = |ids: &[&UserId]| ids.iter().map(|id| Member::User((*id).clone())).collect::<BTreeSet<_>>();
    assert_eq!(members(&caller, &ruled).await, people(&[&ana.id, &carl.id]));
    directory::deleted::restore_user(app, &bob.id, &by()).await.unwrap();
    assert_eq!(members(&caller, &sales).await, all);
    assert_eq!(members(&caller, &ruled).await, people(&[&ana.id, &bob.id, &carl.id]));

    // Of two that are deleted, the one that comes back last brings the other's place in it.
    directory::delete_user(app, &bob.id, &by()).await.unwrap();
    directory::delete_group(app, &sales, &by()).await.unwrap();
    directory::deleted::restore_user(app, &bob.id, &by()).await.unwrap();
    assert_eq!(restore(sales.as_str()).await.status(), 200);
    assert_eq!(members(&caller, &sales).await, all);
}

#[actix_web::test]
async fn what_is_deleted_is_gone_after_thirty_days_or_by_order() {
    let caller = Caller::everything().await;
    let app = &caller.server.app;
    let (ana, bob) = (user(&caller.server, "ana@x.example", "Ana").await, user(&caller.server, "bob@x.example", "Bob").await);
    let cleo = user(&caller.server, "cleo@x.example", "Cleo").await;
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    directory::add_members(app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    pc_of(&caller, &bob.id).await;
    for id in [&ana.id, &bob.id, &cleo.id] {
        directory::delete_user(app, id, &by()).await.unwrap();
    }
    directory::delete_group(app, &sales, &by()).await.unwrap();
    assert_eq!(caller.send(Method::DELETE, &item(cleo.id.as_str()), None).await.status(), 204);
    assert_eq!(caller.refused(Method::GET, &item(cleo.id.as_str()), None).await.0, 404);
    assert_eq!(caller.refused(Method::DELETE, "/v1.0/directory/deletedItems/x", None).await.0, 404);

    caller.server.clock.advance(30 * DAY - MINUTE);
    jobs::run_due(app).await.unwrap();
    let left = async || {
        let query = muster::wire::odata::query::Query::default();
        let users = directory::deleted::page_users(app, &query, &Reach::All, 9).await.unwrap().objects.len();
        (users, directory::deleted::page_groups(app, &query, &Reach::All, 9).await.unwrap().objects.len())
    };
    assert_eq!(left().await, (2, 1));
    caller.server.clock.advance(2 * 60 * MINUTE);
    jobs::run_due(app).await.unwrap();
    assert_eq!(left().await, (1, 0), "bob stays while his device names him");
    let restored = directory::deleted::restore_user(app, &ana.id, &by()).await.unwrap_err();
    assert!(matches!(restored, muster::service::Error::NotFound(_)), "{restored}");
    assert!(directory::deleted::restore_user(app, &bob.id, &by()).await.is_ok());
}

#[actix_web::test]
async fn who_restores_may_do_so_to_objects_of_that_kind_everywhere() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let group = directory::create_group(&caller.server.app, "Sales", "", &by()).await.unwrap().id;
    let bounds = directory::create_group(&caller.server.app, "Bounds", "", &by()).await.unwrap().id;
    directory::delete_user(&caller.server.app, &ana.id, &by()).await.unwrap();
    directory::delete_group(&caller.server.app, &group, &by()).await.unwrap();

    // A role that is bound to groups reaches nothing that is deleted.
    let carl = user(&caller.server, "carl@x.example", "Carl").await;
    let bound = assignment("administrator", Principal::User(carl.id), Reach::Groups([bounds].into()));
    role::assign(&caller.server.app, bound, None, &by()).await.unwrap();
    let token = delegated(&caller.server, "carl@x.example", Scope::ALL).await;
    let carl = Caller { token, client: caller.server.client(), server: caller.server };
    assert_eq!(names(&carl.get(USERS).await, "id"), [""; 0]);
    for id in [ana.id.as_str(), group.as_str()] {
        assert_eq!(carl.refused(Method::GET, &item(id), None).await.0, 403);
        assert_eq!(carl.refused(Method::POST, &format!("{}/restore", item(id)), None).await.0, 403);
        assert_eq!(carl.refused(Method::DELETE, &item(id), None).await.0, 403);
    }

    // Who may change users may not restore groups, and the other way round.
    let Caller { server, client, .. } = carl;
    let (application, secret) = super::register(&server, &[]).await;
    let mut caller = Caller { token: String::new(), client, server };
    let own = [(Scope::UserReadWriteAll, ana.id.as_str(), group.as_str()), (Scope::GroupReadWriteAll, group.as_str(), ana.id.as_str())];
    for (scope, may, not) in own {
        let grants = Grants { own: [scope].into(), ..Grants::default() };
        application::grant(&caller.server.app, &application.id, grants, &by()).await.unwrap();
        caller.token = super::token(&caller.server, &application, &secret).await;
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(caller.refused(method, &item(not), None).await.0, 403);
        }
        assert_eq!(caller.refused(Method::POST, &format!("{}/restore", item(not)), None).await.0, 403);
        assert_eq!(caller.send(Method::POST, &format!("{}/restore", item(may)), None).await.status(), 200);
        directory::delete_user(&caller.server.app, &ana.id, &by()).await.ok();
        directory::delete_group(&caller.server.app, &group, &by()).await.ok();
    }
}
