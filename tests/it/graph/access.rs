//! Who may call what: permissions of applications, roles of people, and how far they reach.

use std::collections::BTreeSet;

use muster::clock::DAY;
use muster::domain::access::{Assignment, Caller as Access, Identity, Principal, Reach, Role, Scope};
use muster::domain::application::{Application, Client, Grants};
use muster::domain::device::Platform;
use muster::domain::grant::{Asked, Grant};
use muster::domain::group::Member;
use muster::domain::session::Method as SignedInBy;
use muster::http::graph::entity::TABLE;
use muster::http::table::{Entry as _, Verb};
use muster::ids::{ApplicationId, GrantId, GroupId, RoleAssignmentId};
use muster::service::application::{self, New};
use muster::service::identity::oauth::access_token::{Order, Person, Proved, issue};
use muster::service::{directory, role};
use muster::store::{devices, enrollments, grants};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Caller, by, names, user};
use crate::desired::{device, enrollment};
use crate::support::server::Server;

pub(crate) fn method(verb: Verb) -> Method {
    Method::from_bytes(verb.as_str().as_bytes()).unwrap()
}

fn address(pattern: &str, beta: bool) -> String {
    let path: Vec<&str> =
        pattern.split('/').map(|part| if part.starts_with('{') { "01900000-0000-7000-8000-000000000000" } else { part }).collect();
    format!("/{}/{}", if beta { "beta" } else { "v1.0" }, path.join("/"))
}

/// Every route, once without any permission, once with each of those that it asks for.
#[actix_web::test]
async fn a_route_opens_to_its_permissions_and_to_nothing_else() {
    let server = Server::start().await;
    let (application, secret) = super::register(&server, &[]).await;
    let token = super::token(&server, &application, &secret).await;
    let none = Caller::of(server, token);
    for route in TABLE.iter().flat_map(|entity| entity.iter()) {
        let path = address(route.pattern(), route.is_beta());
        let refused = none.refused(method(route.verb()), &path, None).await;
        assert_eq!(refused, (403, "Authorization_RequestDenied".to_owned()), "{} {path}", route.verb().as_str());
    }
    let Caller { server, client, .. } = none;
    for scope in Scope::ALL.iter().filter(|scope| !scope.is_of_a_person()) {
        let grants = Grants { own: [*scope].into(), ..Grants::default() };
        application::grant(&server.app, &application.id, grants, &by()).await.unwrap();
        let token = super::token(&server, &application, &secret).await;
        for route in TABLE.iter().flat_map(|entity| entity.iter()) {
            let url = format!("{}{}", server.web, address(route.pattern(), route.is_beta()));
            let answer = client.request(method(route.verb()), url).bearer_auth(&token).send().await.unwrap();
            let opened = answer.status() != 403;
            let wanted = route.need().scopes.contains(scope);
            assert_eq!(opened, wanted, "{} {} with {scope}: {}", route.verb().as_str(), route.pattern(), answer.status());
            assert!(answer.status().as_u16() < 500, "{} {}", route.verb().as_str(), route.pattern());
        }
    }
}

/// Every route and every built-in role: what a role lacks is refused, however many permissions the application has.
#[test]
fn a_route_opens_to_the_roles_that_allow_its_action() {
    let caller = |word: &str| Access {
        application: ApplicationId::new(),
        client_id: "c".into(),
        identity: Identity::Person(muster::ids::UserId::new()),
        scopes: Scope::ALL.iter().copied().collect(),
        roles: vec![(Role::built_in(word).unwrap(), Reach::All)],
        signed_in_at: None,
        grant: None,
    };
    let mut opened = BTreeSet::new();
    for word in ["read-only", "helpdesk", "policy-manager", "certificate-manager", "administrator"] {
        let caller = caller(word);
        for route in TABLE.iter().flat_map(|entity| entity.iter()) {
            let opens = caller.reach(route.need()).is_some();
            let wanted = route.need().action.is_none_or(|action| Role::built_in(word).unwrap().allows(action));
            assert_eq!(opens, wanted, "{word}: {}", route.pattern());
            if opens {
                opened.insert((word, route.verb().as_str(), route.pattern()));
            }
        }
    }
    assert!(opened.contains(&("read-only", "GET", "users")) && !opened.contains(&("read-only", "POST", "users")));
    let wipe = "deviceManagement/managedDevices/{id}/wipe";
    assert!(!opened.contains(&("helpdesk", "POST", wipe)) && opened.contains(&("administrator", "POST", wipe)));
    assert!(opened.contains(&("helpdesk", "POST", "deviceManagement/managedDevices/{id}/syncDevice")));
}

/// A token in the name of a person, as a sign-in gives it.
pub async fn delegated(server: &Server, upn: &str, scopes: &[Scope]) -> String {
    let app = &server.app;
    let made = application::create(app, New { display_name: format!("For {upn}"), public: true, ..New::default() }, &by()).await.unwrap();
    let grants = Grants { delegated: scopes.iter().copied().collect(), ..Grants::default() };
    application::grant(app, &made.id, grants, &by()).await.unwrap();
    delegated_to(server, &made, upn, scopes).await.1
}

/// The same for an application that there is, with what the person gave.
pub async fn delegated_to(server: &Server, made: &Application, upn: &str, scopes: &[Scope]) -> (GrantId, String) {
    let app = &server.app;
    let (user, _) = directory::find_user(app, upn, &Reach::All).await.unwrap();
    let now = app.now();
    let given = Grant {
        id: GrantId::new(),
        application: made.id.clone(),
        user: user.id.clone(),
        client: Client::Native,
        redirect_uri: None,
        asked: Asked::default(),
        challenge: None,
        nonce: None,
        method: SignedInBy::Passkey,
        method_id: String::new(),
        signed_in_at: now,
        method_ends_at: None,
        generation: 1,
        rotated_at: now,
        created_at: now,
        code_ends_at: now,
        ends_at: now.plus(DAY),
    };
    let stored = given.clone();
    app.store.write(move |tx| grants::insert_grant(tx, &stored, stored.id.as_str())).await.unwrap();
    let id = given.id.clone();
    let person = Person {
        id: user.id,
        upn: user.upn,
        display_name: user.display_name,
        amr: vec!["fido".into(), "mfa".into()],
        signed_in_at: app.now(),
        grant: given.id,
        ends_at: None,
    };
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    let order = Order { application: made, proved: Proved::Not, person: Some(&person), scopes: &words, capabilities: &[] };
    (id, issue(app, &order).await.unwrap().text)
}

/// Gives a person a built-in role everywhere.
pub async fn give(server: &Server, word: &str, user: &muster::ids::UserId) {
    give_within(server, word, user, Reach::All).await;
}

/// Gives a person a built-in role somewhere.
pub async fn give_within(server: &Server, word: &str, user: &muster::ids::UserId, reach: Reach) {
    let assignment = assignment(word, Principal::User(user.clone()), reach);
    role::assign(&server.app, assignment, None, &by()).await.unwrap();
}

pub fn assignment(word: &str, member: Principal, reach: Reach) -> Assignment {
    Assignment {
        id: RoleAssignmentId::new(),
        role: Role::built_in(word).unwrap().id,
        display_name: word.into(),
        description: String::new(),
        members: [member].into(),
        reach,
    }
}

#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_and_does_nothing_beyond() {
    let server = Server::start().await;
    let app = &server.app;
    let (helper, ana, bob) = (
        user(&server, "helper@x.example", "Helper").await,
        user(&server, "ana@x.example", "Ana").await,
        user(&server, "bob@x.example", "Bob").await,
    );
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    directory::create_group(app, "Others", "", &by()).await.unwrap();
    directory::add_members(app, &sales, vec![Member::User(ana.id.clone())], &by()).await.unwrap();
    let (now, near, far) = (app.now(), device("PC-A", Platform::Windows, Some(&ana.id)), device("PC-B", Platform::Windows, Some(&bob.id)));
    let (of_near, of_far) = (enrollment(&near, now), enrollment(&far, now));
    let rows = [(near.clone(), of_near.clone()), (far.clone(), of_far.clone())];
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
    role::assign(app, assignment("helpdesk", Principal::User(helper.id.clone()), Reach::Groups([sales.clone()].into())), None, &by())
        .await
        .unwrap();
    let scopes: Vec<Scope> = Scope::ALL.to_vec();
    let token = delegated(&server, "helper@x.example", &scopes).await;
    let helper = Caller::of(server, token);

    let managed = helper.get("/v1.0/deviceManagement/managedDevices?$count=true").await;
    assert_eq!((names(&managed, "deviceName"), &managed["@odata.count"]), (vec!["PC-A".to_owned()], &json!(1)));
    assert_eq!(names(&helper.get("/v1.0/users").await, "userPrincipalName"), ["ana@x.example"]);
    assert_eq!(names(&helper.get("/v1.0/groups").await, "displayName"), ["Sales"]);
    assert_eq!(names(&helper.get("/v1.0/devices").await, "displayName"), ["PC-A"]);
    let path = |id: &str, rest: &str| format!("/v1.0/deviceManagement/managedDevices/{id}{rest}");
    let beyond = (404, "ResourceNotFound".to_owned());
    assert_eq!(helper.refused(Method::GET, &path(of_far.id.as_str(), ""), None).await, beyond);
    assert_eq!(helper.refused(Method::POST, &path(of_far.id.as_str(), "/syncDevice"), None).await, beyond);
    assert_eq!(helper.refused(Method::GET, "/v1.0/users/bob@x.example", None).await, beyond);
    assert_eq!(helper.send(Method::POST, &path(of_near.id.as_str(), "/syncDevice"), None).await.status(), 204);
    let wipe = helper.refused(Method::POST, &path(of_near.id.as_str(), "/wipe"), Some(json!({}))).await;
    assert_eq!(wipe, (403, "Authorization_RequestDenied".to_owned()), "the role allows no wipe");
    assert_eq!(helper.get("/v1.0/me").await["userPrincipalName"], "helper@x.example");

    directory::enable_user(&helper.server.app, &helper_id(&helper).await, false, &by()).await.unwrap();
    let answer = helper.send(Method::GET, "/v1.0/me", None).await;
    assert_eq!(answer.status(), 401, "a disabled person's token opens nothing");
}

async fn helper_id(caller: &Caller) -> muster::ids::UserId {
    let id = caller.get("/v1.0/me").await["id"].as_str().unwrap().to_owned();
    muster::ids::UserId::parse(&id).unwrap()
}

#[actix_web::test]
async fn a_person_without_a_role_sees_only_themselves() {
    let server = Server::start().await;
    let ana = user(&server, "ana@x.example", "Ana").await;
    let token = delegated(&server, "ana@x.example", Scope::ALL).await;
    let caller = Caller::of(server, token);
    assert_eq!(caller.get("/v1.0/me").await["id"].as_str(), Some(ana.id.as_str()));
    assert_eq!(caller.refused(Method::GET, "/v1.0/users", None).await, (403, "Authorization_RequestDenied".to_owned()));
    let unknown: Value = caller.get("/v1.0/me/memberOf").await;
    assert!(unknown["value"].as_array().unwrap().is_empty());
    let nobody = Reach::Groups(BTreeSet::<GroupId>::new());
    assert!(!nobody.is_all());
}

#[actix_web::test]
async fn a_group_by_a_rule_lives_and_who_is_bound_to_groups_changes_no_rule() {
    let caller = Caller::everything().await;
    let ana = user(&caller.server, "ana@x.example", "Ana").await;
    let body = json!({
        "displayName": "A", "mailEnabled": false, "mailNickname": "a", "securityEnabled": true, "groupTypes": ["DynamicMembership"],
        "membershipRule": "user.displayName -startsWith \"a\"", "membershipRuleProcessingState": "On",
    });
    let group = caller.post("/v1.0/groups", body.clone()).await;
    for name in ["groupTypes", "membershipRule", "membershipRuleProcessingState"] {
        assert_eq!(group[name], body[name]);
    }
    let path = format!("/v1.0/groups/{}", group["id"].as_str().unwrap());
    assert_eq!(names(&caller.get(&format!("{path}/members")).await, "displayName"), ["Ana"]);
    user(&caller.server, "bob@x.example", "Bob").await;
    let rule = |text: &str| Some(json!({ "membershipRule": text }));
    let to_bob = rule("user.displayName -eq \"bob\"");
    assert_eq!(caller.send(Method::PATCH, &path, to_bob).await.status(), 204);
    assert_eq!(names(&caller.get(&format!("{path}/members")).await, "displayName"), ["Bob"]);
    let member = json!({ "@odata.id": format!("{}/v1.0/directoryObjects/{}", caller.server.web, ana.id) });
    assert_eq!(caller.refused(Method::POST, &format!("{path}/members/$ref"), Some(member)).await.0, 400);
    assert_eq!(caller.refused(Method::PATCH, &path, rule("user.displayName")).await.0, 400);
    let alone = json!({ "displayName": "X", "membershipRule": "user.mail -eq null" });
    assert_eq!(caller.refused(Method::POST, "/v1.0/groups", Some(alone)).await.0, 400);
    let paused = json!({ "membershipRuleProcessingState": "Paused" });
    assert_eq!(caller.refused(Method::PATCH, &path, Some(paused)).await.0, 400);

    // Who is bound to the group changes nothing of it: they could reach everybody by a rule.
    let bound = Reach::Groups([GroupId::parse(group["id"].as_str().unwrap()).unwrap()].into());
    let carl = user(&caller.server, "carl@x.example", "Carl").await;
    role::assign(&caller.server.app, assignment("administrator", Principal::User(carl.id), bound), None, &by()).await.unwrap();
    let token = delegated(&caller.server, "carl@x.example", Scope::ALL).await;
    let carl = Caller { token, client: caller.server.client(), server: caller.server };
    assert_eq!(carl.refused(Method::PATCH, &path, Some(json!({ "description": "x" }))).await.0, 403);
    assert_eq!(carl.refused(Method::PATCH, &path, rule("user.mail -eq null")).await.0, 403);
    let ended = json!({ "groupTypes": [] });
    assert_eq!(carl.refused(Method::PATCH, &path, Some(ended)).await.0, 403);
}
