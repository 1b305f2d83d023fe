//! Roles: who may give what to whom, and that somebody who may do everything always stays.

use std::collections::BTreeSet;

use muster::app::App;
use muster::domain::access::{Action, Assignment, Caller, Identity, Principal, Reach, Role};
use muster::domain::group::Member;
use muster::domain::tap::Policy;
use muster::ids::{ApplicationId, GroupId, RoleAssignmentId, RoleId, UserId};
use muster::service::directory::{self, By};
use muster::service::identity::sign_in::{self, Visit};
use muster::service::identity::{session, tap};
use muster::service::{self, role};
use muster::store::{audit, roles};

use crate::cli::{json, refused};
use crate::cli_orders::{column, made};
use crate::desired::user;
use crate::support::server::Server;

fn by() -> By {
    By::local("cli:test")
}

fn code<T: std::fmt::Debug>(outcome: service::Result<T>) -> String {
    outcome.unwrap_err().to_string().split([':', ' ']).next().unwrap().to_owned()
}

async fn person(app: &App, name: &str) -> UserId {
    directory::create_user(app, user(&format!("{name}@example.org")), &by()).await.unwrap().id
}

fn assignment(word: &str, member: Principal, reach: Reach) -> Assignment {
    Assignment {
        id: RoleAssignmentId::new(),
        role: Role::built_in(word).unwrap().id,
        display_name: word.into(),
        description: String::new(),
        members: [member].into(),
        reach,
    }
}

/// Who calls in the name of that person.
async fn caller(app: &App, user: &UserId) -> Caller {
    let id = user.clone();
    let held = app.store.read(move |conn| roles::list_roles_of_user(conn, &id)).await.unwrap();
    Caller {
        application: ApplicationId::new(),
        client_id: "c".into(),
        identity: Identity::Person(user.clone()),
        scopes: BTreeSet::new(),
        roles: held,
        signed_in_at: None,
        grant: None,
    }
}

#[actix_web::test]
async fn rights_come_by_person_and_by_group_and_reach_where_they_are_given() {
    let server = Server::start().await;
    let app = &server.app;
    let (ana, bob) = (person(app, "ana").await, person(app, "bob").await);
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    let helpers = directory::create_group(app, "Helpers", "", &by()).await.unwrap().id;
    role::set_administrator(app, &ana, true, &by()).await.unwrap();
    assert_eq!(caller(app, &ana).await.allows(Action::RemoteWipe), Some(Reach::All));
    assert_eq!(caller(app, &bob).await.allows(Action::ManagedDevicesRead), None);
    let given = assignment("helpdesk", Principal::Group(helpers.clone()), Reach::Groups([sales.clone()].into()));
    role::assign(app, given, None, &by()).await.unwrap();
    directory::add_members(app, &helpers, vec![Member::User(bob.clone())], &by()).await.unwrap();
    let bobs = caller(app, &bob).await;
    assert_eq!(bobs.allows(Action::ManagedDevicesRead), Some(Reach::Groups([sales.clone()].into())));
    assert_eq!(bobs.allows(Action::RemoteWipe), None);
    directory::delete_group(app, &sales, &by()).await.unwrap();
    directory::deleted::purge_group(app, &sales, &by()).await.unwrap();
    assert_eq!(caller(app, &bob).await.allows(Action::ManagedDevicesRead), Some(Reach::Groups(BTreeSet::new())), "nothing, not everything");
    directory::remove_members(app, &helpers, vec![Member::User(bob.clone())], &by()).await.unwrap();
    assert_eq!(caller(app, &bob).await.allows(Action::ManagedDevicesRead), None);
}

#[actix_web::test]
async fn nobody_gives_away_what_they_have_not() {
    let server = Server::start().await;
    let app = &server.app;
    let (ana, bob) = (person(app, "ana").await, person(app, "bob").await);
    role::set_administrator(app, &ana, true, &by()).await.unwrap();
    role::assign(app, assignment("read-only", Principal::User(bob.clone()), Reach::All), None, &by()).await.unwrap();
    let (anas, bobs) = (caller(app, &ana).await, caller(app, &bob).await);
    let to_bob = || assignment("administrator", Principal::User(bob.clone()), Reach::All);
    assert_eq!(code(role::assign(app, to_bob(), Some(&bobs), &by()).await), "ACC0008");
    let all: BTreeSet<Action> = Action::ALL.iter().copied().collect();
    assert_eq!(code(role::create(app, "Mine", "", all, Some(&bobs), &by()).await), "ACC0008");
    let own = role::create(app, "Reader of devices", "", [Action::ManagedDevicesRead].into(), Some(&bobs), &by()).await.unwrap();
    let grown = Role::custom(own.id.clone(), own.display_name.clone(), String::new(), [Action::SecretsRead].into()).unwrap();
    assert_eq!(code(role::update(app, grown.clone(), Some(&bobs), &by()).await), "ACC0008");
    role::update(app, grown, Some(&anas), &by()).await.unwrap();
    // What others have is not theirs to take, either.
    let stripped = Role::custom(own.id.clone(), own.display_name.clone(), String::new(), [Action::ManagedDevicesRead].into()).unwrap();
    assert_eq!(code(role::update(app, stripped, Some(&bobs), &by()).await), "ACC0008");
    assert_eq!(code(role::delete(app, &own.id, Some(&bobs), &by()).await), "ACC0008");
    role::delete(app, &own.id, Some(&anas), &by()).await.unwrap();
    let given = role::assign(app, to_bob(), Some(&anas), &by()).await.unwrap();
    let weaker = Assignment { role: Role::built_in("read-only").unwrap().id, ..given.clone() };
    assert_eq!(code(role::assign(app, weaker, Some(&bobs), &by()).await), "ACC0008");
    let ends = role::unassign(app, &given.id, Some(&bobs), &by()).await;
    assert_eq!(code(ends), "ACC0008", "who had not the right before has it not by an old token");
}

#[actix_web::test]
async fn whoever_gets_a_role_gets_in_by_no_pass_of_before() {
    let server = Server::start().await;
    let app = &server.app;
    let (ana, boss) = (person(app, "ana").await, person(app, "boss").await);
    role::set_administrator(app, &boss, true, &by()).await.unwrap();
    let (plain, chiefs) = (
        directory::create_group(app, "Plain", "", &by()).await.unwrap().id,
        directory::create_group(app, "Chiefs", "", &by()).await.unwrap().id,
    );
    role::assign(app, assignment("administrator", Principal::Group(chiefs.clone()), Reach::All), None, &by()).await.unwrap();
    let own = role::create(app, "Own", "", [Action::DirectoryRead].into(), None, &by()).await.unwrap();
    let enter = async |pass: &str| {
        let signed_in = sign_in::with_tap(app, "ana@example.org", pass, &Visit::new([192, 0, 2, 1].into(), "Test"), None).await;
        signed_in.map(|signed_in| signed_in.token().to_owned())
    };
    // A pass of a helper, who keeps it, and a session that began with it.
    let begun = async || {
        let policy = Policy { one_time: false, ..Policy::default() };
        let pass = tap::create(app, &ana, policy, None, "user:helper", "192.0.2.1").await.unwrap().show().to_owned();
        let token = enter(&pass).await.unwrap();
        (pass, token)
    };
    let holds = async |(pass, token): &(String, String)| {
        let (enters, signed) = (enter(pass).await.is_ok(), session::find(app, token).await.unwrap().is_some());
        assert_eq!(enters, signed);
        signed
    };
    let add = async |group: &GroupId| directory::add_members(app, group, vec![Member::User(ana.clone())], &by()).await.unwrap();
    let made = begun().await;
    add(&plain).await;
    assert!(holds(&made).await, "a group without a role");
    let given =
        Assignment { role: own.id.clone(), ..assignment("helpdesk", Principal::User(ana.clone()), Reach::Groups([plain.clone()].into())) };
    role::assign(app, given.clone(), None, &by()).await.unwrap();
    assert!(!holds(&made).await, "the role itself");
    let made = begun().await;
    role::assign(app, given.clone(), None, &by()).await.unwrap();
    assert!(holds(&made).await, "the same once more");
    role::assign(app, Assignment { reach: Reach::All, ..given }, None, &by()).await.unwrap();
    assert!(!holds(&made).await, "further away");
    let made = begun().await;
    let actions = [Action::DirectoryRead, Action::SecretsRead].into();
    let grown = Role::custom(own.id.clone(), own.display_name.clone(), String::new(), actions).unwrap();
    role::update(app, grown, None, &by()).await.unwrap();
    assert!(!holds(&made).await, "the role allows more");
    let made = begun().await;
    let shrunk = Role::custom(own.id.clone(), own.display_name.clone(), String::new(), [Action::DirectoryRead].into()).unwrap();
    role::update(app, shrunk, None, &by()).await.unwrap();
    assert!(holds(&made).await, "the role allows less");
    add(&chiefs).await;
    assert!(!holds(&made).await, "by a group");
    let made = begun().await;
    role::assign(app, assignment("helpdesk", Principal::User(ana.clone()), Reach::All), None, &by()).await.unwrap();
    assert!(holds(&made).await, "nothing that an administrator had not");
    let rows = app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let ended = rows.iter().filter(|row| row.action == "tap.delete" && row.actor == "cli:test" && row.target == format!("user:{ana}"));
    assert_eq!(ended.count(), 4);
}

#[actix_web::test]
async fn who_is_in_reach_is_said_by_those_who_may_give_the_role() {
    let server = Server::start().await;
    let app = &server.app;
    let (ana, boss) = (person(app, "ana").await, person(app, "boss").await);
    role::set_administrator(app, &boss, true, &by()).await.unwrap();
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap().id;
    let keeper = role::create(app, "Keeper of groups", "", [Action::GroupsUpdate].into(), None, &by()).await.unwrap();
    let reader = role::create(app, "Reader of secrets", "", [Action::SecretsRead].into(), None, &by()).await.unwrap();
    let to_ana = |role: &Role, reach| Assignment { role: role.id.clone(), ..assignment("helpdesk", Principal::User(ana.clone()), reach) };
    role::assign(app, to_ana(&keeper, Reach::All), None, &by()).await.unwrap();
    role::check_group(app, &caller(app, &ana).await, &sales).await.unwrap();
    role::assign(app, to_ana(&reader, Reach::Groups([sales.clone()].into())), None, &by()).await.unwrap();
    assert_eq!(code(role::check_group(app, &caller(app, &ana).await, &sales).await), "ACC0008");
    role::check_group(app, &caller(app, &boss).await, &sales).await.unwrap();
    role::assign(app, to_ana(&reader, Reach::All), None, &by()).await.unwrap();
    role::check_group(app, &caller(app, &ana).await, &sales).await.unwrap();
}

#[actix_web::test]
async fn somebody_who_may_do_everything_stays() {
    let server = Server::start().await;
    let app = &server.app;
    let (ana, bob) = (person(app, "ana").await, person(app, "bob").await);
    role::set_administrator(app, &ana, true, &by()).await.unwrap();
    assert_eq!(code(role::set_administrator(app, &ana, false, &by()).await), "ACC0009");
    let group = directory::create_group(app, "Administrators", "", &by()).await.unwrap().id;
    let by_group = role::assign(app, assignment("administrator", Principal::Group(group.clone()), Reach::All), None, &by()).await.unwrap();
    assert_eq!(code(role::set_administrator(app, &ana, false, &by()).await), "ACC0009", "a group of nobody");
    directory::add_members(app, &group, vec![Member::User(bob.clone())], &by()).await.unwrap();
    role::set_administrator(app, &ana, false, &by()).await.unwrap();
    assert_eq!(code(role::unassign(app, &by_group.id, None, &by()).await), "ACC0009");
    let narrowed = Assignment { reach: Reach::Groups([group].into()), ..by_group };
    assert_eq!(code(role::assign(app, narrowed, None, &by()).await), "ACC0009");
}

#[actix_web::test]
async fn what_is_wrong_with_a_role_is_said() {
    let server = Server::start().await;
    let app = &server.app;
    let ana = person(app, "ana").await;
    assert_eq!(code(role::read_actions(["Microsoft.Intune_Nothing_Read"])), "ACC0004");
    let read: BTreeSet<Action> = role::read_actions(["Microsoft.Intune_ManagedDevices_Read"]).unwrap();
    let made = role::create(app, "Readers", "", read.clone(), None, &by()).await.unwrap();
    assert_eq!(code(role::create(app, "Readers", "", read.clone(), None, &by()).await), "ACC0003");
    let built_in = Role::built_in("read-only").unwrap();
    assert_eq!(code(role::update(app, built_in.clone(), None, &by()).await), "ACC0002");
    assert_eq!(code(role::delete(app, &built_in.id, None, &by()).await), "ACC0002");
    let unknown = assignment("read-only", Principal::User(UserId::new()), Reach::All);
    assert_eq!(code(role::assign(app, unknown, None, &by()).await), "ACC0006");
    let nowhere = assignment("read-only", Principal::User(ana.clone()), Reach::Groups([GroupId::new()].into()));
    assert_eq!(code(role::assign(app, nowhere, None, &by()).await), "ACC0007");
    let no_role = Assignment { role: RoleId::new(), ..assignment("read-only", Principal::User(ana.clone()), Reach::All) };
    assert!(matches!(role::assign(app, no_role, None, &by()).await, Err(service::Error::NotFound(_))));
    let given = Assignment { role: made.id.clone(), ..assignment("read-only", Principal::User(ana), Reach::All) };
    let given = role::assign(app, given, None, &by()).await.unwrap();
    assert_eq!(code(role::delete(app, &made.id, None, &by()).await), "ACC0005");
    role::unassign(app, &given.id, None, &by()).await.unwrap();
    role::delete(app, &made.id, None, &by()).await.unwrap();
    for number in 0..200 {
        role::create(app, &format!("Role {number}"), "", read.clone(), None, &by()).await.unwrap();
    }
    assert_eq!(code(role::create(app, "One more", "", read, None, &by()).await), "ACC0010");
}

#[test]
fn applications_and_roles_are_kept_at_the_command_line() {
    let folder = made();
    let path = folder.path();
    let app = json(path, &["app", "create", "Job", "--own", "User.Read.All", "--web", "https://job.example/cb", "--secret"]);
    assert_eq!((&app["own"], app["secret"].as_str().map(str::len)), (&serde_json::json!(["User.Read.All"]), Some(43)));
    let id = app["client_id"].as_str().unwrap();
    assert!(refused(path, &["app", "create", "X", "--own", "Nothing.Read.All"]).contains("ACC0011"));
    assert!(refused(path, &["app", "create", "X", "--own", "User.Read"]).contains("ACC0012"));
    assert!(refused(path, &["app", "create", "X", "--web", "http://job.example/cb"]).contains("OAU0001"));
    let shown = json(path, &["app", "show", "Job"]);
    assert_eq!(shown["client_id"].as_str(), Some(id));
    assert!(!shown.to_string().contains(app["secret"].as_str().unwrap()), "a secret is shown once");
    json(path, &["app", "grant", id, "--own", "Group.Read.All", "--delegated", "User.Read"]);
    json(path, &["app", "disable", id]);
    assert_eq!(json(path, &["app", "list"])[0]["enabled"], false);
    let credential = shown["credentials"][0]["id"].as_str().unwrap();
    json(path, &["app", "remove-credential", id, credential]);
    json(path, &["app", "delete", id]);
    assert_eq!(json(path, &["app", "list"]).as_array().unwrap().len(), 1, "the one that comes with the product");

    let roles = json(path, &["role", "list"]);
    assert_eq!(column(&roles, "role"), ["read-only", "helpdesk", "policy-manager", "certificate-manager", "administrator"]);
    json(path, &["user", "create", "ben@example.org"]);
    json(path, &["group", "create", "Sales"]);
    let given = json(path, &["role", "assign", "helpdesk", "--user", "ben@example.org", "--reach", "Sales"]);
    assert_eq!(given["name"], "Help Desk Operator");
    let id = given["id"].as_str().unwrap();
    assert_eq!(json(path, &["role", "show", "helpdesk"])["assignments"][0]["id"].as_str(), Some(id));
    json(path, &["role", "unassign", id]);
    json(path, &["role", "create", "Readers", "--allow", "Microsoft.Intune_ManagedDevices_Read"]);
    json(path, &["role", "delete", "Readers"]);
    let administrators = json(path, &["role", "show", "administrator"]);
    assert_eq!(administrators["assignments"].as_array().unwrap().len(), 1, "the first administrator has the role");
    let id = administrators["assignments"][0]["id"].as_str().unwrap();
    assert!(refused(path, &["role", "unassign", id]).contains("ACC0009"));
}
