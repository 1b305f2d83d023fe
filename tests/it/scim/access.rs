//! Who may provision: every route, every kind of token.

use muster::clock::DAY;
use muster::domain::access::Scope;
use muster::domain::application::{Application, Grants};
use muster::http::scim::route::TABLE;
use muster::http::table::Entry as _;
use muster::ids::CredentialId;
use muster::service::application;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Provider, by, patch, refusal, register};
use crate::cli;
use crate::support::server::Server;

fn calls() -> Vec<(Method, String)> {
    let call = |route: &muster::http::scim::route::Route| {
        let path = route.pattern().replace("{id}", "01900000-0000-7000-8000-000000000000");
        (Method::from_bytes(route.verb().as_str().as_bytes()).unwrap(), format!("/{path}"))
    };
    TABLE.iter().map(call).collect()
}

#[actix_web::test]
async fn every_route_asks_for_the_permission_and_opens_to_it() {
    let mut idp = Provider::new().await;
    let good = idp.token.clone();
    for (method, path) in calls() {
        let status = idp.send(method.clone(), &path, None).await.status().as_u16();
        assert!(status != 401 && status != 403 && status < 500, "{method} {path}: {status}");
    }
    // The permission is taken away: the token is known and opens nothing.
    application::grant(&idp.server.app, &idp.application.id, Grants::default(), &by()).await.unwrap();
    for (method, path) in calls() {
        assert_eq!(idp.refused(method.clone(), &path, None).await, refusal(403, ""), "{method} {path}");
    }
    for token in ["", "x", "muster_scim_", &good[..good.len() - 1], &format!("{good}A")] {
        idp.token = token.to_owned();
        for (method, path) in calls() {
            assert_eq!(idp.refused(method.clone(), &path, None).await, refusal(401, ""), "{method} {path} {token}");
        }
    }
    let bare = idp.client.get(format!("{}/scim/v2/Users", idp.server.web)).send().await.unwrap();
    assert_eq!((bare.status().as_u16(), bare.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"scim\""));
    let basic = idp.client.get(format!("{}/scim/v2/Users", idp.server.web)).basic_auth("a", Some(&good)).send().await.unwrap();
    assert_eq!(basic.status(), 401);
}

#[actix_web::test]
async fn a_token_ends_with_its_time_its_application_and_when_it_is_taken_back() {
    let idp = Provider::new().await;
    let app = &idp.server.app;
    let status = async |token: &str| {
        idp.client.get(format!("{}/scim/v2/Users", idp.server.web)).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(&idp.token).await, 200);
    let second = application::add_scim_token(app, &idp.application.id, "second", 2 * DAY, &by()).await.unwrap();
    assert!(second.show().starts_with("muster_scim_") && second.show().len() > 50);
    application::remove_credential(app, &idp.application.id, &second.credential.id, &by()).await.unwrap();
    assert_eq!((status(second.show()).await, status(&idp.token).await), (401, 200));
    let disabled = async |enabled: bool| {
        let id = idp.application.id.clone();
        let now: Application = app.store.read(move |conn| muster::store::applications::load_application(conn, &id)).await.unwrap();
        application::update(app, Application { enabled, ..now }, &by()).await.unwrap();
    };
    disabled(false).await;
    assert_eq!(status(&idp.token).await, 401);
    disabled(true).await;
    assert_eq!(status(&idp.token).await, 200);
    idp.server.clock.advance(31 * DAY);
    assert_eq!(status(&idp.token).await, 401);
    // It opens nothing else, and is no secret for getting tokens.
    let third = application::add_scim_token(app, &idp.application.id, "third", 2 * DAY, &by()).await.unwrap();
    let graph = idp.client.get(format!("{}/v1.0/users", idp.server.web)).bearer_auth(third.show()).send().await.unwrap();
    assert_eq!(graph.status(), 401);
    let scope = format!("{}/.default", idp.server.web);
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", idp.application.client_id.as_str()),
        ("client_secret", third.show()),
        ("scope", &scope),
    ];
    let url = format!("{}/{}/oauth2/v2.0/token", idp.server.web, app.tenant);
    assert_eq!(idp.client.post(url).form(&fields).send().await.unwrap().status(), 401);
    application::delete(app, &idp.application.id, &by()).await.unwrap();
    assert_eq!(status(third.show()).await, 401);
}

#[actix_web::test]
async fn access_tokens_of_applications_open_it_and_those_of_people_do_not() {
    let server = Server::start().await;
    let application = register(&server, &[Scope::SynchronizationDataUserUpload]).await;
    let secret = application::add_secret(&server.app, &application.id, "s", 30 * DAY, &by()).await.unwrap();
    let token = crate::graph::token(&server, &application, secret.show()).await;
    let mut idp = Provider { client: server.client(), server, application, token };
    let ann = idp.user("ann@x.example").await;
    assert_eq!(idp.get("/Users").await["totalResults"], 1);
    crate::graph::access::give(&idp.server, "administrator", &muster::ids::UserId::parse(&ann).unwrap()).await;
    idp.token = crate::graph::access::delegated(&idp.server, "ann@x.example", Scope::ALL).await;
    for (method, path) in calls() {
        assert_eq!(idp.refused(method.clone(), &path, None).await, refusal(403, ""), "{method} {path}");
    }
}

#[actix_web::test]
async fn a_pasted_token_carries_nothing_but_provisioning() {
    let scopes = [Scope::SynchronizationDataUserUpload, Scope::RbacReadWriteAll];
    let mut idp = Provider::of(Server::start().await, &scopes).await;
    let ann = idp.user("ann@x.example").await;
    crate::graph::access::give(&idp.server, "administrator", &muster::ids::UserId::parse(&ann).unwrap()).await;
    let rename = || Some(patch(&json!([{ "op": "replace", "path": "userName", "value": "eve@x.example" }])));
    assert_eq!(idp.refused(Method::PATCH, &format!("/Users/{ann}"), rename()).await, refusal(403, "ACC0013"));
    // The same application may, with a token that it asked for.
    let secret = application::add_secret(&idp.server.app, &idp.application.id, "s", 30 * DAY, &by()).await.unwrap();
    idp.token = crate::graph::token(&idp.server, &idp.application, secret.show()).await;
    idp.told(Method::PATCH, &format!("/Users/{ann}"), rename(), 200).await;
}

#[actix_web::test]
async fn addresses_and_methods_that_there_are_not_are_told_in_the_form_of_scim() {
    let idp = Provider::new().await;
    for path in ["/Devices", "/Users/a/b", "/Bulk", "/Me", "/Schemas/x", "/ResourceTypes/x", "/a/b/c/d/e/f/g/h/i", "/%ff"] {
        assert_eq!(idp.refused(Method::GET, path, None).await, refusal(404, ""), "{path}");
    }
    for (method, path) in
        [(Method::PUT, "/Users"), (Method::POST, "/Schemas"), (Method::DELETE, "/ServiceProviderConfig"), (Method::GET, "/.search")]
    {
        let answer = idp.send(method.clone(), path, None).await;
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert!(answer.headers().contains_key("allow"));
    }
    let config = idp.get("/serviceproviderconfig").await;
    assert_eq!(
        (&config["patch"]["supported"], &config["bulk"]["supported"], &config["etag"]["supported"]),
        (&json!(true), &json!(false), &json!(true))
    );
    let ids =
        |list: Value| list["Resources"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(idp.get("/ResourceTypes").await), ["User", "Group"]);
    assert_eq!(ids(idp.get("/Schemas/").await), [super::USER, super::ENTERPRISE, super::GROUP]);
    assert_eq!(idp.get(&format!("/Schemas/{}", super::USER)).await["name"], "User");
    let root = idp.client.get(format!("{}/scim/v2", idp.server.web)).bearer_auth(&idp.token).send().await.unwrap();
    assert_eq!(root.status(), 200);
    assert_eq!(idp.refused(Method::PATCH, "/Users", Some(patch(&json!([])))).await.0, 405);
}

#[actix_web::test]
async fn a_provider_that_calls_too_often_waits_and_people_who_leave_do_not() {
    let server = Server::tweaked(|config| {
        config.limits.api_per_second = 1;
        config.limits.api_burst = 3;
    });
    let idp = Provider::of(server.await, &[Scope::SynchronizationDataUserUpload]).await;
    let ann = idp.user("ann@x.example").await;
    let mut waited = None;
    let title = patch(&json!([{ "op": "Add", "path": "title", "value": "Cook" }]));
    for _ in 0..20 {
        let answer = idp.send(Method::PATCH, &format!("/Users/{ann}"), Some(title.clone())).await;
        if answer.status() == 429 {
            waited = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
            break;
        }
    }
    assert!(waited.is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1)));
    let off = patch(&json!([{ "op": "Replace", "path": "active", "value": "False" }]));
    assert_eq!(idp.told(Method::PATCH, &format!("/Users/{ann}"), Some(off), 200).await["active"], json!(false));
}

#[test]
fn tokens_are_made_shown_and_taken_back_at_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    cli::json(path, &["init"]);
    cli::json(path, &["app", "create", "Other"]);
    assert!(cli::refused(path, &["app", "scim-token", "Other"]).contains("OAU0005"));
    cli::json(path, &["app", "create", "Okta", "--own", "SynchronizationData-User.Upload"]);
    assert!(cli::refused(path, &["app", "scim-token", "Okta", "--expires", "800"]).contains("OAU0003"));
    let made = cli::json(path, &["app", "scim-token", "Okta", "--expires", "90"]);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("muster_scim_") && made["tenant_url"].as_str().unwrap().ends_with("/scim/v2"));
    let shown = cli::json(path, &["app", "show", "Okta"]);
    assert_eq!(shown["credentials"][0]["kind"], "scim-token");
    assert!(!shown.to_string().contains(token), "shown once");
    assert!(CredentialId::parse(made["id"].as_str().unwrap()).is_some());
    cli::json(path, &["app", "remove-credential", "Okta", made["id"].as_str().unwrap()]);
    assert_eq!(cli::json(path, &["app", "show", "Okta"])["credentials"], json!([]));
}
