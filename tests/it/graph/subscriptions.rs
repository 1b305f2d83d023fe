//! Subscriptions to changes: a receiver that we watch is asked, told, and told of what it missed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::web::{Bytes, Data};
use actix_web::{App as Web, HttpRequest, HttpResponse, HttpServer, web};
use diesel::connection::{Connection as _, SimpleConnection as _};
use muster::clock::{DAY, HOUR, MINUTE};
use muster::domain::access::Scope;
use muster::domain::application::Grants;
use muster::domain::group::Member;
use muster::domain::user::User;
use muster::service::application;
use muster::service::directory::{self, deleted};
use muster::service::outbox::Worker;
use muster::service::subscription::tell;
use muster::store::{Location, Store, audit, grants, outbox};
use reqwest::Method;
use serde_json::{Value, json};

use super::access::{delegated, delegated_to, give_within};
use super::{Caller, by, register, token, user};
use crate::support::db;
use crate::support::server::{Options, Server};

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Well,
    Encoded,
    WrongType,
    Redirects,
    Fails,
    Padded,
}

#[derive(Debug)]
struct Heard {
    manner: Manner,
    told: Vec<Value>,
    asked: usize,
}

type Shared = Arc<Mutex<Heard>>;

async fn hook(request: HttpRequest, body: Bytes, shared: Data<Shared>) -> HttpResponse {
    let mut heard = shared.lock().unwrap();
    let query = request.query_string().to_owned();
    if let Some(token) = query.split('&').find_map(|pair| pair.strip_prefix("validationToken=")) {
        heard.asked += 1;
        let plain = percent_encoding::percent_decode_str(token).decode_utf8().unwrap().into_owned();
        assert!(query.starts_with("own=kept"), "the receiver's own query stays: {query}");
        return match heard.manner {
            Manner::Encoded => HttpResponse::Ok().content_type("text/plain").body(token.to_owned()),
            Manner::WrongType => HttpResponse::Ok().content_type("text/html").body(plain),
            Manner::Redirects => HttpResponse::MovedPermanently().insert_header(("Location", "/elsewhere")).finish(),
            Manner::Padded => HttpResponse::Ok().content_type("text/plain").body(format!("{plain}\n")),
            Manner::Well | Manner::Fails => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(plain),
        };
    }
    if heard.manner == Manner::Fails {
        return HttpResponse::ServiceUnavailable().finish();
    }
    let told: Value = serde_json::from_slice(&body).unwrap();
    heard.told.extend(told["value"].as_array().unwrap().iter().cloned());
    HttpResponse::Accepted().finish()
}

struct Receiver {
    url: String,
    shared: Shared,
}

impl Receiver {
    fn start() -> Self {
        let shared: Shared = Arc::new(Mutex::new(Heard { manner: Manner::Well, told: Vec::new(), asked: 0 }));
        let data = Data::new(Arc::clone(&shared));
        let server = HttpServer::new(move || Web::new().app_data(data.clone()).route("/{tail:.*}", web::post().to(hook)))
            .workers(1)
            .bind("127.0.0.1:0")
            .unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        actix_web::rt::spawn(server.run());
        Self { url, shared }
    }

    fn address(&self, path: &str) -> String {
        format!("{}/{path}?own=kept", self.url)
    }

    fn behave(&self, manner: Manner) {
        self.shared.lock().unwrap().manner = manner;
    }

    fn take(&self) -> Vec<Value> {
        std::mem::take(&mut self.shared.lock().unwrap().told)
    }
}

fn wanted(receiver: &Receiver, caller: &Caller, resource: &str, changes: &str) -> Value {
    let end = muster::wire::odata::edm::time(caller.server.app.now().plus(2 * DAY).0);
    json!({
        "changeType": changes,
        "notificationUrl": receiver.address("hook"),
        "lifecycleNotificationUrl": receiver.address("life"),
        "resource": resource,
        "expirationDateTime": end,
        "clientState": "for our eyes",
    })
}

/// Tells and delivers everything that is due.
async fn deliver(caller: &Caller) {
    tell::run(&caller.server.app).await.unwrap();
    Arc::new(Worker::new(Arc::clone(&caller.server.app)).unwrap()).drain().await.unwrap();
}

fn kinds(told: &[Value]) -> Vec<(&str, &str)> {
    told.iter().map(|one| (one["changeType"].as_str().unwrap_or_default(), one["resource"].as_str().unwrap_or_default())).collect()
}

#[actix_web::test]
async fn whoever_subscribes_is_told_of_what_happens_from_then_on() {
    let (caller, receiver) = (Caller::everything().await, Receiver::start());
    let app = &caller.server.app;
    let before = user(&caller.server, "before@example.org", "Before").await;
    let made = caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, "users", "created,updated,deleted")).await;
    assert_eq!(receiver.shared.lock().unwrap().asked, 2, "both addresses are asked");
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!((&made["clientState"], &made["resource"]), (&json!("for our eyes"), &json!("users")));
    deliver(&caller).await;
    assert_eq!(receiver.take(), Vec::<Value>::new(), "what was before is not told");

    let ann = user(&caller.server, "ann@example.org", "Ann").await;
    deliver(&caller).await;
    let told = receiver.take();
    assert_eq!(kinds(&told), [("created", format!("users/{}", ann.id).as_str())]);
    let note = &told[0];
    assert_eq!(
        (&note["subscriptionId"], &note["clientState"], &note["tenantId"]),
        (&json!(id), &json!("for our eyes"), &json!(app.tenant))
    );
    assert_eq!(
        note["resourceData"],
        json!({ "@odata.type": "#Microsoft.Graph.User", "@odata.id": format!("users/{}", ann.id), "id": ann.id })
    );
    assert_eq!(note["subscriptionExpirationDateTime"], made["expirationDateTime"]);

    crate::desired::write_user(app, User { display_name: "Later".into(), ..before.clone() }, &by()).await.unwrap();
    directory::delete_user(app, &ann.id, &by()).await.unwrap();
    deliver(&caller).await;
    let told = receiver.take();
    let (of_before, of_ann) = (format!("users/{}", before.id), format!("users/{}", ann.id));
    assert_eq!(
        kinds(&told),
        [("updated", of_before.as_str()), ("updated", of_ann.as_str())],
        "who can be restored is changed, as in Graph"
    );
    deleted::purge_user(app, &ann.id, &by()).await.unwrap();
    deliver(&caller).await;
    assert_eq!(kinds(&receiver.take()), [("deleted", of_ann.as_str())]);
    deliver(&caller).await;
    assert_eq!(receiver.take(), Vec::<Value>::new(), "nothing is told twice");

    // It is the caller's own: shown, renewed, ended.
    let path = format!("/v1.0/subscriptions/{id}");
    assert_eq!(caller.get("/v1.0/subscriptions").await["value"][0]["id"], id.as_str());
    let end = muster::wire::odata::edm::time(app.now().plus(3 * DAY).0);
    let renewed = caller.send(Method::PATCH, &path, Some(json!({ "expirationDateTime": end }))).await;
    assert_eq!(renewed.status().as_u16(), 200);
    assert_eq!(caller.get(&path).await["expirationDateTime"], end);
    let (other, secret) = register(&caller.server, &[Scope::UserReadAll]).await;
    let stranger = token(&caller.server, &other, &secret).await;
    let answer = caller.client.get(format!("{}{path}", caller.server.web)).bearer_auth(&stranger).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 404, "those of others are not there");
    assert_eq!(caller.send(Method::DELETE, &path, None).await.status().as_u16(), 204);
    user(&caller.server, "cid@example.org", "Cid").await;
    deliver(&caller).await;
    assert_eq!(receiver.take(), Vec::<Value>::new());
    let rows = app.store.read(|conn| audit::list(conn, 0, 1000)).await.unwrap();
    let actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).filter(|action| action.starts_with("subscription.")).collect();
    assert_eq!(actions, ["subscription.create", "subscription.update", "subscription.delete"]);
    assert!(rows.iter().all(|row| !row.after.clone().unwrap_or_default().contains("own=kept")), "queries may hold secrets");
}

#[actix_web::test]
async fn a_group_is_changed_by_who_comes_and_leaves() {
    let (caller, receiver) = (Caller::everything().await, Receiver::start());
    let app = &caller.server.app;
    let ann = user(&caller.server, "ann@example.org", "Ann").await;
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap();
    let other = directory::create_group(app, "Other", "", &by()).await.unwrap();
    caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, &format!("groups/{}", sales.id), "updated")).await;
    directory::add_members(app, &sales.id, vec![Member::User(ann.id.clone())], &by()).await.unwrap();
    directory::add_members(app, &other.id, vec![Member::User(ann.id.clone())], &by()).await.unwrap();
    deliver(&caller).await;
    let told = receiver.take();
    assert_eq!(kinds(&told), [("updated", format!("groups/{}", sales.id).as_str())], "only of the one group");
    assert_eq!(told[0]["resourceData"]["members@delta"], json!([{ "id": ann.id }]));
    directory::remove_members(app, &sales.id, vec![Member::User(ann.id.clone())], &by()).await.unwrap();
    deliver(&caller).await;
    assert_eq!(receiver.take()[0]["resourceData"]["members@delta"], json!([{ "id": ann.id, "@removed": "deleted" }]));
}

#[actix_web::test]
async fn an_address_that_does_not_answer_as_it_should_is_not_subscribed() {
    let (caller, receiver) = (Caller::everything().await, Receiver::start());
    for manner in [Manner::Encoded, Manner::WrongType, Manner::Redirects, Manner::Padded] {
        receiver.behave(manner);
        let refused = caller.send(Method::POST, "/v1.0/subscriptions", Some(wanted(&receiver, &caller, "users", "updated"))).await;
        assert_eq!(refused.status().as_u16(), 400, "{manner:?}");
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["error"]["code"], "ValidationError", "{manner:?}");
        assert!(body["error"]["message"].as_str().unwrap().contains("SIG0010"), "{body}");
    }
    receiver.behave(Manner::Well);
    let good = wanted(&receiver, &caller, "users", "updated");
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let at = |millis: i64| json!(muster::wire::odata::edm::time(caller.server.app.now().plus(millis).0));
    for (body, status, code) in [
        (with("resource", json!("me/messages")), 400, "SIG0007"),
        (with("changeType", json!("moved")), 400, "SIG0007"),
        (with("clientState", json!("x".repeat(129))), 400, "SIG0007"),
        (with("expirationDateTime", at(-MINUTE)), 400, "SIG0008"),
        (with("expirationDateTime", at(4 * DAY)), 400, "SIG0008"),
        (with("expirationDateTime", json!("tomorrow")), 400, "expirationDateTime"),
        (with("includeResourceData", json!(true)), 400, "includeResourceData"),
        (with("latestSupportedTlsVersion", json!("v1_0")), 400, "latestSupportedTlsVersion"),
        (with("notificationUrl", json!("ftp://example.org/")), 400, "SIG0003"),
        (with("notificationUrl", Value::Null), 400, "notificationUrl"),
        (with("colour", json!("red")), 400, "colour"),
    ] {
        let refused = caller.send(Method::POST, "/v1.0/subscriptions", Some(body)).await;
        let (was, text) = (refused.status().as_u16(), refused.text().await.unwrap());
        assert_eq!(was, status, "{text}");
        assert!(text.contains(code), "{code}: {text}");
    }
    assert_eq!(caller.get("/v1.0/subscriptions").await["value"], json!([]), "nothing was stored");
    for _ in 0..100 {
        caller.post("/v1.0/subscriptions", with("lifecycleNotificationUrl", Value::Null)).await;
    }
    let refused = caller.send(Method::POST, "/v1.0/subscriptions", Some(good)).await;
    assert_eq!(refused.status().as_u16(), 403);
    assert!(refused.text().await.unwrap().contains("SIG0009"));
}

#[actix_web::test]
async fn who_may_not_read_everything_is_told_nothing() {
    let (caller, receiver) = (Caller::with(&[Scope::UserReadAll]).await, Receiver::start());
    let refused = caller.send(Method::POST, "/v1.0/subscriptions", Some(wanted(&receiver, &caller, "groups", "updated"))).await;
    assert_eq!(refused.status().as_u16(), 403);
    assert!(refused.text().await.unwrap().contains("SIG0011"));

    // A person who is bound to a group, and one who loses the role.
    let server = &caller.server;
    let app = &server.app;
    let (bound, free) = (user(server, "bound@example.org", "Bound").await, user(server, "free@example.org", "Free").await);
    let sales = directory::create_group(app, "Sales", "", &by()).await.unwrap();
    give_within(server, "helpdesk", &bound.id, muster::domain::access::Reach::Groups([sales.id.clone()].into())).await;
    give_within(server, "helpdesk", &free.id, muster::domain::access::Reach::All).await;
    let create = async |token: &str| {
        let url = format!("{}/v1.0/subscriptions", server.web);
        caller.client.post(url).bearer_auth(token).json(&wanted(&receiver, &caller, "users", "updated")).send().await.unwrap()
    };
    let refused = create(&delegated(server, "bound@example.org", &[Scope::UserReadAll]).await).await;
    assert_eq!(refused.status().as_u16(), 403);
    assert!(refused.text().await.unwrap().contains("SIG0011"));
    let made = create(&delegated(server, "free@example.org", &[Scope::UserReadAll]).await).await;
    assert_eq!(made.status().as_u16(), 201);
    let made: Value = made.json().await.unwrap();
    user(server, "one@example.org", "One").await;
    deliver(&caller).await;
    assert_eq!(receiver.take().len(), 1, "asked for changes, told of new people, too, as Graph does");
    // Whoever signs out everywhere takes back what was given to the program.
    muster::service::identity::session::end_all(app, &free.id, &by()).await.unwrap();
    user(server, "two@example.org", "Two").await;
    deliver(&caller).await;
    let told = receiver.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["lifecycleEvent"], &told[0]["subscriptionId"]), (&json!("subscriptionRemoved"), &made["id"]));
}

#[actix_web::test]
async fn a_subscription_lives_by_the_sign_in_that_made_or_renewed_it() {
    let (server, receiver) = (Server::start().await, Receiver::start());
    let free = user(&server, "free@example.org", "Free").await;
    give_within(&server, "helpdesk", &free.id, muster::domain::access::Reach::All).await;
    let (program, _) = register(&server, &[]).await;
    let delegated = Grants { delegated: [Scope::UserReadAll].into(), ..Grants::default() };
    application::grant(&server.app, &program.id, delegated, &by()).await.unwrap();
    let (first, token) = delegated_to(&server, &program, "free@example.org", &[Scope::UserReadAll]).await;
    let (_, second) = delegated_to(&server, &program, "free@example.org", &[Scope::UserReadAll]).await;
    let mut caller = Caller::of(server, token);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let made = caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, "users", "created")).await;
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    caller.token = second;
    let end = muster::wire::odata::edm::time(caller.server.app.now().plus(3 * DAY).0);
    let renewal = Some(json!({ "expirationDateTime": end }));
    assert_eq!(caller.send(Method::PATCH, &format!("/v1.0/subscriptions/{}", ids[1]), renewal).await.status(), 200);
    assert_eq!(caller.send(Method::POST, &format!("/v1.0/subscriptions/{}/reauthorize", ids[2]), None).await.status(), 204);
    caller.server.app.store.write(move |tx| grants::delete_grant(tx, &first)).await.unwrap();
    user(&caller.server, "one@example.org", "One").await;
    deliver(&caller).await;
    let told = receiver.take();
    let of = |event: Option<&str>| {
        let own = told.iter().filter(|one| one["lifecycleEvent"].as_str() == event);
        own.map(|one| one["subscriptionId"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(of(Some("subscriptionRemoved")), [ids[0].clone()].into());
    assert_eq!(of(None), [ids[1].clone(), ids[2].clone()].into());
}

#[actix_web::test]
async fn a_program_whose_permission_is_taken_away_hears_nothing_more() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let bearer = token(&server, &application, &secret).await;
    let (caller, receiver) = (Caller::of(server, bearer), Receiver::start());
    caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, "users", "created")).await;
    application::grant(&caller.server.app, &application.id, Grants::default(), &by()).await.unwrap();
    user(&caller.server, "one@example.org", "One").await;
    deliver(&caller).await;
    let told = receiver.take();
    assert_eq!(told.iter().map(|one| one["lifecycleEvent"].as_str().unwrap_or("change")).collect::<Vec<_>>(), ["subscriptionRemoved"]);
}

#[actix_web::test]
async fn what_a_receiver_does_not_take_in_four_hours_is_said_to_be_missed() {
    let (caller, receiver) = (Caller::everything().await, Receiver::start());
    let made = caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, "users", "created")).await;
    receiver.behave(Manner::Fails);
    let ann = user(&caller.server, "ann@example.org", "Ann").await;
    tell::run(&caller.server.app).await.unwrap();
    let worker = Arc::new(Worker::new(Arc::clone(&caller.server.app)).unwrap());
    let waits = async || caller.server.app.store.read(|conn| outbox::list_rows(conn, "queued", 0, 10)).await.unwrap().len();
    worker.drain().await.unwrap();
    assert_eq!(waits().await, 1);
    caller.server.clock.advance(HOUR);
    receiver.behave(Manner::Well);
    worker.drain().await.unwrap();
    assert_eq!(kinds(&receiver.take()), [("created", format!("users/{}", ann.id).as_str())], "it comes late");

    receiver.behave(Manner::Fails);
    user(&caller.server, "ben@example.org", "Ben").await;
    tell::run(&caller.server.app).await.unwrap();
    for _ in 0..30 {
        worker.drain().await.unwrap();
        caller.server.clock.advance(10 * MINUTE);
    }
    receiver.behave(Manner::Well);
    for _ in 0..4 {
        caller.server.clock.advance(HOUR);
        worker.drain().await.unwrap();
    }
    let told = receiver.take();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["lifecycleEvent"], &told[0]["subscriptionId"], &told[0]["clientState"]),
        (&json!("missed"), &made["id"], &json!("for our eyes"))
    );
}

#[actix_web::test]
async fn its_owner_is_told_before_a_subscription_ends() {
    let server = Server::start().await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let bearer = token(&server, &application, &secret).await;
    let (caller, receiver) = (Caller::of(server, bearer), Receiver::start());
    let made = caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, "users", "created")).await;
    let path = format!("/v1.0/subscriptions/{}", made["id"].as_str().unwrap());
    caller.server.clock.advance(37 * HOUR);
    for _ in 0..2 {
        deliver(&caller).await;
    }
    let told = receiver.take();
    assert_eq!(told.iter().map(|one| one["lifecycleEvent"].as_str().unwrap()).collect::<Vec<_>>(), ["reauthorizationRequired"], "once");
    let bearer = token(&caller.server, &application, &secret).await;
    let caller = Caller::of(caller.server, bearer);
    assert_eq!(caller.send(Method::POST, &format!("{path}/reauthorize"), None).await.status().as_u16(), 204);
    let end = muster::wire::odata::edm::time(caller.server.app.now().plus(2 * DAY).0);
    assert_eq!(caller.send(Method::PATCH, &path, Some(json!({ "expirationDateTime": end }))).await.status().as_u16(), 200);
    assert_eq!(caller.send(Method::PATCH, &path, Some(json!({ "resource": "groups" }))).await.status().as_u16(), 400);
    deliver(&caller).await;
    assert_eq!(receiver.take(), Vec::<Value>::new());
    // What is over is gone.
    caller.server.clock.advance(3 * DAY);
    user(&caller.server, "late@example.org", "Late").await;
    deliver(&caller).await;
    assert_eq!(receiver.take(), Vec::<Value>::new());
    let bearer = token(&caller.server, &application, &secret).await;
    let caller = Caller::of(caller.server, bearer);
    assert_eq!(caller.get("/v1.0/subscriptions").await["value"], json!([]));
}

/// On PostgreSQL what is told goes as far as the oldest open transaction: what was made before it and changed after it is new all the same.
#[actix_web::test]
async fn what_is_changed_again_before_it_was_told_is_new_all_the_same() {
    let Some(url) = db::postgres_url() else { return };
    let store = Store::open(&Location::Postgres(url.clone()), 4).unwrap();
    let server = Server::with(Options { store: Some(store), ..Options::default() }).await;
    let (application, secret) = register(&server, &[Scope::UserReadAll]).await;
    let bearer = token(&server, &application, &secret).await;
    let (caller, receiver) = (Caller::of(server, bearer), Receiver::start());
    caller.post("/v1.0/subscriptions", wanted(&receiver, &caller, "users", "created")).await;
    let ann = user(&caller.server, "ann@example.org", "Ann").await;
    let mut other = diesel::PgConnection::establish(&url).unwrap();
    other.batch_execute("BEGIN; SELECT pg_current_xact_id();").unwrap();
    crate::desired::write_user(&caller.server.app, User { display_name: "Anne".into(), ..ann.clone() }, &by()).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3000 {
        deliver(&caller).await;
        told.extend(receiver.take());
        if !told.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(kinds(&told), [("created", format!("users/{}", ann.id).as_str())]);
    other.batch_execute("COMMIT").unwrap();
}
