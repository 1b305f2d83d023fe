//! Who may call what.

use std::collections::BTreeSet;

use muster::domain::access::{Caller as Access, Identity, Reach, Role, Scope};
use muster::domain::application::Grants;
use muster::http::api::resource::TABLE;
use muster::http::api::route::Route;
use muster::ids::{ApplicationId, UserId};
use muster::service::application;

use super::problem;
use crate::graph::access::{delegated, give_within, method};
use crate::graph::{Caller, by, register, token, user};
use crate::support::server::Server;

const FORBIDDEN: (u16, &str) = (403, "forbidden");

fn all() -> impl Iterator<Item = &'static Route> {
    TABLE.iter().flat_map(|resource| resource.iter())
}

fn address(route: &Route) -> String {
    let id = "01900000-0000-7000-8000-000000000000";
    let path: Vec<&str> = route.pattern.split('/').map(|part| if part.starts_with('{') { id } else { part }).collect();
    format!("/api/{}", path.join("/"))
}

/// Every route, once without any permission, once with each permission that there is, and once without a token.
#[actix_web::test]
async fn a_route_opens_to_its_permissions_and_to_nothing_else() {
    let server = Server::start().await;
    let client = server.client();
    let (application, secret) = register(&server, &[]).await;
    let mut grants: Vec<Option<Scope>> = vec![None];
    grants.extend(Scope::ALL.iter().copied().filter(|scope| !scope.is_of_a_person()).map(Some));
    for scope in grants {
        let own = Grants { own: scope.into_iter().collect(), ..Grants::default() };
        application::grant(&server.app, &application.id, own, &by()).await.unwrap();
        let mut shown = token(&server, &application, &secret).await;
        for route in all() {
            let path = address(route);
            let request = client.request(method(route.verb), format!("{}{path}", server.web)).bearer_auth(&shown);
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            assert!(status < 500, "{} {path}", route.verb.as_str());
            if route.pattern == "signals/keys/replace" && status == 200 {
                // No token is good any more that was signed before.
                shown = token(&server, &application, &secret).await;
            }
            if scope.is_some_and(|scope| route.need.scopes.contains(&scope)) {
                assert_ne!(status, 403, "{} {path} with {scope:?}", route.verb.as_str());
            } else {
                let told = problem(&path, answer).await;
                assert_eq!((told.0, told.1.as_str()), FORBIDDEN, "{} {path} with {scope:?}", route.verb.as_str());
            }
        }
    }
    for route in all() {
        let path = address(route);
        let answer = client.request(method(route.verb), format!("{}{path}", server.web)).send().await.unwrap();
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer "), "{path}");
        assert_eq!(problem(&path, answer).await, (401, "unauthenticated".to_owned()), "{path}");
    }
}

/// Every route and every built-in role: what a role lacks is refused, however many permissions the application has.
#[test]
fn a_route_opens_to_the_roles_that_allow_its_action() {
    let mut opened = BTreeSet::new();
    for word in ["read-only", "helpdesk", "policy-manager", "certificate-manager", "administrator"] {
        let role = Role::built_in(word).unwrap();
        let caller = Access {
            application: ApplicationId::new(),
            client_id: "c".into(),
            identity: Identity::Person(UserId::new()),
            scopes: Scope::ALL.iter().copied().collect(),
            roles: vec![(role.clone(), Reach::All)],
            signed_in_at: None,
            grant: None,
        };
        for route in all() {
            let action = route.need.action.unwrap_or_else(|| panic!("{} asks for no action", route.pattern));
            let opens = caller.reach(route.need).is_some();
            assert_eq!(opens, role.allows(action), "{word}: {}", route.pattern);
            if opens {
                opened.insert((word, route.verb.as_str(), route.pattern));
            }
        }
    }
    for route in all() {
        let read = route.verb.as_str() == "GET";
        assert_eq!(opened.contains(&("read-only", route.verb.as_str(), route.pattern)), read, "{}", route.pattern);
        assert!(opened.contains(&("administrator", route.verb.as_str(), route.pattern)), "{}", route.pattern);
    }
}

/// Whoever is bound to groups learns nothing of the whole organisation.
#[actix_web::test]
async fn whoever_is_bound_to_groups_sees_nothing_of_the_whole() {
    let server = Server::start().await;
    let carl = user(&server, "carl@x.example", "Carl").await;
    give_within(&server, "administrator", &carl.id, Reach::Groups(BTreeSet::new())).await;
    let token = delegated(&server, "carl@x.example", Scope::ALL).await;
    let carl = Caller::of(server, token);
    let of_device = |route: &Route| route.pattern.starts_with("devices/") || route.pattern.starts_with("signals/subjects/");
    for route in all() {
        let path = address(route);
        let answer = carl.send(method(route.verb), &path, None).await;
        let told = problem(&path, answer).await;
        let told = (told.0, told.1.as_str());
        // What needs a body says so first.
        let expected = if of_device(route) { told == (404, "not-found") } else { told == FORBIDDEN || told.0 == 415 };
        assert!(expected, "{} {path}: {told:?}", route.verb.as_str());
    }
}
